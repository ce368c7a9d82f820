// What Megatron-LM's arguments say, in the spellings of its versions.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "common/error.h"
#include "worker/engine/model/stated_configuration.h"

namespace slipway::engine {
namespace {

using nlohmann::json;

StatedConfiguration Read(const json& arguments) {
  auto stated = ReadArguments(arguments);
  EXPECT_TRUE(stated.ok()) << Describe(stated.status());
  return stated.ok() ? *stated : StatedConfiguration{};
}

TEST(Arguments, AnEmptyObjectStatesNothing) {
  const StatedConfiguration stated = Read(json::object());
  EXPECT_FALSE(stated.layers);
  EXPECT_FALSE(stated.tied_embeddings);
  EXPECT_FALSE(stated.gated);
  EXPECT_TRUE(stated.unsupported.empty());
}

TEST(Arguments, QueryGroupsCountOnlyWithTheirFlag) {
  EXPECT_EQ(Read({{"num_attention_heads", 8}, {"group_query_attention", true}, {"num_query_groups", 2}}).query_groups,
            2);
  EXPECT_EQ(Read({{"num_attention_heads", 8}, {"group_query_attention", false}, {"num_query_groups", 1}}).query_groups,
            8);
  EXPECT_FALSE(Read({{"num_attention_heads", 8}}).query_groups);
}

TEST(Arguments, OldAndNewSpellingsMeanTheSame) {
  EXPECT_EQ(Read({{"norm_epsilon", 1e-6}}).norm_epsilon, 1e-6);
  EXPECT_EQ(Read({{"layernorm_epsilon", 1e-6}}).norm_epsilon, 1e-6);
  EXPECT_EQ(Read({{"add_bias_linear", false}}).linear_bias, false);
  EXPECT_EQ(Read({{"disable_bias_linear", true}}).linear_bias, false);
  EXPECT_EQ(Read({{"apply_layernorm_1p", true}}).zero_centered_gamma, true);
  EXPECT_EQ(Read({{"layernorm_zero_centered_gamma", true}}).zero_centered_gamma, true);
  EXPECT_EQ(Read({{"untie_embeddings_and_output_weights", true}}).tied_embeddings, false);
  EXPECT_EQ(Read({{"share_embeddings_and_output_weights", false}}).tied_embeddings, false);
  EXPECT_EQ(Read({{"num_layers", nullptr}, {"encoder_num_layers", 3}}).layers, 3);
}

TEST(Arguments, BiasesEverywhereAreBiasesInTheAttentionToo) {
  const StatedConfiguration stated = Read({{"add_bias_linear", true}, {"add_qkv_bias", false}});
  EXPECT_EQ(stated.qkv_bias, true);
  EXPECT_EQ(stated.linear_bias, true);
}

TEST(Arguments, RotaryPositionsMayBeASwitchBesideTheDefaultOfLearnedOnes) {
  EXPECT_EQ(Read({{"position_embedding_type", "rope"}}).position_embedding, "rope");
  EXPECT_EQ(Read({{"position_embedding_type", "learned_absolute"}, {"use_rotary_position_embeddings", true}})
                .position_embedding,
            "rope");
  EXPECT_EQ(Read({{"position_embedding_type", "learned_absolute"}}).position_embedding, "learned_absolute");
}

TEST(Arguments, ScalingOfRotaryPositionsIsStatedEvenWhereThereIsNone) {
  EXPECT_EQ(Read({{"use_rope_scaling", true}, {"rope_scaling_factor", 32.0}}).llama3_rope_factor, 32.0);
  EXPECT_EQ(Read({{"use_rope_scaling", true}}).llama3_rope_factor, 8.0);
  EXPECT_EQ(Read({{"use_rope_scaling", false}, {"rope_scaling_factor", 8.0}}).llama3_rope_factor, 0.0);
  EXPECT_EQ(Read({{"rotary_seq_len_interpolation_factor", 4}}).linear_rope_factor, 4.0);
  EXPECT_EQ(Read({{"rotary_seq_len_interpolation_factor", nullptr}}).linear_rope_factor, 0.0);
}

TEST(Arguments, AWindowCountsTheCurrentTokenToo) {
  EXPECT_EQ(Read({{"window_size", json::array({4095, 0})}}).sliding_window, 4096);
  EXPECT_EQ(Read({{"window_size", 4096}}).sliding_window, 4096);
  EXPECT_EQ(Read({{"window_size", json::array({-1, 0})}}).sliding_window, 0);
  EXPECT_EQ(Read({{"window_size", nullptr}}).sliding_window, 0);
}

TEST(Arguments, TheTypeOfParametersIsReadInAnyForm) {
  EXPECT_EQ(Read({{"params_dtype", "torch.bfloat16"}}).parameters_dtype, DType::kBF16);
  EXPECT_EQ(Read({{"params_dtype", {{"opaque", "torch.float16"}}}}).parameters_dtype, DType::kF16);
  EXPECT_EQ(Read({{"params_dtype", {{"opaque", "something"}}}, {"bf16", true}}).parameters_dtype, DType::kBF16);
  EXPECT_EQ(Read({{"fp16", true}}).parameters_dtype, DType::kF16);
  EXPECT_FALSE(Read({{"bf16", false}}).parameters_dtype);
}

TEST(Arguments, WhatMakesAnotherModelOfItIsNamed) {
  for (const json& arguments :
       {json{{"rotary_interleaved", true}}, json{{"window_attn_skip_freq", 2}}, json{{"softmax_type", "learnable"}},
        json{{"attn_logit_softcapping", 50.0}}, json{{"glu_linear_offset", 1.0}}, json{{"qk_l2_norm", true}},
        json{{"activation_func_clamp_value", 7.0}}, json{{"use_mup", true}}, json{{"softmax_scale", 0.3}},
        json{{"rotary_seq_len_interpolation_factor", 2}, {"use_rope_scaling", true}}}) {
    const StatedConfiguration stated = Read(arguments);
    ASSERT_EQ(stated.unsupported.size(), 1U) << arguments;
    EXPECT_NE(stated.unsupported.front().find(arguments.begin().key()), std::string::npos);
  }
}

TEST(Arguments, ValuesThatSwitchNothingOnAreHarmless) {
  const StatedConfiguration stated = Read({{"num_experts", nullptr},
                                           {"multi_latent_attention", false},
                                           {"softmax_type", "vanilla"},
                                           {"rotary_percent", 1.0},
                                           {"glu_linear_offset", 0.0},
                                           {"softmax_scale", nullptr},
                                           {"use_rope_scaling", true},
                                           {"rotary_seq_len_interpolation_factor", nullptr},
                                           {"hybrid_override_pattern", nullptr}});
  EXPECT_TRUE(stated.unsupported.empty());
}

TEST(Arguments, AValueOfTheWrongTypeOrRangeIsRefusedByName) {
  for (const json& arguments :
       {json{{"num_layers", "many"}}, json{{"hidden_size", -1}}, json{{"hidden_size", 1ULL << 63}},
        json{{"num_attention_heads", 2.5}}, json{{"swiglu", "yes"}}, json{{"rotary_base", "big"}},
        json{{"window_size", "wide"}}, json{{"normalization", 3}}}) {
    const auto stated = ReadArguments(arguments);
    EXPECT_EQ(ReasonOf(stated.status()), Reason::kConfigurationInvalid) << arguments;
    EXPECT_NE(Describe(stated.status()).find(arguments.begin().key()), std::string::npos) << arguments;
  }
}

}  // namespace
}  // namespace slipway::engine
