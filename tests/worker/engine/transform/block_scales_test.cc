#include "worker/engine/transform/block_scales.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "common/error.h"
#include "worker/engine/checkpoint/safetensors_header.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {
namespace {

// tests/data/vectors: made by torch, modelopt_nvfp4_compressed by ModelOpt's own decoder.
class TorchVectors {
 public:
  explicit TorchVectors(const std::string& file = "fp8_blocks.safetensors") {
    auto directory = OpenLocalDirectory(SLIPWAY_TEST_DATA "/vectors");
    content_ = *(*directory)->ReadSmallFile(file, 1 << 20);
    header_ = *ParseSafetensorsHeader(content_, static_cast<std::int64_t>(content_.size()), "vectors");
  }
  [[nodiscard]] std::span<const std::byte> operator[](std::string_view name) const {
    const auto entry = std::ranges::find(header_.entries, name, &SafetensorsEntry::name);
    return std::as_bytes(std::span(content_))
        .subspan(static_cast<std::size_t>(header_.data_position + entry->begin),
                 static_cast<std::size_t>(entry->end - entry->begin));
  }

 private:
  std::string content_;
  SafetensorsHeader header_;
};

OutputTensor Matrix(std::int64_t rows, std::int64_t columns, std::int64_t block_rows, std::int64_t block_columns,
                    DType to) {
  OutputTensor tensor;
  tensor.shape = {rows, columns};
  tensor.transform = {.add_one = false, .from = DType::kF8E4M3, .to = to};
  tensor.scales = {
      .regions = {{.tensor = 0,
                   .offsets = {0, 0},
                   .sizes = {(rows + block_rows - 1) / block_rows, (columns + block_columns - 1) / block_columns}}},
      .rows = block_rows,
      .columns = block_columns};
  return tensor;
}

TEST(BlockScales, EveryCodeHasTheValueOfItsDefinition) {
  for (int code = 0; code < 256; ++code) {
    const int exponent = (code >> 3) & 15;
    const int fraction = code & 7;
    const float value = FloatFromE4M3(static_cast<std::uint8_t>(code));
    if ((code & 127) == 127) {
      EXPECT_TRUE(std::isnan(value)) << code;
      continue;
    }
    const double magnitude = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
    EXPECT_EQ(static_cast<double>(std::fabs(value)), magnitude) << code;
    EXPECT_EQ(std::signbit(value), code >= 128) << code;
  }
}

TEST(BlockScales, ValuesAreTorchsBitForBitInPartsOfAnyLength) {
  const TorchVectors vectors;
  const auto codes = vectors["w.weight"];
  struct Case {
    const char* scales;
    DType scales_dtype;
    const char* expected;
    DType to;
  };
  for (const Case& c : {Case{"w.weight_scale_inv", DType::kF32, "expected.f32", DType::kF32},
                        Case{"w.weight_scale_inv", DType::kF32, "expected.bf16", DType::kBF16},
                        Case{"w.weight_scale_inv", DType::kF32, "expected.f16", DType::kF16},
                        Case{"bf16_scales", DType::kBF16, "expected_bf16_scales.bf16", DType::kBF16}}) {
    const OutputTensor tensor = Matrix(130, 140, 128, 128, c.to);
    ASSERT_TRUE(CanDequantize(tensor.transform, c.scales_dtype));
    const auto expected = vectors[c.expected];
    const auto out_bytes = static_cast<std::size_t>(InfoOf(c.to).bytes);
    ASSERT_EQ(expected.size(), codes.size() * out_bytes);
    for (const std::size_t step : {std::size_t{1}, std::size_t{7}, std::size_t{139}, std::size_t{1000}, codes.size()}) {
      std::vector<std::byte> output(expected.size());
      for (std::size_t at = 0; at < codes.size(); at += step) {
        const std::size_t count = std::min(step, codes.size() - at);
        const auto first = static_cast<std::int64_t>(at);
        // Only the scales that the part is said to need.
        const ScaleRange range = ScalesOf(tensor, first, static_cast<std::int64_t>(count));
        const auto scale_bytes = static_cast<std::size_t>(InfoOf(c.scales_dtype).bytes);
        const auto bytes = vectors[c.scales];
        std::vector<float> needed(static_cast<std::size_t>(range.count));
        EXPECT_EQ(UnpackScales(c.scales_dtype,
                               bytes.subspan(static_cast<std::size_t>(range.first) * scale_bytes,
                                             static_cast<std::size_t>(range.count) * scale_bytes),
                               1, needed.data()),
                  needed.data() + needed.size());
        EXPECT_EQ(DequantizeBlocks(tensor, first, codes.subspan(at, count), {.values = needed, .first = range.first},
                                   std::span(output).subspan(at * out_bytes, count * out_bytes)),
                  -1);
      }
      EXPECT_TRUE(std::ranges::equal(output, expected)) << c.expected << " in steps of " << step;
    }
  }
}

TEST(BlockScales, PairsOfCodesUnderE4M3ScalesAreWorthWhatModelOptSaysInPartsOfAnyEvenLength) {
  const TorchVectors vectors("modelopt_nvfp4_compressed.safetensors");
  const auto codes = vectors["codes"];
  float factor = 0;
  std::memcpy(&factor, vectors["double_scale"].data(), sizeof(factor));
  for (const auto& [name, to] :
       {std::pair("expected.f32", DType::kF32), {"expected.bf16", DType::kBF16}, {"expected.f16", DType::kF16}}) {
    OutputTensor tensor = Matrix(7, 48, 1, 16, to);
    tensor.transform.from = DType::kU8;
    ASSERT_TRUE(CanDequantize(tensor.transform, DType::kF8E4M3));
    const auto out_bytes = static_cast<std::size_t>(InfoOf(to).bytes);
    const auto expected = vectors[name];
    ASSERT_EQ(expected.size(), codes.size() * 2 * out_bytes);
    for (const std::size_t step : {std::size_t{1}, std::size_t{7}, std::size_t{24}, codes.size()}) {
      std::vector<std::byte> output(expected.size());
      for (std::size_t at = 0; at < codes.size(); at += step) {
        const std::size_t count = std::min(step, codes.size() - at);
        const auto first = static_cast<std::int64_t>(2 * at);
        const ScaleRange range = ScalesOf(tensor, first, static_cast<std::int64_t>(2 * count));
        std::vector<float> needed(static_cast<std::size_t>(range.count));
        UnpackScales(DType::kF8E4M3, vectors["scales"].subspan(static_cast<std::size_t>(range.first), needed.size()),
                     factor, needed.data());
        EXPECT_EQ(DequantizeBlocks(tensor, first, codes.subspan(at, count), {.values = needed, .first = range.first},
                                   std::span(output).subspan(2 * at * out_bytes, 2 * count * out_bytes)),
                  -1);
      }
      EXPECT_TRUE(std::ranges::equal(output, expected)) << name << " in steps of " << step;
    }
  }
}

TEST(BlockScales, APartNeedsNoMoreScalesThanFitIntoTheirMemory) {
  for (const OutputTensor& tensor : {Matrix(1 << 16, 64, 1, 16, DType::kBF16), Matrix(1 << 20, 2, 1, 2, DType::kBF16),
                                     Matrix(3, 1 << 24, 1, 16, DType::kBF16)}) {
    const std::int64_t elements = tensor.shape[0] * tensor.shape[1];
    for (const std::int64_t first : {std::int64_t{0}, tensor.shape[1] + 5, elements / 2 + 1}) {
      const std::int64_t count = CountWithinScales(tensor, first, elements - first);
      EXPECT_GE(count, std::int64_t{1} << 17);
      EXPECT_LE(ScalesOf(tensor, first, count).count, kMaximumScales);
    }
  }
}

TEST(BlockScales, TheRangeOfScalesIsTheSmallestThatHoldsEveryElements) {
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    const auto pick = [&](std::int64_t low, std::int64_t high) {
      return std::uniform_int_distribution<std::int64_t>(low, high)(random);
    };
    const OutputTensor tensor = Matrix(pick(1, 40), pick(1, 40), pick(1, 9), pick(1, 9), DType::kBF16);
    const std::int64_t elements = tensor.shape[0] * tensor.shape[1];
    const std::int64_t first = pick(0, elements - 1);
    const std::int64_t count = pick(1, elements - first);
    ASSERT_EQ(CountWithinScales(tensor, first, count), count);
    const Shape& sizes = tensor.scales->regions[0].sizes;
    std::set<std::int64_t> needed;
    for (std::int64_t i = first; i < first + count; ++i) {
      needed.insert(i / tensor.shape[1] / tensor.scales->rows * sizes[1] +
                    i % tensor.shape[1] / tensor.scales->columns);
    }
    const ScaleRange range = ScalesOf(tensor, first, count);
    EXPECT_LE(range.first, *needed.begin());
    EXPECT_GE(range.first + range.count, *needed.rbegin() + 1);
    EXPECT_GE(range.first, 0);
    EXPECT_LE(range.first + range.count, sizes[0] * sizes[1]);
    if (first / tensor.shape[1] == (first + count - 1) / tensor.shape[1]) {
      EXPECT_EQ(range.first, *needed.begin());
      EXPECT_EQ(range.count, *needed.rbegin() + 1 - *needed.begin());
    }
  }
}

TEST(BlockScales, OfAVeryWideMatrixAPartEndsWithItsRow) {
  const std::int64_t columns = std::int64_t{1} << 30;
  const OutputTensor tensor = Matrix(4, columns, 128, 128, DType::kBF16);
  EXPECT_EQ(CountWithinScales(tensor, columns - 5, 1000), 5);
  EXPECT_EQ(CountWithinScales(tensor, columns, 1000), 1000);
  EXPECT_EQ(ScalesOf(tensor, columns - 5, 5).count, 1);
}

TEST(BlockScales, TheFirstValueThatIsNotFiniteIsNamed) {
  const OutputTensor tensor = Matrix(2, 40, 16, 16, DType::kF16);
  const std::vector<float> ones(3, 1.0F);
  const auto find = [&](std::vector<std::uint8_t> codes, std::vector<float> scales, std::int64_t first) {
    std::vector<std::byte> output(codes.size() * 2);
    return DequantizeBlocks(tensor, first, std::as_bytes(std::span(codes)), {.values = scales, .first = 0}, output);
  };
  std::vector<std::uint8_t> codes(80, 0x38);
  EXPECT_EQ(find(codes, ones, 0), -1);
  codes[47] = 0xFF;
  codes[70] = 0x7F;
  EXPECT_EQ(find(codes, ones, 0), 47);
  EXPECT_EQ(find({0x38, 0x7F}, ones, 30), 31);
  EXPECT_EQ(find({0x00}, {NAN, 1, 1}, 0), 0);
  EXPECT_EQ(find({0x00}, {INFINITY, 1, 1}, 0), 0);
  EXPECT_EQ(find({0x7E}, {146.0F, 1, 1}, 0), -1);  // 448 x 146 = 65408, which F16 has
  EXPECT_EQ(find({0x7E}, {147.0F, 1, 1}, 0), 0);
}

TEST(BlockScales, OtherDTypesAreNotDequantized) {
  const ElementTransform sound{.add_one = false, .from = DType::kF8E4M3, .to = DType::kBF16};
  EXPECT_TRUE(CanDequantize(sound, DType::kF32));
  EXPECT_FALSE(CanDequantize(sound, DType::kF8E8M0));
  EXPECT_FALSE(CanDequantize(sound, DType::kF8E4M3));
  EXPECT_FALSE(CanDequantize({.add_one = false, .from = DType::kU8, .to = DType::kBF16}, DType::kF32));
  EXPECT_FALSE(CanDequantize({.add_one = false, .from = DType::kF8E5M2, .to = DType::kBF16}, DType::kF32));
  EXPECT_FALSE(CanDequantize({.add_one = false, .from = DType::kF8E4M3, .to = DType::kF8E4M3}, DType::kF32));
  EXPECT_FALSE(CanDequantize({.add_one = true, .from = DType::kF8E4M3, .to = DType::kBF16}, DType::kF32));
}

}  // namespace
}  // namespace slipway::engine
