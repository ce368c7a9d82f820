// Every Quantizer that the tests hold against the definition. A new one is added here and nowhere else.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "worker/engine/quantize/reference.h"

namespace slipway::test {

struct Implementation {
  std::string name;  // letters and digits
  std::unique_ptr<engine::Quantizer> (*make)();
};

// Those that this machine has.
inline std::vector<Implementation> Implementations() { return {{"Reference", engine::MakeReferenceQuantizer}}; }

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
