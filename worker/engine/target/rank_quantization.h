// How a target with ranks stores quantized weights: tables of the target's, and what its config says of them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "worker/engine/quantize/format.h"
#include "worker/engine/target/rank_layout.h"

namespace slipway::engine {

// One of Formats() in a layout of the target's. One without tensors leaves weights as values, which the server
// quantizes. A format may have several rows, of other activations: the first is taken that the ranges suffice for.
struct RankFormat {
  const Format* format = nullptr;
  Layout layout;
  std::span<const std::int32_t> groups = {};  // that can be chosen; empty: the coding's
  bool takes_experts = true;                  // experts of a layer, stacked
};

// A module of the ranks with a matrix; the same name is the same module on each rank of a stage, and another one, but
// quantized alike, on each stage.
struct RankModule {
  std::string name;                    // "transformer.layers.0.attention.qkv"
  std::string source;                  // the first of Hugging Face's modules that it is made of, for messages
  std::vector<std::string> sources;    // all of them
  std::int64_t rows = 0;               // on a rank, of one matrix
  std::int64_t columns = 0;            // likewise
  std::int64_t experts = 0;            // on a rank, one matrix each; 0: the module is not one of stacked experts
  bool cut_columns = false;            // ranks share the columns of Hugging Face's module, not the rows
  const RankFormat* format = nullptr;  // null: it stays as it is
  std::int32_t group = 0;              // Coding::group
};

// What the target's files say of it.
struct RankQuantizationText {
  std::vector<TextFile> texts;  // config.json, and what else there is to write
  std::vector<std::string> warnings;
};

struct RankQuantization {
  std::span<const RankFormat> formats;
  std::span<const std::string_view> never_quantized;  // modules that end so
  std::string_view attention_weight = {};             // ranks' tensors that end so are followed, in their module's
  std::string_view kv_cache_scale = {};               // parent, by one of this name: F32 [1], with --kv-cache fp8
  float least_kv_cache_scale = 0;
  std::string_view key_scale = {};    // or ranks' constants that end so, after the name of an attention, are those of
  std::string_view value_scale = {};  // its keys and values. All empty: no format of keys and values is taken
  // OPTION_UNSUPPORTED, naming the module and what would work, where the server cannot take it. `config` is the text of
  // the target's config.json without quantization.
  absl::StatusOr<RankQuantizationText> (*describe)(const std::vector<RankModule>& modules, KvCache kv_cache,
                                                   const RankRequest& request, std::string_view config) = nullptr;
};

// The row that has the layout, which is null or of the table: null or not.
const RankFormat* FindRankFormat(const RankQuantization& quantization, const Layout* layout);

}  // namespace slipway::engine
