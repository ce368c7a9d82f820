#include "client/rounding_summary.h"

#include <gtest/gtest.h>

namespace slipway {
namespace {

using engine::DType;

engine::ManifestTensor Tensor(DType from, DType to, const engine::Rounding& rounding) {
  engine::ManifestTensor tensor;
  tensor.dtype = to;
  tensor.cast = engine::ManifestCast{.from = from, .rounding = rounding};
  return tensor;
}

TEST(RoundingSummary, AddsUpTensorsOfTheSameCastAndSaysOnlyWhatThereIs) {
  engine::Manifest manifest;
  EXPECT_EQ(RenderCasts(CastTotals(manifest)), "");
  manifest.tensors.emplace_back();
  manifest.tensors.push_back(
      Tensor(DType::kF32, DType::kBF16, {.inexact = 3, .largest_absolute = 1, .largest_relative = 0.001F}));
  manifest.tensors.push_back(Tensor(
      DType::kF32, DType::kBF16, {.inexact = 4, .nans = 1, .largest_absolute = 0.5F, .largest_relative = 0.00390625F}));
  EXPECT_EQ(RenderCasts(CastTotals(manifest)),
            "2 tensors F32 -> BF16, largest relative error 0.0039, 0 overflows, 1 NaN");
  manifest.tensors.push_back(
      Tensor(DType::kF16, DType::kBF16, {.inexact = 9, .underflows = 2, .infinities = 1500, .largest_relative = 1}));
  EXPECT_EQ(RenderCasts(CastTotals(manifest)),
            "2 tensors F32 -> BF16, largest relative error 0.0039, 0 overflows, 1 NaN; 1 tensor F16 -> BF16, largest "
            "relative error 1, 0 overflows, 2 underflows, 1,500 infinite");
  EXPECT_EQ(CastsToJson(CastTotals(manifest))[0].dump(),
            R"({"from":"F32","to":"BF16","tensors":2,"inexact":7,"overflows":0,"underflows":0,"nans":1,"infinities":0,)"
            R"("largest_absolute":1.0,"largest_relative":0.00390625})");
}

TEST(RoundingSummary, CastsOfSeveralArtifactsAddUp) {
  engine::Manifest one;
  one.tensors.push_back(Tensor(DType::kF32, DType::kBF16, {.inexact = 3, .largest_relative = 0.001F}));
  engine::Manifest other;
  other.tensors.push_back(Tensor(DType::kF32, DType::kBF16, {.inexact = 4, .largest_relative = 0.002F}));
  other.tensors.push_back(Tensor(DType::kF32, DType::kBF16, {.inexact = 1, .underflows = 5, .largest_relative = 1}));
  other.tensors.push_back(Tensor(DType::kF32, DType::kF16, {.inexact = 2, .largest_relative = 0.5F}));
  std::vector<CastTotal> totals = CastTotals(one);
  AddCasts(CastTotals(other), totals);
  EXPECT_EQ(RenderCasts(totals),
            "3 tensors F32 -> BF16, largest relative error 1, 0 overflows, 5 underflows; 1 tensor F32 -> F16, largest "
            "relative error 0.5, 0 overflows");
  EXPECT_EQ(CastsToJson(totals)[0]["inexact"], 8);
}

}  // namespace
}  // namespace slipway
