// A weight of a Llama as Model Optimizer, llm-compressor and plain GPTQ rounding exported it in each format.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/worker/engine/quantize/codings.h"
#include "tests/worker/engine/quantize/implementations.h"
#include "tests/worker/engine/quantize/nearest_code.h"
#include "tests/worker/engine/quantize/torch_rounding.h"
#include "tests/worker/engine/quantize/vectors.h"

namespace slipway::test {
namespace {

using engine::Values;

Coding Rounded(Coding coding) {
  coding.rule = ScaleRule::kPowerOfTwoRounded;
  return coding;
}

Coding InBF16(Coding coding) {
  coding.scale_dtype = DType::kBF16;
  return coding;
}

class ExportedWeights : public QuantizerTest {
 protected:
  const DenseTensor& Tensor(const std::string& name) { return vectors_.at(name); }
  Values Source() { return ValuesOf(Tensor("source")); }

  void ExpectSameBytes(const Coding& coding, const std::string& codes, const std::string& scales, const Given& given,
                       const std::string& source = "source") {
    const Quantized quantized = Quantize(quantizer(), coding, ValuesOf(Tensor(source)), given);
    EXPECT_EQ(Differences(quantized.scales, Tensor(scales).bytes), 0) << scales;
    EXPECT_EQ(Differences(quantized.codes, Tensor(codes).bytes), 0) << codes;
  }

  // compressed-tensors divides a BF16 weight by a BF16 scale and so rounds the quotient to BF16 before the code; FP8
  // per tensor of Model Optimizer, too. `columns` share a scale in `scale`, a row at a time.
  void ExpectSecondRounding(const Coding& coding, const std::string& codes, const std::vector<float>& scale,
                            const std::string& ours) {
    const std::vector<float> weights = FloatsOf(Source());
    const std::string& theirs = Tensor(codes).bytes;
    ASSERT_EQ(theirs.size(), weights.size());
    ASSERT_EQ(ours.size(), weights.size());
    std::int64_t different = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const float quotient = weights[i] / scale[i];
      const float rounded = StoredByTorch(DType::kBF16, quotient);
      ASSERT_EQ(static_cast<std::uint8_t>(theirs[i]), NearestCode(coding.element, static_cast<double>(rounded)));
      ASSERT_EQ(static_cast<std::uint8_t>(ours[i]), NearestCode(coding.element, static_cast<double>(quotient)));
      different += theirs[i] != ours[i] ? 1 : 0;
    }
    EXPECT_GT(different, 0) << "the formats are the same: say so";
  }

  // A scale for each element, of scales in row-major order for blocks of `columns` of one row.
  std::vector<float> Spread(const std::vector<float>& scales, std::size_t columns, bool every_row = false) {
    std::vector<float> spread(std::size_t{32} * 256);
    for (std::size_t i = 0; i < spread.size(); ++i) {
      spread[i] = scales.at((every_row ? i % 256 : i) / columns);
    }
    return spread;
  }

 private:
  Vectors vectors_ = ReadVectors("llama_weight_formats");
};
INSTANTIATE_TEST_SUITE_P(All, ExportedWeights, testing::ValuesIn(Implementations()), NameOf);

TEST_P(ExportedWeights, OfModelOptAreTheSame) {
  ExpectSameBytes(kFp8Row, "fp8_pc_pt.weight", "fp8_pc_pt.weight_scale", {});
  ExpectSameBytes(kInt8Row, "int8_wo.weight", "int8_wo.weight_scale", {});
  ExpectSameBytes(kInt4Rows, "int4_wo.weight", "int4_wo.weight_scale", {});
  ExpectSameBytes(kMxfp8, "mxfp8.weight", "mxfp8.weight_scale", {});
  ExpectSameBytes(kNvfp4, "nvfp4.weight", "nvfp4.weight_scale",
                  {.tensor_scale = ElementsOf<float>(Tensor("nvfp4.weight_scale_2"))[0]});
  // Both scales are of the whole weight, of which these are the first rows.
  Coding given = kFp8Square;
  given.bound = 1;
  ExpectSameBytes(given, "fp8_pb_wo.weight", "fp8_pb_wo.weight_scale",
                  {.amaxes = ElementsOf<float>(Tensor("fp8_pb_wo.weight_scale"))});
}

// Six blocks here have another scale where the quotient is taken in two divisions.
TEST_P(ExportedWeights, OfNvfp4HaveScalesOfOneDivision) {
  ExpectSameBytes(kNvfp4, "nvfp4_division.weight", "nvfp4_division.weight_scale",
                  {.tensor_scale = ElementsOf<float>(Tensor("nvfp4_division.weight_scale_2"))[0]},
                  "nvfp4_division.source");
}

TEST_P(ExportedWeights, OfGptqAreTheSame) { ExpectSameBytes(kGptq, "gptq_rtn.qweight", "gptq_rtn.scales", {}); }

TEST_P(ExportedWeights, OfCompressedTensorsMxAreTheSame) {
  ExpectSameBytes(Rounded(kMxfp4), "ct_mxfp4.weight_packed", "ct_mxfp4.weight_scale", {});
  ExpectSameBytes(Rounded(kMxfp8), "ct_mxfp8.weight", "ct_mxfp8.weight_scale", {});
}

// compressed-tensors rounds amax / 6 to BF16 before the product with the global scale. Under its scales, the codes are
// the same: 6 times what it rounded is an amax whose sixth is that exactly.
TEST_P(ExportedWeights, OfCompressedTensorsNvfp4AreTheSameUnderItsRoundingOfScales) {
  const std::vector<float> weights = FloatsOf(Source());
  std::vector<float> amaxes(weights.size() / 16);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    amaxes[i / 16] = std::max(amaxes[i / 16], std::fabs(weights[i]));
  }
  for (float& amax : amaxes) {
    amax = 6 * StoredByTorch(DType::kBF16, amax / 6);
  }
  ExpectSameBytes(kNvfp4Reciprocal, "ct_nvfp4.weight_packed", "ct_nvfp4.weight_scale",
                  {.tensor_scale = ElementsOf<float>(Tensor("ct_nvfp4.weight_global_scale"))[0], .amaxes = amaxes});
}

TEST_P(ExportedWeights, OfCompressedTensorsIntegersHaveTheSameScalesAndDifferByTheSecondRoundingAlone) {
  Coding int8 = InBF16(kInt8Row);
  int8.bound = 127.5;
  const Quantized of_rows = Quantize(quantizer(), int8, Source());
  EXPECT_EQ(Differences(of_rows.scales, Tensor("ct_w8a8.weight_scale").bytes), 0);
  ExpectSecondRounding(int8, "ct_w8a8.weight", Spread(FloatsOf(ValuesOf(Tensor("ct_w8a8.weight_scale"))), 256),
                       of_rows.codes);
  Coding int4 = kInt4Words;
  int4.packing = Packing::kBytes;
  const Quantized of_groups = Quantize(quantizer(), int4, Source());
  EXPECT_EQ(Differences(of_groups.scales, Tensor("ct_w4a8.weight_scale").bytes), 0);
  ExpectSecondRounding(int4, "ct_w4a8.weight", Spread(FloatsOf(ValuesOf(Tensor("ct_w4a8.weight_scale"))), 128),
                       of_groups.codes);
}

TEST_P(ExportedWeights, OfFp8DifferByTheSecondRoundingAlone) {
  const auto tensor_scale = ElementsOf<float>(Tensor("fp8.weight_scale"))[0];
  ExpectSecondRounding(kFp8Tensor, "fp8.weight", Spread({tensor_scale}, std::size_t{32} * 256),
                       Quantize(quantizer(), kFp8Tensor, Source(), {.tensor_scale = tensor_scale}).codes);
  const float stored = FloatsOf(ValuesOf(Tensor("ct_fp8.weight_scale")))[0];
  ExpectSecondRounding(kFp8Tensor, "ct_fp8.weight", Spread({stored}, std::size_t{32} * 256),
                       Quantize(quantizer(), kFp8Tensor, Source(), {.tensor_scale = stored}).codes);
  EXPECT_EQ(TensorScale(InBF16(kFp8Tensor), 448 * tensor_scale), stored);
  const Quantized of_rows = Quantize(quantizer(), InBF16(kFp8Row), Source());
  EXPECT_EQ(Differences(of_rows.scales, Tensor("ct_fp8_dynamic.weight_scale").bytes), 0);
  ExpectSecondRounding(kFp8Row, "ct_fp8_dynamic.weight",
                       Spread(FloatsOf(ValuesOf(Tensor("ct_fp8_dynamic.weight_scale"))), 256), of_rows.codes);
  Coding given = InBF16(kFp8Square);
  given.bound = 1;
  const std::vector<float> scales = FloatsOf(ValuesOf(Tensor("ct_fp8_block.weight_scale")));
  ExpectSecondRounding(given, "ct_fp8_block.weight", Spread(scales, 128, true),
                       Quantize(quantizer(), given, Source(), {.amaxes = scales}).codes);
}

// compressed-tensors' own functions. Blocks of zeros, to which it gives the scale 2^-7 of BF16, are left out.
TEST_P(ExportedWeights, OfCompressedTensorsVectorsHaveTheSameScalesAndDifferByTheSecondRoundingAlone) {
  struct Case {
    std::string name;
    Element element;
    Sharing sharing;
    int group;
    float bound;
  };
  for (const Case& a_case : {Case{"int4_g32_sym", Element::kInt4, Sharing::kGroup, 32, 7.5},
                             Case{"int4_g128_sym", Element::kInt4, Sharing::kGroup, 128, 7.5},
                             Case{"int8_g128_sym", Element::kInt8, Sharing::kGroup, 128, 127.5},
                             Case{"int8_channel_sym", Element::kInt8, Sharing::kRow, 0, 127.5}}) {
    const Vectors vectors = ReadVectors("ct_quant_" + a_case.name);
    const Values values = ValuesOf(vectors.at("in.w"));
    Coding coding = InBF16(kFp8Row);
    coding.element = a_case.element;
    coding.sharing = a_case.sharing;
    coding.group = a_case.group;
    coding.bound = a_case.bound;
    const Quantized quantized = Quantize(quantizer(), coding, values);
    const std::vector<float> weights = FloatsOf(values);
    const std::vector<float> scales = FloatsOf(ValuesOf(vectors.at("out.scale")));
    const std::size_t block = weights.size() / scales.size();
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const float amax =
          std::fabs(*std::max_element(weights.begin() + static_cast<std::ptrdiff_t>(i / block * block),
                                      weights.begin() + static_cast<std::ptrdiff_t>((i / block + 1) * block),
                                      [](float left, float right) { return std::fabs(left) < std::fabs(right); }));
      if (amax == 0) {
        continue;
      }
      ASSERT_EQ(quantized.scales.substr(i / block * 2, 2), vectors.at("out.scale").bytes.substr(i / block * 2, 2))
          << a_case.name << i << " " << scales[i / block];
      const float quotient = weights[i] / scales[i / block];
      ASSERT_EQ(static_cast<std::uint8_t>(vectors.at("out.q").bytes[i]),
                NearestCode(coding.element, static_cast<double>(StoredByTorch(DType::kBF16, quotient))))
          << a_case.name << i;
      ASSERT_EQ(static_cast<std::uint8_t>(quantized.codes[i]),
                NearestCode(coding.element, static_cast<double>(quotient)));
    }
  }
}

}  // namespace
}  // namespace slipway::test
