#include "worker/engine/checkpoint/canonical.h"

#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/brute_force.h"

namespace slipway::engine {
namespace {

using testing::HasSubstr;

Checkpoint Holding(const std::vector<std::pair<std::string, Shape>>& tensors) {
  Checkpoint checkpoint;
  for (const auto& [name, shape] : tensors) {
    checkpoint.tensors.push_back({.name = name, .dtype = DType::kBF16, .shape = shape, .pieces = {}});
  }
  return checkpoint;
}

// The canonical name of a checkpoint's only tensor.
std::string Only(const std::string& stored, const Shape& shape = {8, 4}) {
  const auto tensors = Canonicalize(Holding({{stored, shape}}));
  return tensors.ok() && tensors->size() == 1 ? tensors->begin()->first : Describe(tensors.status());
}

TEST(Canonical, StackedLayersBecomeOneTensorEach) {
  const auto tensors = Canonicalize(Holding({{"decoder.layers.mlp.linear_fc2.weight", {3, 8, 16}}}));
  ASSERT_TRUE(tensors.ok()) << Describe(tensors.status());
  ASSERT_EQ(tensors->size(), 3u);
  const CanonicalTensor& last = tensors->at("decoder.layers.2.mlp.linear_fc2.weight");
  EXPECT_EQ(last.shape, Shape({8, 16}));
  ASSERT_EQ(last.parts.size(), 1u);
  EXPECT_EQ(last.parts[0].fixed, Shape({2}));
}

TEST(Canonical, StackedExpertsBecomeOneTensorEach) {
  const auto tensors =
      Canonicalize(Holding({{"decoder.layers.mlp.experts.experts.linear_fc1.weight", {2, 3, 16, 8}},
                            {"mtp.layers.0.mtp_model_layer.mlp.experts.experts.linear_fc1.weight", {3, 16, 8}}}));
  ASSERT_TRUE(tensors.ok()) << Describe(tensors.status());
  ASSERT_EQ(tensors->size(), 9u);
  EXPECT_EQ(tensors->at("decoder.layers.1.mlp.experts.2.linear_fc1.weight").parts[0].fixed, Shape({1, 2}));
  EXPECT_EQ(tensors->at("mtp.layers.0.transformer_layer.mlp.experts.2.linear_fc1.weight").parts[0].fixed, Shape({2}));
}

TEST(Canonical, OfCompressedNvfp4TheShapeCountsValuesNotBytes) {
  const std::string module = "decoder.layers.mlp.linear_fc2.weight";
  Checkpoint checkpoint = Holding({{module, {2, 8, 16}},
                                   {module + "_quantizer._scale", {2, 8, 2}},
                                   {module + "_quantizer._double_scale", {2}},
                                   {"output_layer.weight", {8, 16}},
                                   {"output_layer.weight_quantizer._scale", {16, 1}}});
  checkpoint.tensors[0].dtype = checkpoint.tensors[3].dtype = DType::kU8;
  checkpoint.tensors[1].dtype = DType::kF8E4M3;
  const auto tensors = Canonicalize(checkpoint);
  ASSERT_TRUE(tensors.ok()) << Describe(tensors.status());
  const CanonicalTensor& packed = tensors->at("decoder.layers.1.mlp.linear_fc2.weight");
  EXPECT_TRUE(packed.nibbles);
  EXPECT_EQ(packed.shape, Shape({8, 32}));
  const CanonicalTensor& other = tensors->at("output_layer.weight");  // of INT4: inverse scales, BF16 here
  EXPECT_FALSE(other.nibbles);
  EXPECT_EQ(other.shape, Shape({8, 16}));
  checkpoint.tensors[0].shape.back() = std::int64_t{1} << 62;
  EXPECT_EQ(ReasonOf(Canonicalize(checkpoint).status()), Reason::kLimitExceeded);
}

TEST(Canonical, QuantizersAreNoWeightsAndHaveTheNamesOfTheirModules) {
  const Checkpoint checkpoint =
      Holding({{"decoder.layers.mlp.experts.experts.linear_fc1.input_quantizer._amax", {2, 1}},
               {"decoder.layers.mlp.experts.experts.linear_fc1.weight", {2, 3, 16, 8}},
               {"decoder.layers.mlp.experts.experts.linear_fc1.weight_quantizer._amax", {2, 3, 1}},
               {"mtp.layers.0.mtp_model_layer.mlp.experts.experts.5.linear_fc2.weight_quantizer.0._amax", {8, 2}},
               {"mtp.layers.0.mtp_model_layer.mlp.linear_fc1.weight_quantizer._amax_v", {8, 1}},
               {"mtp.layers.0.mtp_model_layer.mlp.linear_fc1.weight_quantizer._amax_w", {8, 1}},
               {"output_layer.weight_quantizer._amax", {}}});
  const auto weights = Canonicalize(checkpoint);
  ASSERT_TRUE(weights.ok()) << Describe(weights.status());
  EXPECT_EQ(weights->size(), 2u * 3u);
  const auto quantizers = CanonicalizeQuantizers(checkpoint);
  ASSERT_TRUE(quantizers.ok()) << Describe(quantizers.status());
  EXPECT_EQ(quantizers->size(), 2u + 6u + 3u);
  EXPECT_EQ(quantizers->at("decoder.layers.1.mlp.experts.linear_fc1.input_quantizer._amax").parts[0].fixed, Shape({1}));
  const CanonicalTensor& expert = quantizers->at("decoder.layers.1.mlp.experts.2.linear_fc1.weight_quantizer._amax");
  EXPECT_EQ(expert.parts[0].fixed, Shape({1, 2}));
  EXPECT_EQ(expert.shape, Shape({1}));
  EXPECT_EQ(quantizers->count("mtp.layers.0.transformer_layer.mlp.experts.5.linear_fc2.weight_quantizer.0._amax"), 1u);
  EXPECT_EQ(quantizers->at("mtp.layers.0.transformer_layer.mlp.linear_fc1.weight_quantizer._amax").shape,
            Shape({16, 1}));
  EXPECT_EQ(quantizers->at("output_layer.weight_quantizer._amax").shape, Shape());
}

TEST(Canonical, AModulesStateIsThatOfItsCanonicalModule) {
  EXPECT_EQ(*ModuleOfState("decoder.layers.3.mlp.linear_fc1._extra_state/shard_0_1"),
            "decoder.layers.3.mlp.linear_fc1");
  EXPECT_EQ(*ModuleOfState("decoder.layers.self_attention.linear_qkv._extra_state/shard_5_32"),
            "decoder.layers.5.self_attention.linear_qkv");
  EXPECT_EQ(*ModuleOfState("decoder.layers.mlp.experts.experts.linear_fc1._extra_state/shard_5.17_32.64"),
            "decoder.layers.5.mlp.experts.17.linear_fc1");
  EXPECT_EQ(*ModuleOfState("decoder.layers.2.mlp.experts.experts.4.linear_fc2._extra_state/shard_0_1"),
            "decoder.layers.2.mlp.experts.4.linear_fc2");
  EXPECT_EQ(*ModuleOfState("output_layer._extra_state/shard_0_1"), "output_layer");
  EXPECT_EQ(ReasonOf(ModuleOfState("decoder.layers.self_attention.linear_qkv._extra_state").status()),
            Reason::kCheckpointCorrupt);
  EXPECT_EQ(ReasonOf(ModuleOfState("decoder.layers.self_attention.linear_qkv._extra_state/shard_x_1").status()),
            Reason::kCheckpointCorrupt);
}

TEST(Canonical, EveryNormHasOneNameWhateverItIsStoredAs) {
  const std::string layer = "decoder.layers.7.";
  for (const char* stored :
       {"input_layernorm.weight", "self_attention.linear_qkv.layer_norm_weight",
        "self_attention.linear_q_proj.layer_norm_weight", "self_attention.in_proj.layer_norm_weight",
        "mixer.in_proj.layer_norm_weight", "norm.weight", "self_attention.linear_qkv_down_proj.layer_norm_weight"}) {
    EXPECT_EQ(Only(layer + stored), layer + "input_layernorm.weight") << stored;
  }
  for (const char* stored : {"pre_mlp_layernorm.bias", "mlp.linear_fc1.layer_norm_bias", "mlp.0.bias"}) {
    EXPECT_EQ(Only(layer + stored), layer + "pre_mlp_layernorm.bias") << stored;
  }
  EXPECT_EQ(Only(layer + "self_attention.linear_q_up_proj.layer_norm_weight"),
            layer + "self_attention.q_layernorm.weight");
  EXPECT_EQ(Only("decoder.final_norm.weight"), "decoder.final_layernorm.weight");
}

TEST(Canonical, AnExpertHasOneNameHoweverTheRunImplementedIt) {
  const std::string layer = "decoder.layers.3.mlp.experts.";
  for (const char* stored : {"experts.17.linear_fc1.weight", "local_experts.17.linear_fc1.weight",
                             "linear_fc1.weight17", "17.linear_fc1.weight"}) {
    EXPECT_EQ(Only(layer + stored), layer + "17.linear_fc1.weight") << stored;
  }
  EXPECT_EQ(Only(layer + "linear_fc2.bias4"), layer + "4.linear_fc2.bias");
  EXPECT_EQ(Only("mtp.layers.0.transformer_layer.mlp.experts.linear_fc2.weight4"),
            "mtp.layers.0.transformer_layer.mlp.experts.4.linear_fc2.weight");
  EXPECT_EQ(Only("mtp.layers.0.mtp_model_layer.mlp.experts.local_experts.4.linear_fc2.weight"),
            "mtp.layers.0.transformer_layer.mlp.experts.4.linear_fc2.weight");
}

TEST(Canonical, GateAndUpOfAnExpertAreJoinedInEverySpelling) {
  for (const std::string stem : {"experts.5.linear_fc1.weight", "local_experts.5.linear_fc1.weight",
                                 "linear_fc1.weight5", "experts.5.linear_fc1.bias", "linear_fc1.bias5"}) {
    const std::string layer = "decoder.layers.0.mlp.experts.";
    const auto tensors = Canonicalize(Holding({{layer + stem + "_v", {6, 4}}, {layer + stem + "_w", {6, 4}}}));
    ASSERT_TRUE(tensors.ok()) << Describe(tensors.status());
    ASSERT_EQ(tensors->size(), 1u);
    const bool bias = stem.find("bias") != std::string::npos;
    EXPECT_EQ(tensors->begin()->first, layer + (bias ? "5.linear_fc1.bias" : "5.linear_fc1.weight")) << stem;
    EXPECT_EQ(tensors->begin()->second.parts[0].stored, 1) << stem;
  }
}

TEST(Canonical, StackedExpertBiasesLoseTheirExpertAxis) {
  const auto tensors = Canonicalize(Holding({{"decoder.layers.mlp.experts.experts.linear_fc1.bias", {2, 3, 16}}}));
  ASSERT_TRUE(tensors.ok()) << Describe(tensors.status());
  EXPECT_EQ(tensors->at("decoder.layers.1.mlp.experts.2.linear_fc1.bias").shape, Shape({16}));
}

TEST(Canonical, TheTextOfAModelThatSeesHasTheNamesOfOneThatDoesNot) {
  EXPECT_EQ(Only("language_model.embedding.word_embeddings.weight"), "embedding.word_embeddings.weight");
  EXPECT_EQ(Only("language_model.decoder.layers.3.mlp.linear_fc1.layer_norm_weight"),
            "decoder.layers.3.pre_mlp_layernorm.weight");
  EXPECT_EQ(Only("language_model.decoder.layers.mlp.linear_fc2.weight", {1, 8, 4}),
            "decoder.layers.0.mlp.linear_fc2.weight");
}

TEST(Canonical, AVisionTowersLayersAreUnstackedAndItsNormsHaveOneName) {
  EXPECT_EQ(Only("vision_model.decoder.layers.self_attention.linear_qkv.layer_norm_bias", {1, 8}),
            "vision_model.decoder.layers.0.input_layernorm.bias");
  EXPECT_EQ(Only("vision_model.decoder.layers.5.mlp.linear_fc1.bias"),
            "vision_model.decoder.layers.5.mlp.linear_fc1.bias");
  EXPECT_EQ(Only("vision_model.decoder.deepstack_merger_list.1.patch_norm.weight"),
            "vision_model.decoder.deepstack_merger_list.1.patch_norm.weight");
  EXPECT_EQ(Only("vision_model.decoder.deepstack_merger_list.linear_fc1.weight", {1, 8, 4}),
            "vision_model.decoder.deepstack_merger_list.0.linear_fc1.weight");
  EXPECT_EQ(Only("visual.blocks.7.attn.qkv.weight"), "visual.blocks.7.attn.qkv.weight");
}

TEST(Canonical, HybridMultiTokenPredictionKeepsItsOwnLayers) {
  EXPECT_EQ(Only("mtp.layers.0.mtp_model_layer.layers.1.mixer.out_proj.weight"),
            "mtp.layers.0.mtp_model_layer.layers.1.mixer.out_proj.weight");
  EXPECT_EQ(Only("mtp.layers.0.mtp_model_layer.layers.1.mlp.experts.experts.2.linear_fc1.weight"),
            "mtp.layers.0.mtp_model_layer.layers.1.mlp.experts.2.linear_fc1.weight");
  EXPECT_EQ(Only("mtp.layers.0.mtp_model_layer.layers.1.mixer.in_proj.layer_norm_weight"),
            "mtp.layers.0.mtp_model_layer.layers.1.input_layernorm.weight");
}

TEST(Canonical, NormsAfterALinearStayAsTheyAre) {
  for (const char* stored : {"self_attention.linear_proj.post_layernorm.weight", "mlp.linear_fc2.post_layernorm.weight",
                             "self_attention.q_layernorm.weight", "self_attention.out_norm.weight"}) {
    EXPECT_EQ(Only(std::string("decoder.layers.7.") + stored), std::string("decoder.layers.7.") + stored);
  }
}

TEST(Canonical, PartsOfMambaAndDeltaNetworksAreJoinedInTheirOrder) {
  const std::string layer = "decoder.layers.0.";
  const auto joined = [&layer](const std::string& stem, const std::vector<std::string>& endings) {
    std::vector<std::pair<std::string, Shape>> stored;
    for (std::size_t i = 0; i < endings.size(); ++i) {
      stored.emplace_back(layer + stem + endings[i], Shape{static_cast<std::int64_t>(i) + 1});
    }
    const auto tensors = Canonicalize(Holding(stored));
    if (!tensors.ok() || tensors->size() != 1) {
      return Describe(tensors.status());
    }
    for (std::size_t i = 0; i < endings.size(); ++i) {
      if (tensors->begin()->second.parts.at(i).stored != static_cast<std::int32_t>(i)) {
        return "part " + endings[i] + " is elsewhere";
      }
    }
    return tensors->begin()->first;
  };
  EXPECT_EQ(joined("mixer.in_proj.weight", {".z", ".x", ".B", ".C", ".dt"}), layer + "mixer.in_proj.weight");
  for (const char* stem : {"mixer.conv1d.weight", "mixer.conv1d_weight"}) {
    EXPECT_EQ(joined(stem, {".x", ".B", ".C"}), layer + "mixer.conv1d.weight");
  }
  for (const char* stem : {"mixer.conv1d.bias", "mixer.conv1d_bias"}) {
    EXPECT_EQ(joined(stem, {".x", ".B", ".C"}), layer + "mixer.conv1d.bias");
  }
  EXPECT_EQ(joined("self_attention.in_proj.weight", {".query", ".key", ".value", ".z", ".beta", ".alpha"}),
            layer + "self_attention.in_proj.weight");
  EXPECT_EQ(joined("self_attention.conv1d.weight", {".query", ".key", ".value"}),
            layer + "self_attention.conv1d.weight");
  EXPECT_EQ(Only(layer + "mixer.conv1d_bias"), layer + "mixer.conv1d.bias");
}

TEST(Canonical, AMambaMixersOwnNormIsNotTheLayersNorm) {
  EXPECT_EQ(Only("decoder.layers.0.mixer.norm.weight"), "decoder.layers.0.mixer.norm.weight");
}

TEST(Canonical, FusedOperationNamesAreTheLinears) {
  EXPECT_EQ(Only("decoder.layers.0.mlp.1.basic_ops.0.weight"), "decoder.layers.0.mlp.linear_fc1.weight");
  EXPECT_EQ(Only("decoder.layers.0.mlp.3.basic_ops.1.bias"), "decoder.layers.0.mlp.linear_fc2.bias");
}

TEST(Canonical, AnUnknownNameStays) { EXPECT_EQ(Only("vision.patch.weight"), "vision.patch.weight"); }

TEST(Canonical, GateAndUpAreJoinedInThatOrder) {
  const auto tensors = Canonicalize(Holding(
      {{"decoder.layers.0.mlp.linear_fc1.weight_v", {6, 4}}, {"decoder.layers.0.mlp.linear_fc1.weight_w", {6, 4}}}));
  ASSERT_TRUE(tensors.ok()) << Describe(tensors.status());
  const CanonicalTensor& joined = tensors->at("decoder.layers.0.mlp.linear_fc1.weight");
  EXPECT_EQ(joined.shape, Shape({12, 4}));
  ASSERT_EQ(joined.parts.size(), 2u);
  EXPECT_EQ(joined.parts[0].stored, 1);
  EXPECT_EQ(joined.parts[1].stored, 0);
}

TEST(Canonical, AMissingHalfIsNamed) {
  const auto tensors = Canonicalize(Holding({{"decoder.layers.0.mlp.linear_fc1.weight_w", {6, 4}}}));
  EXPECT_EQ(ReasonOf(tensors.status()), Reason::kTensorMissing);
  EXPECT_EQ(WhereOf(tensors.status()).tensor, "decoder.layers.0.mlp.linear_fc1.weight_v");
}

TEST(Canonical, HalvesThatDoNotGoTogetherAreRefused) {
  const auto tensors = Canonicalize(Holding(
      {{"decoder.layers.0.mlp.linear_fc1.weight_v", {6, 5}}, {"decoder.layers.0.mlp.linear_fc1.weight_w", {6, 4}}}));
  EXPECT_EQ(ReasonOf(tensors.status()), Reason::kTensorShapeMismatch);
}

TEST(Canonical, TwoNamesOfOneWeightAreRefusedNamingBoth) {
  const auto tensors = Canonicalize(Holding({{"decoder.layers.0.input_layernorm.weight", {4}},
                                             {"decoder.layers.self_attention.linear_qkv.layer_norm_weight", {2, 4}}}));
  EXPECT_EQ(ReasonOf(tensors.status()), Reason::kTensorDuplicated);
  EXPECT_THAT(Describe(tensors.status()), HasSubstr("decoder.layers.0.input_layernorm.weight"));
  EXPECT_THAT(Describe(tensors.status()), HasSubstr("decoder.layers.self_attention.linear_qkv.layer_norm_weight"));
}

TEST(Canonical, AWholeWeightBesideItsHalvesIsADuplicate) {
  const auto tensors = Canonicalize(Holding({{"decoder.layers.0.mlp.linear_fc1.weight", {12, 4}},
                                             {"decoder.layers.0.mlp.linear_fc1.weight_v", {6, 4}},
                                             {"decoder.layers.0.mlp.linear_fc1.weight_w", {6, 4}}}));
  EXPECT_EQ(ReasonOf(tensors.status()), Reason::kTensorDuplicated);
}

TEST(Canonical, AStackedNameWithoutALayerAxisIsRefused) {
  EXPECT_EQ(ReasonOf(Canonicalize(Holding({{"decoder.layers.mlp.linear_fc2.weight", {}}})).status()),
            Reason::kTensorShapeMismatch);
}

TEST(Canonical, EmptyTensorsOfCountlessLayersAreRefusedWithoutMakingThem) {
  for (const Shape& shape : {Shape{1'000'000'000'000, 0}, Shape{90'000, 90'000, 0}}) {
    const auto tensors = Canonicalize(Holding({{"decoder.layers.mlp.experts.experts.linear_fc2.weight", shape}}));
    EXPECT_EQ(ReasonOf(tensors.status()), Reason::kLimitExceeded);
  }
  const auto numbered = Canonicalize(Holding({{"decoder.layers.99999999999999999999.norm.weight", {4}}}));
  EXPECT_EQ(ReasonOf(numbered.status()), Reason::kLimitExceeded);
}

class CanonicalFixture : public testing::TestWithParam<const char*> {};

TEST_P(CanonicalFixture, AssembledElementByElementIsItsIndependentGolden) {
  const std::string fixture = std::string(SLIPWAY_TEST_DATA) + "/checkpoints/" + GetParam();
  const auto checkpoint = ReadCheckpoint(fixture, {});
  ASSERT_TRUE(checkpoint.ok()) << Describe(checkpoint.status());
  EXPECT_EQ(test::CompareWithGolden(**checkpoint, fixture + "/golden_hf"), "");
}

INSTANTIATE_TEST_SUITE_P(TorchDist, CanonicalFixture,
                         testing::Values("llama3_tp2_pp2_torch_dist", "llama-tied_tp1_pp2_nonhomogeneous_torch_dist",
                                         "qwen3_tp2_pp2_mcore014_torch_dist", "mistral_tp1_pp1_fp16_torch_dist",
                                         "llama2_tp4_pp1_padded-vocab_torch_dist", "core0.12_llama3_tp2_pp1",
                                         "llama3_tp2_pp1_dp2_optimizer_torch_dist", "bridge-native_llama3_tp2_pp1"),
                         [](const auto& fixture) {
                           std::string name = fixture.param;
                           for (char& c : name) {
                             c = c == '-' || c == '.' ? '_' : c;
                           }
                           return name;
                         });

}  // namespace
}  // namespace slipway::engine
