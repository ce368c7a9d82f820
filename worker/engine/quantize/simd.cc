#include "worker/engine/quantize/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "worker/engine/quantize/simd.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace slipway::engine::HWY_NAMESPACE {

const char* InstructionSet() { return hwy::TargetName(HWY_TARGET); }

}  // namespace slipway::engine::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "worker/engine/quantize/reference.h"
#include "worker/engine/quantize/simd_band.h"
#include "worker/engine/quantize/simd_measure.h"

namespace slipway::engine {

HWY_EXPORT(InstructionSet);

namespace {

class SimdQuantizer final : public Quantizer {
 public:
  [[nodiscard]] std::string_view name() const override { return HWY_DYNAMIC_DISPATCH(InstructionSet)(); }

  absl::StatusOr<Measured> Measure(const Values& values) override { return MeasureSimd(values); }

  absl::Status Quantize(const QuantizeJob& job) override {
    return QuantizeSimd(job) ? absl::OkStatus() : reference_->Quantize(job);
  }

  absl::Status SquaredErrors(const Coding& coding, const Values& values, std::span<const float> scales,
                             std::span<double> errors) override {
    return SquaredErrorsSimd(coding, values, scales, errors)
               ? absl::OkStatus()
               : reference_->SquaredErrors(coding, values, scales, errors);
  }

 private:
  const std::unique_ptr<Quantizer> reference_ = MakeReferenceQuantizer();
};

}  // namespace

std::unique_ptr<Quantizer> MakeSimdQuantizer() { return std::make_unique<SimdQuantizer>(); }

}  // namespace slipway::engine
#endif  // HWY_ONCE
