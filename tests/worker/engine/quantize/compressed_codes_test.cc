// NVFP4 codes that ModelOpt compressed, decoded to BF16 and quantized under their own scales, are themselves again.
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "tests/worker/engine/quantize/codings.h"
#include "tests/worker/engine/quantize/implementations.h"
#include "tests/worker/engine/quantize/torch_rounding.h"
#include "tests/worker/engine/quantize/vectors.h"
#include "worker/engine/quantize/element_codes.h"

namespace slipway::test {
namespace {

class CompressedCodes : public QuantizerTest {};
INSTANTIATE_TEST_SUITE_P(All, CompressedCodes, testing::ValuesIn(Implementations()), NameOf);

// Blocks of any codes, also without a largest one, under every scale that E4M3 has and second scales of any mantissa.
TEST_P(CompressedCodes, StayUnderTheScalesThatTheyWereStoredWith) {
  constexpr std::array<float, 16> kValues = {0, .5, 1, 1.5, 2, 3, 4, 6, 0, -.5, -1, -1.5, -2, -3, -4, -6};
  constexpr std::int64_t kScales = 126;
  std::mt19937 random(11);
  for (int round = 0; round < 200; ++round) {
    const float second = std::ldexp(1.0F + static_cast<float>(random() % 8388608) / 8388608.0F, -12 + round % 9);
    std::string codes;
    std::string scales;
    std::vector<float> amaxes;
    std::vector<std::uint16_t> values;
    for (std::int64_t block = 0; block < kScales; ++block) {
      scales.push_back(static_cast<char>(block + 1));
      const float scale = engine::DecodeE4M3(static_cast<std::uint8_t>(block + 1));
      amaxes.push_back(scale * (6 * second));
      const std::uint32_t most = 1 + random() % 7;  // magnitudes up to this
      for (int pair = 0; pair < 8; ++pair) {
        std::uint32_t byte = 0;
        for (const std::uint32_t shift : {0U, 4U}) {
          const std::uint32_t magnitude = random() % (most + 1);
          const std::uint32_t code = magnitude == 0 ? 0 : magnitude | (random() % 2 << 3U);
          byte |= code << shift;
          const float value = StoredByTorch(DType::kBF16, kValues.at(code) * (scale * second));
          values.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16U));
        }
        codes.push_back(static_cast<char>(byte));
      }
    }
    const Quantized quantized = Quantize(
        quantizer(), kNvfp4,
        {.dtype = DType::kBF16, .bytes = std::as_bytes(std::span(values)), .rows = 9, .columns = std::int64_t{14} * 16},
        {.tensor_scale = second, .amaxes = amaxes});
    ASSERT_EQ(quantized.scales, scales) << second;
    ASSERT_EQ(quantized.codes, codes) << second;
  }
}

}  // namespace
}  // namespace slipway::test
