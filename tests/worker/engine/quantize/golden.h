// Exports that other tools made: names, types and shapes of their tensors, and their configurations; with the weights
// that they were made from (tests/data/quantization).
#pragma once

#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "worker/engine/dtype.h"
#include "worker/engine/quantize/recipe.h"

namespace slipway::engine::test {

// How an export came about.
struct Golden {
  std::string source;  // "llama"
  std::string name;    // "fp8"
  std::string format;
  ConfigForm form = ConfigForm::kModelOpt;
  Activations activations = Activations::kNone;
  std::int32_t group = 0;  // 0: the coding's
  KvCache kv_cache = KvCache::kNone;
  bool mlp_only = false;
  std::optional<bool> symmetric = {};
};

inline const std::vector<Golden>& Goldens() {
  using enum Activations;
  constexpr ConfigForm kModelOpt = ConfigForm::kModelOpt;
  constexpr ConfigForm kCt = ConfigForm::kCompressedTensors;
  constexpr ConfigForm kOwn = ConfigForm::kNative;
  static const std::vector<Golden> kGoldens = {
      {"llama", "fp8", "fp8", kModelOpt, kStatic},
      {"llama", "fp8_kv_fp8", "fp8", kModelOpt, kStatic, 0, KvCache::kFp8},
      {"llama", "fp8_pc_pt", "fp8-per-channel", kModelOpt, kDynamic},
      {"llama256", "fp8_pb_wo", "fp8-block", kModelOpt, kDynamic},
      {"llama", "int8_wo", "int8", kModelOpt, kNone},
      {"llama", "int8_default", "int8", kModelOpt, kStatic},
      {"llama", "int8_sq", "int8-smoothquant", kModelOpt, kStatic},
      {"llama", "int4_wo", "int4", kModelOpt, kNone},
      {"llama", "int4_awq", "int4-awq", kModelOpt, kNone},
      {"llama", "w4a8_awq", "w4a8-awq", kModelOpt, kStatic},
      {"llama", "nvfp4", "nvfp4", kModelOpt, kStatic},
      {"llama", "nvfp4_kv_fp8", "nvfp4", kModelOpt, kStatic, 0, KvCache::kFp8},
      {"llama", "nvfp4_kv_nvfp4", "nvfp4", kModelOpt, kStatic, 0, KvCache::kNvfp4},
      {"llama", "nvfp4_mlp_only", "nvfp4", kModelOpt, kStatic, 0, KvCache::kNone, true},
      {"llama256", "nvfp4", "nvfp4", kModelOpt, kStatic},
      {"llama", "w4a16_nvfp4", "nvfp4", kModelOpt, kNone},
      {"llama", "nvfp4_awq_lite", "nvfp4-awq", kModelOpt, kStatic},
      {"llama", "mxfp4", "mxfp4", kModelOpt, kDynamic},
      {"llama", "mxfp8", "mxfp8", kModelOpt, kDynamic},
      {"mixtral", "fp8", "fp8", kModelOpt, kStatic},
      {"mixtral", "fp8_kv_fp8", "fp8", kModelOpt, kStatic, 0, KvCache::kFp8},
      {"mixtral", "int8_wo", "int8", kModelOpt, kNone},
      {"mixtral", "mxfp8", "mxfp8", kModelOpt, kDynamic},
      {"mixtral", "nvfp4", "nvfp4", kModelOpt, kStatic},
      {"mixtral", "nvfp4_mlp_only", "nvfp4", kModelOpt, kStatic, 0, KvCache::kNone, true},
      {"llama", "ct_fp8", "fp8", kCt, kStatic},
      {"llama", "ct_fp8_dynamic", "fp8-per-channel", kCt, kDynamic},
      {"llama", "ct_fp8_block", "fp8-block", kCt, kDynamic},
      {"llama256", "ct_fp8_block", "fp8-block", kCt, kDynamic},
      {"llama", "ct_w8a8", "int8", kCt, kDynamic},
      {"llama", "ct_w8a8_static", "int8", kCt, kStatic},
      {"llama", "ct_w4a16", "int4", kCt, kNone},
      {"llama", "ct_w4a16_asym", "int4", kCt, kNone, 0, KvCache::kNone, false, false},
      {"llama", "ct_w4a8", "int4", kCt, kDynamic},
      {"llama", "ct_nvfp4", "nvfp4", kCt, kStatic},
      {"llama", "ct_mxfp4", "mxfp4", kCt, kDynamic},
      {"llama", "ct_mxfp8", "mxfp8", kCt, kDynamic},
      {"llama", "awq_rtn", "int4", kOwn, kNone, 32},
      {"llama", "gptq_rtn", "int4-gptq", kOwn, kNone, 32},
  };
  return kGoldens;
}

inline nlohmann::ordered_json ReadJson(const std::string& name) {
  std::ifstream file(std::string(SLIPWAY_TEST_DATA) + "/quantization/" + name + ".json");
  return nlohmann::ordered_json::parse(file);
}

inline nlohmann::ordered_json ReadGolden(const Golden& golden) { return ReadJson(golden.source + "_" + golden.name); }

// Names, types and shapes of the tensors of a source, in the model's order: [["lm_head.weight", "BF16", [512, 128]],
// ...].
inline nlohmann::ordered_json ReadSource(const std::string& source) { return ReadJson("source_" + source); }

inline const Layout* LayoutOf(const Golden& golden) {
  return ChooseLayout(
      *FindFormat(golden.format),
      {.form = golden.form, .symmetric = golden.symmetric, .activations = golden.activations, .has_ranges = true});
}

// The format everywhere, or in feed-forward layers alone.
inline Recipe RecipeFor(const Golden& golden) {
  Recipe recipe = RecipeOf(*FindFormat(golden.format));
  if (golden.mlp_only) {
    recipe.rules.front().modules = {"*.mlp.*", "*.block_sparse_moe.*"};
  }
  return recipe;
}

// The module of a matrix; empty for anything else.
inline std::string ModuleOfMatrix(const nlohmann::ordered_json& tensor) {
  const std::string name = tensor[0];
  const std::string suffix = ".weight";
  return tensor[2].size() == 2 && name.ends_with(suffix) ? name.substr(0, name.size() - suffix.size()) : "";
}

inline bool IsQuantized(const Recipe& recipe, const std::string& module) {
  return RuleFor(recipe, module, std::nullopt, 0) != nullptr;
}

}  // namespace slipway::engine::test
