// What NVIDIA Model Optimizer's own conversion functions made (tests/data/README.md).

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "tests/worker/engine/quantize/codings.h"
#include "tests/worker/engine/quantize/implementations.h"
#include "tests/worker/engine/quantize/nearest_code.h"
#include "tests/worker/engine/quantize/torch_rounding.h"
#include "tests/worker/engine/quantize/vectors.h"

namespace slipway::test {
namespace {

using engine::Values;

class ModelOptVectors : public QuantizerTest {};
INSTANTIATE_TEST_SUITE_P(All, ModelOptVectors, testing::ValuesIn(Implementations()), NameOf);

const std::string kDTypes[] = {"float32", "bfloat16", "float16"};

float FloatOf(const DenseTensor& tensor) { return ElementsOf<float>(tensor).at(0); }

// Model Optimizer rounds the quotient of a weight of 16 bits and the tensor's one scale to those 16 bits before the
// cast, and does not saturate; we round once and saturate.
TEST_P(ModelOptVectors, Fp8PerTensorDiffersByTheSecondRoundingAndTheMissingSaturationAlone) {
  for (const std::string& dtype : kDTypes) {
    for (const std::string suffix : {"", "_smallamax"}) {
      const Vectors vectors = ReadVectors(fmt::format("modelopt_fp8_per_tensor_{}{}", dtype, suffix));
      const Values values = ValuesOf(vectors.at("in.w"));
      const float scale = FloatOf(vectors.at("in.scale"));
      EXPECT_EQ(TensorScale(kFp8Tensor, FloatOf(vectors.at("in.amax"))), scale);
      const std::string codes = Quantize(quantizer(), kFp8Tensor, values, {.tensor_scale = scale}).codes;
      const std::vector<float> weights = FloatsOf(values);
      const std::string& expected = vectors.at("out.q").bytes;
      ASSERT_EQ(codes.size(), expected.size());
      for (std::size_t i = 0; i < codes.size(); ++i) {
        const float quotient = weights[i] / scale;
        ASSERT_EQ(static_cast<std::uint8_t>(expected[i]), TorchE4M3(StoredByTorch(values.dtype, quotient)))
            << dtype << i;
        ASSERT_EQ(static_cast<std::uint8_t>(codes[i]), NearestCode(Element::kE4M3, static_cast<double>(quotient)));
      }
      if (dtype == "float32" && suffix.empty()) {
        EXPECT_EQ(codes, expected);
      }
    }
  }
}

TEST_P(ModelOptVectors, Fp8PerChannelIsTheSame) {
  for (const std::string& dtype : kDTypes) {
    const Vectors vectors = ReadVectors("modelopt_fp8_per_channel_" + dtype);
    const Quantized quantized = Quantize(quantizer(), kFp8Row, ValuesOf(vectors.at("in.w")));
    EXPECT_EQ(Differences(quantized.scales, vectors.at("in.scale").bytes), 0) << dtype;
    EXPECT_EQ(Differences(quantized.codes, vectors.at("out.q").bytes), 0) << dtype;
  }
}

TEST_P(ModelOptVectors, Fp8OfBlocksIsTheSame) {
  for (const std::string& dtype : kDTypes) {
    const Vectors vectors = ReadVectors("modelopt_fp8_block128_" + dtype);
    const Quantized quantized = Quantize(quantizer(), kFp8Square, ValuesOf(vectors.at("in.w")));
    EXPECT_EQ(Differences(quantized.scales, vectors.at("in.scale").bytes), 0) << dtype;
    EXPECT_EQ(Differences(quantized.codes, vectors.at("out.q").bytes), 0) << dtype;
  }
}

// Where it pads, Model Optimizer takes scales of the weight's dtype, and rounds the quotient to it, too.
TEST_P(ModelOptVectors, Fp8OfBlocksThatTheEdgeCutsHasTheSameScalesAndDiffersByTheSecondRoundingAlone) {
  for (const std::string& dtype : kDTypes) {
    const Vectors vectors = ReadVectors("modelopt_fp8_block128_padded_" + dtype);
    const Values values = ValuesOf(vectors.at("in.w"));
    Coding coding = kFp8Square;
    coding.scale_dtype = values.dtype;
    const Quantized quantized = Quantize(quantizer(), coding, values);
    EXPECT_EQ(Differences(quantized.scales, vectors.at("out.scale").bytes), 0) << dtype;
    const std::vector<float> scales = FloatsOf(ValuesOf(vectors.at("out.scale")));
    const std::vector<float> weights = FloatsOf(values);
    const std::string& expected = vectors.at("out.q").bytes;
    ASSERT_EQ(quantized.codes.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const float quotient = weights[i] / scales[i % static_cast<std::size_t>(values.columns) / 128];
      ASSERT_EQ(static_cast<std::uint8_t>(expected[i]), TorchE4M3(StoredByTorch(values.dtype, quotient))) << dtype << i;
      ASSERT_EQ(static_cast<std::uint8_t>(quantized.codes[i]),
                NearestCode(Element::kE4M3, static_cast<double>(quotient)));
    }
    if (dtype == "float32") {
      EXPECT_EQ(quantized.codes, expected);
    }
  }
}

TEST_P(ModelOptVectors, Int8PerChannelIsTheSame) {
  for (const std::string& dtype : kDTypes) {
    const Vectors vectors = ReadVectors("modelopt_int8_per_channel_" + dtype);
    const Quantized quantized = Quantize(quantizer(), kInt8Row, ValuesOf(vectors.at("in.w")));
    EXPECT_EQ(Differences(quantized.scales, vectors.at("in.scale").bytes), 0) << dtype;
    EXPECT_EQ(Differences(quantized.codes, vectors.at("out.q").bytes), 0) << dtype;
  }
}

TEST_P(ModelOptVectors, Int4OfGroupsIsTheSame) {
  for (const std::string& dtype : kDTypes) {
    for (const int group : {128, 64, 32}) {
      const Vectors vectors = ReadVectors("modelopt_int4_g" + std::to_string(group) + "_" + dtype);
      Coding coding = kInt4Rows;
      coding.group = group;
      const Quantized quantized = Quantize(quantizer(), coding, ValuesOf(vectors.at("in.w")));
      EXPECT_EQ(Differences(quantized.scales, vectors.at("in.scale").bytes), 0) << dtype << group;
      EXPECT_EQ(Differences(quantized.codes, vectors.at("out.q").bytes), 0) << dtype << group;
    }
  }
}

TEST_P(ModelOptVectors, Int4UnderScalesThatClipIsTheSame) {
  for (const std::string& dtype : kDTypes) {
    const Vectors vectors = ReadVectors("modelopt_int4_g128_clip_" + dtype);
    Coding coding = kInt4Rows;
    coding.bound = 1;  // so that what is given is the scale itself
    const Quantized quantized = Quantize(quantizer(), coding, ValuesOf(vectors.at("in.w")),
                                         {.amaxes = ElementsOf<float>(vectors.at("in.scale"))});
    EXPECT_EQ(Differences(quantized.scales, vectors.at("in.scale").bytes), 0) << dtype;
    EXPECT_EQ(Differences(quantized.codes, vectors.at("out.q").bytes), 0) << dtype;
    EXPECT_GT(quantized.statistics[5].saturated, 0) << dtype;
  }
}

TEST_P(ModelOptVectors, Nvfp4IsTheSame) {
  for (const std::string& dtype : kDTypes) {
    for (const std::string suffix : {"", "_tiny", "_ties", "_sat"}) {
      const Vectors vectors = ReadVectors(fmt::format("modelopt_nvfp4_{}{}", dtype, suffix));
      const Values values = ValuesOf(vectors.at("in.w"));
      const float tensor_scale = FloatOf(vectors.at("in.scale_2"));
      if (suffix != "_sat") {  // whose scale is four times too small
        EXPECT_EQ(TensorScale(kNvfp4, quantizer().Measure(values)->amax), tensor_scale) << dtype << suffix;
      }
      const Quantized quantized = Quantize(quantizer(), kNvfp4, values, {.tensor_scale = tensor_scale});
      EXPECT_EQ(Differences(quantized.scales, vectors.at("out.scale").bytes), 0) << dtype << suffix;
      EXPECT_EQ(Differences(quantized.codes, vectors.at("out.q").bytes), 0) << dtype << suffix;
    }
  }
}

// With a bound and a tensor scale of 1, a block's scale is its largest magnitude, rounded.
TEST_P(ModelOptVectors, Nvfp4RoundsScalesTheSame) {
  const Vectors vectors = ReadVectors("modelopt_nvfp4_scale_cast");
  Coding coding = kNvfp4;
  coding.bound = 1;
  std::vector<float> amaxes = ElementsOf<float>(vectors.at("in.x"));
  std::string expected = vectors.at("out.q").bytes;
  for (std::size_t i = amaxes.size(); i-- > 0;) {
    if (!(amaxes[i] > 0)) {  // no largest magnitude
      amaxes.erase(amaxes.begin() + static_cast<std::ptrdiff_t>(i));
      expected.erase(i, 1);
    }
  }
  ASSERT_GT(amaxes.size(), 60);
  const std::vector<float> zeros(amaxes.size() * 16);
  const Values values{.dtype = DType::kF32,
                      .bytes = std::as_bytes(std::span(zeros)),
                      .rows = static_cast<std::int64_t>(amaxes.size()),
                      .columns = 16};
  EXPECT_EQ(Differences(Quantize(quantizer(), coding, values, {.amaxes = amaxes}).scales, expected), 0);
}

TEST_P(ModelOptVectors, Mxfp8IsTheSame) {
  for (const std::string& dtype : kDTypes) {
    const Vectors vectors = ReadVectors("modelopt_mxfp8_" + dtype);
    const Quantized quantized = Quantize(quantizer(), kMxfp8, ValuesOf(vectors.at("in.w")));
    EXPECT_EQ(Differences(quantized.scales, vectors.at("out.scale").bytes), 0) << dtype;
    EXPECT_EQ(Differences(quantized.codes, vectors.at("out.q").bytes), 0) << dtype;
  }
}

// Model Optimizer lets ties go to the smaller magnitude here and writes zeros as -0; we round ties to even as in NVFP4.
TEST_P(ModelOptVectors, Mxfp4HasTheSameScalesAndDiffersInTiesAndTheSignOfZeroAlone) {
  std::int64_t ties = 0;
  for (const std::string& dtype : kDTypes) {
    for (const std::string suffix : {"", "_ties"}) {
      const Vectors vectors = ReadVectors(fmt::format("modelopt_mxfp4_{}{}", dtype, suffix));
      const Values values = ValuesOf(vectors.at("in.w"));
      const Quantized quantized = Quantize(quantizer(), kMxfp4, values);
      const std::string& scales = vectors.at("out.scale").bytes;
      EXPECT_EQ(Differences(quantized.scales, scales), 0) << dtype << suffix;
      const std::string& expected = vectors.at("out.q").bytes;
      ASSERT_EQ(quantized.codes.size(), expected.size());
      const std::vector<float> weights = FloatsOf(values);
      for (std::size_t i = 0; i < weights.size(); ++i) {
        const int shift = i % 2 == 0 ? 0 : 4;
        const int code = (static_cast<std::uint8_t>(quantized.codes[i / 2]) >> shift) & 15;
        const int other = (static_cast<std::uint8_t>(expected[i / 2]) >> shift) & 15;
        const double quotient =
            std::ldexp(static_cast<double>(weights[i]), 127 - static_cast<std::uint8_t>(scales[i / 32]));
        ASSERT_EQ(code, NearestCode(Element::kE2M1, quotient)) << dtype << suffix << i;
        const double distance = std::fabs(ValueOfCode(Element::kE2M1, code) - quotient);
        const double other_distance = std::fabs(ValueOfCode(Element::kE2M1, other) - quotient);
        ASSERT_EQ(distance, other_distance) << dtype << suffix << i;
        if ((code & 7) != (other & 7)) {
          ++ties;
          ASSERT_LT(other & 7, code & 7);
        }
      }
    }
  }
  EXPECT_GT(ties, 0);
}

// Values that are not finite never reach a quantizer: Measure names the first. The finite ones around them are the same
// under a scale of 1, but for FP8 above 464, which Model Optimizer turns into NaN.
TEST_P(ModelOptVectors, FiniteValuesAmongOthersAreTheSame) {
  const Vectors vectors = ReadVectors("modelopt_nonfinite_f32");
  std::vector<float> weights = ElementsOf<float>(vectors.at("in.w"));
  const Values values = ValuesOf(vectors.at("in.w"));
  std::vector<bool> finite(weights.size());
  std::int64_t first_bad = -1;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    finite[i] = std::isfinite(weights[i]);
    first_bad = !finite[i] && first_bad < 0 ? static_cast<std::int64_t>(i) : first_bad;
    weights[i] = finite[i] ? weights[i] : 0;
  }
  ASSERT_GE(first_bad, 0);
  EXPECT_EQ(quantizer().Measure(values)->first_bad, first_bad);
  Coding int8 = kFp8Tensor;
  int8.element = Element::kInt8;
  Coding int4 = int8;
  int4.element = Element::kInt4;
  int4.packing = Packing::kNibbleRows;
  Values cleaned = values;
  cleaned.bytes = std::as_bytes(std::span(weights));
  const std::string fp8_codes = Quantize(quantizer(), kFp8Tensor, cleaned).codes;
  const std::string int8_codes = Quantize(quantizer(), int8, cleaned).codes;
  const std::string int4_codes = Quantize(quantizer(), int4, cleaned).codes;
  const auto columns = static_cast<std::size_t>(values.columns);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    if (!finite[i]) {
      continue;
    }
    EXPECT_EQ(static_cast<std::uint8_t>(vectors.at("out.fp8").bytes[i]), TorchE4M3(weights[i]));
    EXPECT_EQ(static_cast<std::uint8_t>(fp8_codes[i]), NearestCode(Element::kE4M3, static_cast<double>(weights[i])));
    EXPECT_EQ(int8_codes[i], vectors.at("out.int8").bytes[i]) << weights[i];
    const std::size_t at = i / columns / 2 * columns + i % columns;
    const int shift = i / columns % 2 == 0 ? 0 : 4;
    EXPECT_EQ(int4_codes[at] >> shift & 15, vectors.at("out.int4_g32").bytes[at] >> shift & 15) << weights[i];
  }
}

}  // namespace
}  // namespace slipway::test
