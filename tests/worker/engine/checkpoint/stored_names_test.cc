#include "worker/engine/checkpoint/stored_names.h"

#include <gtest/gtest.h>

#include <string>

#include "common/error.h"

namespace slipway::engine {
namespace {

TEST(StoredNames, TensorsOfQuantizersAreToldByModuleQuantizerAndBuffer) {
  const auto plain = ParseQuantizerTensorName("decoder.layers.0.mlp.linear_fc1.weight_quantizer._amax");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->module, "decoder.layers.0.mlp.linear_fc1");
  EXPECT_EQ(plain->quantizer, "weight_quantizer");
  EXPECT_EQ(plain->buffer, "_amax");
  const auto sequence = ParseQuantizerTensorName("output_layer.weight_quantizer.10._amax");
  ASSERT_TRUE(sequence);
  EXPECT_EQ(sequence->module, "output_layer");
  EXPECT_EQ(sequence->quantizer, "weight_quantizer.10");
  const auto attention = ParseQuantizerTensorName("a.self_attention.core_attention.k_bmm_quantizer._amax");
  ASSERT_TRUE(attention);
  EXPECT_EQ(attention->module, "a.self_attention.core_attention");
}

TEST(StoredNames, OtherTensorsAreNone) {
  for (const char* name : {"decoder.layers.0.mlp.linear_fc1.weight", "weight_quantizer._amax", "a.quantizer.codebook",
                           "a.vector_quantizer.weight", "a.weight_quantizers._amax", "a.weight_quantizer.0",
                           "a.weight_quantizer.x._amax", "a._amax", "_amax", ""}) {
    EXPECT_FALSE(ParseQuantizerTensorName(name)) << name;
  }
}

TEST(StoredNames, WithoutRangesWeightsAreStillTheirOwnButNotWithoutScales) {
  const auto reason = [](const std::string& name) { return ReasonOf(CheckNotNeeded(*ParseQuantizerTensorName(name))); };
  EXPECT_EQ(reason("a.weight_quantizer._amax"), Reason::kUnspecified);
  EXPECT_EQ(reason("a.input_quantizer._amax"), Reason::kUnspecified);
  EXPECT_EQ(reason("a.input_quantizer._pre_quant_scale"), Reason::kCheckpointUnsupported);
  EXPECT_EQ(reason("a.weight_quantizer._scale"), Reason::kCheckpointUnsupported);
  EXPECT_EQ(WhereOf(CheckNotNeeded(*ParseQuantizerTensorName("a.input_quantizer._pre_quant_scale"))).tensor,
            "a.weight");
}

}  // namespace
}  // namespace slipway::engine
