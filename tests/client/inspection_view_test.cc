#include "client/inspection_view.h"

#include <algorithm>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/terminal.h"

namespace slipway {
namespace {

using nlohmann::ordered_json;
using testing::HasSubstr;
using testing::Not;

ordered_json Sample() {
  return ordered_json::parse(R"({
    "path": "/c/iter_0000100", "format": "torch_dist", "writer": "Megatron-Core 0.19 or later", "iteration": 100,
    "checkpoint_version": 3.0, "architecture": "DeepseekV3ForCausalLM", "model_type": "deepseek_v3",
    "summary": "DeepSeek-V3, R1", "alternatives": ["Glm4MoeLiteForCausalLM"],
    "configuration": {
      "layers": 61, "layer_counts": {"attention": 61, "linear_attention": 0, "mamba": 0, "dense": 3, "experts": 58},
      "layer_pattern": null, "prediction_layers": 1, "hidden_size": 7168, "ffn_hidden_size": 18432,
      "attention_heads": 128, "vocabulary_size": 129280, "padded_vocabulary_size": 129536, "maximum_positions": 4096,
      "normalization": "RMSNorm", "norm_epsilon": 1e-06, "activation": "silu", "gated": true,
      "position_embedding": "rope", "rotary_base": 10000.0, "rotary_percent": 1.0, "yarn": null,
      "experts": {"count": 256, "active": 8, "shared": 1, "ffn_hidden_size": 2048, "score_function": "sigmoid"},
      "latent_attention": {"query_rank": 1536, "key_value_rank": 512, "nope_dimension": 128, "rope_dimension": 64,
                           "value_dimension": 128}, "special": []},
    "parameters": 671026419200, "active_parameters": 37552000000,
    "layout": {"tensor_parallel": 2, "pipeline_parallel": 1, "virtual_pipeline_parallel": 0, "expert_parallel": 64},
    "dtypes": {"BF16": 900, "F32": 58}, "tensor_count": 958, "piece_count": 120000, "weight_bytes": 1342000000000,
    "files": {"count": 130, "bytes": 1342100000000},
    "ignored": [{"reason": "optimizer state", "count": 12, "bytes": 5, "examples": ["optimizer.x"]}],
    "notes": ["the export has no tokenizer"], "problems": [], "advice": []})");
}

TEST(InspectionView, AModelWithExpertsIsDescribedOnOnePage) {
  EXPECT_EQ(RenderInspection(Sample(), 0),
            "checkpoint  /c/iter_0000100\n"
            "format      torch_dist, version 3.0, written by Megatron-Core 0.19 or later, iteration 100\n"
            "model       DeepseekV3ForCausalLM (deepseek_v3): DeepSeek-V3, R1\n"
            "parameters  671B, of which 37.6B are active for a token\n"
            "layers      61: 3 dense, 58 with experts, and 1 that predict further tokens\n"
            "sizes       hidden 7168, feed-forward 18432, vocabulary 129280, padded to 129536, positions 4096\n"
            "attention   heads 128, latent, rank of queries 1536, of keys and values 512, dimension without positions "
            "128, with 64, of values 128\n"
            "experts     256, active 8, shared 1, feed-forward 2048, scores by sigmoid\n"
            "positions   rope, base 10000.0\n"
            "settings    RMSNorm, epsilon 1e-06, gated silu\n"
            "parallel    TP 2, PP 1, EP 64\n"
            "stored      958 tensors (900 BF16, 58 F32) in 120,000 pieces, 1.34 TB, in 130 files of 1.34 TB\n"
            "fits too    Glm4MoeLiteForCausalLM\n"
            "note        the export has no tokenizer\n"
            "export      possible: `slipway plan` shows what it would write\n"
            "\n"
            "IGNORED          COUNT  SIZE  FOR EXAMPLE\n"
            "optimizer state     12   5 B  optimizer.x\n");
}

TEST(InspectionView, FitsATerminal) {
  ordered_json inspection = Sample();
  inspection["tensors"] = {{{"name", "decoder.layers.mlp.experts.experts.linear_fc1.weight.of.a.very.long.name"},
                            {"dtype", "BF16"},
                            {"shape", {58, 256, 4096, 7168}},
                            {"pieces", 14848},
                            {"bytes", 1}}};
  std::istringstream text(RenderInspection(inspection, 80));
  for (std::string line; std::getline(text, line);) {
    EXPECT_LE(DisplayWidth(line), 80U) << line;
  }
}

TEST(InspectionView, AProblemIsFollowedByWhatToDo) {
  ordered_json inspection = Sample();
  inspection["problems"] = {"TENSOR_MISSING: no \033[31mnorm"};
  inspection["advice"] = {"Look for it."};
  const std::string text = RenderInspection(inspection, 0);
  EXPECT_THAT(text, HasSubstr("problem     TENSOR_MISSING: no ?[31mnorm\nto do       Look for it.\n"));
  EXPECT_THAT(text, Not(HasSubstr("possible")));
}

TEST(InspectionView, HybridLayersAreCountedByKind) {
  ordered_json inspection = Sample();
  ordered_json& configuration = inspection["configuration"];
  configuration["layers"] = 6;
  configuration["prediction_layers"] = 0;
  configuration["layer_counts"] = {{"attention", 1}, {"linear_attention", 0}, {"mamba", 3}, {"dense", 2}};
  configuration["layer_pattern"] = "M-M*M-";
  configuration["mamba"] = {{"heads", 8}, {"state_dimension", 128}};
  const std::string text = RenderInspection(inspection, 0);
  EXPECT_THAT(text, HasSubstr("layers      6: 3 Mamba, 1 full attention, 2 dense\n"));
  EXPECT_THAT(text, HasSubstr("mamba       heads 8, state 128\n"));
  EXPECT_THAT(text, HasSubstr("pattern     M-M*M-\n"));
}

TEST(InspectionView, WhatAServerLeavesOutIsLeftOut) {
  for (const char* text :
       {"{}", "[]", "null", R"({"configuration": 7, "layout": [], "ignored": {}, "tensors": 1})",
        R"({"dtypes": [1], "problems": "x", "notes": {"a": 1}, "configuration": {"experts": "a"}})"}) {
    EXPECT_THAT(RenderInspection(ordered_json::parse(text), 40), HasSubstr("not recognized")) << text;
  }
}

}  // namespace
}  // namespace slipway
