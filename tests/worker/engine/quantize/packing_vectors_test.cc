// Layouts of codes as compressed-tensors, AutoAWQ and GPTQ have them (tests/data/README.md).
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "tests/worker/engine/quantize/codings.h"
#include "tests/worker/engine/quantize/implementations.h"
#include "tests/worker/engine/quantize/vectors.h"

namespace slipway::test {
namespace {

class PackingVectors : public QuantizerTest {
 protected:
  // The codes of whole numbers, or of elements' own values, under a scale of 1.
  std::string Pack(Element element, Packing packing, const std::vector<float>& values, std::int64_t rows) {
    Coding coding = kFp8Tensor;
    coding.element = element;
    coding.packing = packing;
    return Quantize(quantizer(), coding,
                    {.dtype = DType::kF32,
                     .bytes = std::as_bytes(std::span(values)),
                     .rows = rows,
                     .columns = static_cast<std::int64_t>(values.size()) / rows})
        .codes;
  }

  // A weight [N, K] out of unsigned codes [K, N] whose zero point is 8.
  std::string PackTransposed(Packing packing, const DenseTensor& unsigned_codes) {
    const auto codes = ElementsOf<std::int32_t>(unsigned_codes);
    const auto columns = static_cast<std::size_t>(unsigned_codes.shape[0]);
    const auto rows = static_cast<std::size_t>(unsigned_codes.shape[1]);
    std::vector<float> values(codes.size());
    for (std::size_t n = 0; n < rows; ++n) {
      for (std::size_t k = 0; k < columns; ++k) {
        values[n * columns + k] = static_cast<float>(codes[k * rows + n] - 8);
      }
    }
    return Pack(Element::kInt4, packing, values, static_cast<std::int64_t>(rows));
  }
};
INSTANTIATE_TEST_SUITE_P(All, PackingVectors, testing::ValuesIn(Implementations()), NameOf);

TEST_P(PackingVectors, WordsOfIntegersAreCompressedTensors) {
  for (const std::string bits : {"4", "8"}) {
    for (const std::string shape : {"16x64", "5x33", "3x7", "7x100"}) {
      const Vectors vectors = ReadVectors(fmt::format("ct_pack_int{}_{}_dim1", bits, shape));
      const auto codes = ElementsOf<std::int8_t>(vectors.at("in.q"));
      const std::string packed = Pack(bits == "4" ? Element::kInt4 : Element::kInt8, Packing::kWords,
                                      {codes.begin(), codes.end()}, vectors.at("in.q").shape[0]);
      EXPECT_EQ(Differences(packed, vectors.at("out.packed").bytes), 0) << bits << " bits, " << shape;
    }
  }
}

// Its -0 is the code 8; ours, of a value that is not below zero, is 0.
TEST_P(PackingVectors, PairsOfE2M1AreCompressedTensorsButForTheSignOfZero) {
  const Vectors vectors = ReadVectors("ct_pack_fp4");
  const auto values = ElementsOf<float>(vectors.at("in.v"));
  std::string expected = vectors.at("out.packed").bytes;
  std::int64_t zeros = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] == 0 && std::signbit(values[i])) {
      ++zeros;
      ASSERT_EQ(expected[i / 2] >> (i % 2 * 4) & 15, 8);
      expected[i / 2] = static_cast<char>(expected[i / 2] ^ 8 << (i % 2 * 4));
    }
  }
  EXPECT_GT(zeros, 0);
  EXPECT_EQ(Differences(Pack(Element::kE2M1, Packing::kNibblePairs, values, vectors.at("in.v").shape[0]), expected), 0);
}

TEST_P(PackingVectors, WordsOfColumnsAreAutoAwqs) {
  const Vectors vectors = ReadVectors("awq_gemm_pack");
  EXPECT_EQ(
      Differences(PackTransposed(Packing::kWordsColumns, vectors.at("in.iw_in_out")), vectors.at("out.qweight").bytes),
      0);
}

TEST_P(PackingVectors, WordsOfRowsAreGptqs) {
  const Vectors vectors = ReadVectors("gptq_v1_pack");
  EXPECT_EQ(
      Differences(PackTransposed(Packing::kWordsRows, vectors.at("in.iw_in_out")), vectors.at("out.qweight").bytes), 0);
}

}  // namespace
}  // namespace slipway::test
