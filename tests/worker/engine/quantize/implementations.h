// Every Quantizer that the tests hold against the definition. A new one is added here and nowhere else.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/engine/device/cuda_devices.h"
#include "worker/engine/quantize/cuda/cuda_quantizer.h"
#include "worker/engine/quantize/reference.h"
#include "worker/engine/quantize/simd.h"

namespace slipway::test {

struct Implementation {
  std::string name;  // letters and digits
  std::unique_ptr<engine::Quantizer> (*make)();
};

inline std::unique_ptr<engine::Quantizer> MakeCuda() { return *engine::MakeCudaQuantizer(0, std::int64_t{32} << 20); }

// Those that this machine has.
inline std::vector<Implementation> Implementations() {
  std::vector<Implementation> implementations = {{"Reference", engine::MakeReferenceQuantizer},
                                                 {"Simd", engine::MakeSimdQuantizer}};
  if (!engine::CudaDevices().empty()) {
    implementations.push_back({"Cuda", MakeCuda});
  }
  return implementations;
}

// The parameter of tests that all implementations pass.
class QuantizerTest : public testing::TestWithParam<Implementation> {
 protected:
  engine::Quantizer& quantizer() { return *quantizer_; }

 private:
  std::unique_ptr<engine::Quantizer> quantizer_ = GetParam().make();
};

inline std::string NameOf(const testing::TestParamInfo<Implementation>& implementation) {
  return implementation.param.name;
}

}  // namespace slipway::test
