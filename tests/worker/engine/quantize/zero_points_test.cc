// Codes about zero points: as AutoAWQ and compressed-tensors have them, and what holds whatever the values are.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/worker/engine/quantize/codings.h"
#include "tests/worker/engine/quantize/implementations.h"
#include "tests/worker/engine/quantize/made_values.h"
#include "tests/worker/engine/quantize/nearest_code.h"
#include "tests/worker/engine/quantize/torch_rounding.h"
#include "tests/worker/engine/quantize/vectors.h"
#include "worker/engine/quantize/decoded_codes.h"
#include "worker/engine/quantize/packing.h"

namespace slipway::test {
namespace {

using engine::Values;

class ZeroPoints : public QuantizerTest {};
INSTANTIATE_TEST_SUITE_P(All, ZeroPoints, testing::ValuesIn(Implementations()), NameOf);

std::string Words(const Coding& coding, const std::string& zero_points, std::int64_t rows) {
  std::string words(zero_points.size() / 2, '\0');
  PackZeroPoints(coding.packing, std::as_bytes(std::span(zero_points)), rows, std::as_writable_bytes(std::span(words)));
  return words;
}

// Of unsigned zero points [K / group, N], of which ours are 8 less.
TEST(PackZeroPoints, LieAsAutoAwqsAndCompressedTensorsDo) {
  const Vectors vectors = ReadVectors("awq_gemm_pack");
  std::string zero_points;
  for (const std::int32_t zero_point : ElementsOf<std::int32_t>(vectors.at("in.iz"))) {
    zero_points += static_cast<char>(zero_point - 8);
  }
  EXPECT_EQ(Differences(Words(kAwqRange, zero_points, vectors.at("in.iz").shape[1]), vectors.at("out.qzeros").bytes),
            0);
  EXPECT_EQ(Words(kInt4Range, "\xF8\xF9\xFA\xFB\xFC\xFD\xFE\xFF", 8), "\x10\x32\x54\x76");
}

TEST_P(ZeroPoints, OfAutoAwqAreTheSameWithEveryCodeAndScale) {
  const Vectors vectors = ReadVectors("llama_zero_points");
  const Values source = ValuesOf(vectors.at("source"));
  const Quantized quantized = Quantize(quantizer(), kAwqRange, source);
  EXPECT_EQ(Differences(quantized.scales, vectors.at("awq_rtn.scales").bytes), 0);
  EXPECT_EQ(Differences(Words(kAwqRange, quantized.zero_points, source.rows), vectors.at("awq_rtn.qzeros").bytes), 0);
  EXPECT_EQ(Differences(quantized.codes, vectors.at("awq_rtn.qweight").bytes), 0);
}

// compressed-tensors rounds quotients of BF16 to BF16, and their sums with zero points again.
int CodeOfCompressedTensors(float quotient, int zero_point) {
  const float sum = StoredByTorch(DType::kBF16, quotient) + static_cast<float>(zero_point);
  return static_cast<int>(std::nearbyint(std::clamp(StoredByTorch(DType::kBF16, sum), -8.0F, 7.0F)));
}

int SignedOf(char code) {
  constexpr int kHalf = 128;
  const int value = static_cast<unsigned char>(code);
  return value < kHalf ? value : value - 2 * kHalf;
}

// Ours are the nearest instead. Groups of zeros, to which it gives the scale 2^-7 of BF16, are left out.
void ExpectNearestCodes(const std::vector<float>& weights, const std::vector<float>& scales, const Quantized& ours,
                        const std::vector<int>& theirs) {
  std::int64_t different = 0;
  const std::size_t group = weights.size() / scales.size();
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const int zero_point = SignedOf(ours.zero_points[i / group]);
    const float quotient = weights[i] / scales[i / group];
    const int code = SignedOf(ours.codes[i]);
    ASSERT_EQ(static_cast<std::uint8_t>(code), NearestCodeAbout(zero_point, static_cast<double>(quotient))) << i;
    ASSERT_EQ(theirs[i], CodeOfCompressedTensors(quotient, zero_point)) << i;
    different += code != theirs[i] ? 1 : 0;
  }
  EXPECT_GT(different, 0) << "the codes are the same: say so";
}

TEST_P(ZeroPoints, OfCompressedTensorsAreTheSameAndCodesDifferByItsRoundingOfQuotientsAlone) {
  const Vectors vectors = ReadVectors("llama_zero_points");
  const Values source = ValuesOf(vectors.at("source"));
  Coding coding = kInt4Range;
  coding.packing = Packing::kBytes;
  const Quantized quantized = Quantize(quantizer(), coding, source);
  EXPECT_EQ(Differences(quantized.scales, vectors.at("ct_w4a16_asym.weight_scale").bytes), 0);
  EXPECT_EQ(Differences(Words(kInt4Range, quantized.zero_points, source.rows),
                        vectors.at("ct_w4a16_asym.weight_zero_point").bytes),
            0);
  std::vector<int> theirs;
  for (const std::uint32_t word : ElementsOf<std::uint32_t>(vectors.at("ct_w4a16_asym.weight_packed"))) {
    for (unsigned i = 0; i < 8; ++i) {
      theirs.push_back(static_cast<int>(word >> (4 * i) & 15) - 8);
    }
  }
  ExpectNearestCodes(FloatsOf(source), FloatsOf(ValuesOf(vectors.at("ct_w4a16_asym.weight_scale"))), quantized, theirs);
}

// compressed-tensors' own functions, with ties, tiny values and groups on one side of 0.
TEST_P(ZeroPoints, OfCompressedTensorsVectorsAreTheSame) {
  const Vectors vectors = ReadVectors("ct_quant_int4_g32_asym");
  const Values values = ValuesOf(vectors.at("in.w"));
  Coding coding = kInt4Range;
  coding.packing = Packing::kBytes;
  coding.group = 32;
  Quantized quantized = Quantize(quantizer(), coding, values);
  std::vector<float> weights = FloatsOf(values);
  std::vector<float> scales = FloatsOf(ValuesOf(vectors.at("out.scale")));
  const std::string& theirs = vectors.at("out.q").bytes;
  std::vector<float> kept_weights;
  std::vector<float> kept_scales;
  std::vector<int> kept_codes;
  Quantized kept;
  for (std::size_t group = 0; group < scales.size(); ++group) {
    const std::span<const float> of_group = std::span(weights).subspan(32 * group, 32);
    if (std::ranges::all_of(of_group, [](float weight) { return weight == 0; })) {
      continue;
    }
    ASSERT_EQ(quantized.scales.substr(2 * group, 2), vectors.at("out.scale").bytes.substr(2 * group, 2)) << group;
    ASSERT_EQ(quantized.zero_points[group], vectors.at("out.zero_point").bytes[group]) << group;
    kept_weights.insert(kept_weights.end(), of_group.begin(), of_group.end());
    kept_scales.push_back(scales[group]);
    kept.zero_points += quantized.zero_points[group];
    kept.codes += quantized.codes.substr(32 * group, 32);
    for (std::size_t i = 32 * group; i < 32 * (group + 1); ++i) {
      kept_codes.push_back(static_cast<signed char>(theirs[i]));
    }
  }
  ExpectNearestCodes(kept_weights, kept_scales, kept, kept_codes);
}

// A zero point is an integer, so the ends of a range lose half a step at most; the rest is the rounding of scales, of
// which fifteen add up.
TEST_P(ZeroPoints, LoseNoValueByMoreThanHalfAStepAndZerosByNothing) {
  for (const auto& [packed, rounding] : {std::pair{kAwqRange, 0.01}, std::pair{kInt4Range, 0.13}}) {
    Coding coding = packed;
    coding.packing = Packing::kBytes;
    for (const Kind kind :
         {Kind::kNormal, Kind::kHeavy, Kind::kZeros, Kind::kAbove, Kind::kBelow, Kind::kAlike, Kind::kUniform}) {
      const MadeValues made(DType::kBF16, 16, 384, kind);
      const Quantized quantized = Quantize(quantizer(), coding, made.values());
      const std::vector<float> values = FloatsOf(made.values());
      const std::vector<float> scales = FloatsOf({.dtype = coding.scale_dtype,
                                                  .bytes = std::as_bytes(std::span(quantized.scales)),
                                                  .rows = 16,
                                                  .columns = 384 / coding.group});
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::size_t block = i / static_cast<std::size_t>(coding.group);
        const int steps =
            static_cast<signed char>(quantized.codes[i]) - static_cast<signed char>(quantized.zero_points[block]);
        const double error = std::fabs(static_cast<double>(values[i]) - static_cast<double>(scales[block]) * steps);
        ASSERT_LE(error, (0.5 + rounding) * static_cast<double>(scales[block])) << static_cast<int>(kind) << " " << i;
        ASSERT_TRUE(values[i] != 0 || steps == 0) << i;
      }
    }
  }
}

TEST_P(ZeroPoints, OfGroupsOnOneSideOfZeroAreAtTheEnds) {
  const std::pair<Kind, char> cases[] = {{Kind::kAbove, -8}, {Kind::kBelow, 7}, {Kind::kAlike, 7}};
  for (const auto& [kind, expected] : cases) {
    const MadeValues made(DType::kBF16, 8, 128, kind);
    for (const Coding& coding : {kAwqRange, kInt4Range, Searched(kAwqRange), Searched(kInt4Range)}) {
      for (const char zero_point : Quantize(quantizer(), coding, made.values()).zero_points) {
        EXPECT_EQ(static_cast<int>(zero_point), static_cast<int>(expected));
      }
    }
  }
}

TEST_P(ZeroPoints, StatisticsAreThoseOfTheStoredBytes) {
  for (const Coding& coding : {kAwqRange, kInt4Range, Searched(kAwqRange), Searched(kInt4Range)}) {
    for (const Kind kind : {Kind::kNormal, Kind::kTies, Kind::kAbove, Kind::kAnyBits}) {
      const MadeValues made(DType::kBF16, 16, 384, kind);
      const Quantized quantized = Quantize(quantizer(), coding, made.values());
      const std::string words = Words(coding, quantized.zero_points, 16);
      const std::vector<engine::RowStatistics> measured =
          MeasureStoredBand(made.values(), {.coding = coding,
                                            .codes = std::as_bytes(std::span(quantized.codes)),
                                            .scales = std::as_bytes(std::span(quantized.scales)),
                                            .zero_points = std::as_bytes(std::span(words))});
      EXPECT_EQ(measured, quantized.statistics) << static_cast<int>(kind);
    }
  }
}

}  // namespace
}  // namespace slipway::test
