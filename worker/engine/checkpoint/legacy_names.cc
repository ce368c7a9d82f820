#include "worker/engine/checkpoint/legacy_names.h"

#include <algorithm>
#include <array>
#include <span>

namespace slipway::engine {
namespace {

struct Renaming {
  std::string_view stored;
  std::string_view core;
};

constexpr std::array<std::string_view, 2> kWrappers = {"module.", "model."};

// Where the nested dictionaries before Megatron-Core kept what.
constexpr auto kModules = std::to_array<Renaming>({
    {"language_model.embedding.", "embedding."},
    {"language_model.encoder.", "decoder."},
    {"language_model.transformer.", "decoder."},
    {"language_model.output_layer.", "output_layer."},
});

// Inside a layer, or inside the stack of layers.
constexpr auto kInsideDecoder = std::to_array<Renaming>({
    {"input_norm.", "input_layernorm."},
    {"attention.query_key_value.", "self_attention.linear_qkv."},
    {"self_attention.query_key_value.", "self_attention.linear_qkv."},
    {"attention.dense.", "self_attention.linear_proj."},
    {"self_attention.dense.", "self_attention.linear_proj."},
    {"post_attention_norm.", "pre_mlp_layernorm."},
    {"post_attention_layernorm.", "pre_mlp_layernorm."},
    {"mlp.dense_h_to_4h.", "mlp.linear_fc1."},
    {"mlp.dense_4h_to_h.", "mlp.linear_fc2."},
    {"final_norm.", "final_layernorm."},
});

struct Sharing {
  std::string_view ending;  // of the name
  RankSharing sharing;
};

constexpr auto kSharing = std::to_array<Sharing>({
    {"embedding.word_embeddings.weight", RankSharing::kRows},
    {"embedding.position_embeddings.weight", RankSharing::kReplicated},
    {"output_layer.weight", RankSharing::kRows},
    {"output_layer.bias", RankSharing::kRows},
    {".final_norm.weight", RankSharing::kReplicated},
    {".final_norm.bias", RankSharing::kReplicated},
    {"layernorm.weight", RankSharing::kReplicated},
    {"layernorm.bias", RankSharing::kReplicated},
    {".layer_norm_weight", RankSharing::kReplicated},
    {".layer_norm_bias", RankSharing::kReplicated},
    {".self_attention.linear_qkv.weight", RankSharing::kRows},
    {".self_attention.linear_qkv.bias", RankSharing::kRows},
    {".self_attention.linear_proj.weight", RankSharing::kColumns},
    {".self_attention.linear_proj.bias", RankSharing::kReplicated},
    {".self_attention.core_attention.softmax_offset", RankSharing::kRows},
    {".mlp.linear_fc1.weight", RankSharing::kFirstLinear},
    {".mlp.linear_fc1.bias", RankSharing::kFirstLinear},
    {".mlp.linear_fc2.weight", RankSharing::kColumns},
    {".mlp.linear_fc2.bias", RankSharing::kReplicated},
});

struct Ignored {
  std::string_view ending;
  std::string_view reason;
};

constexpr auto kIgnored = std::to_array<Ignored>({
    {"._extra_state", "extra state of Transformer Engine"},
    {"word_embeddings_for_head.weight", "tied copy of the word embeddings"},
    {".inv_freq", "rotary frequencies, which follow from the configuration"},
});

std::string_view WithoutWrappers(std::string_view path) {
  while (true) {
    const auto* const wrapper =
        std::ranges::find_if(kWrappers, [path](std::string_view prefix) { return path.starts_with(prefix); });
    if (wrapper == kWrappers.end()) {
      return path;
    }
    path.remove_prefix(wrapper->size());
  }
}

std::string Rename(std::span<const Renaming> table, std::string_view name) {
  for (const Renaming& row : table) {
    if (name.starts_with(row.stored)) {
      return std::string(row.core).append(name.substr(row.stored.size()));
    }
  }
  return std::string(name);
}

// Length of "decoder.layers.<number>." or "decoder." at the front of the name.
std::size_t DecoderPrefixLength(std::string_view name) {
  constexpr std::string_view kDecoder = "decoder.";
  constexpr std::string_view kLayers = "decoder.layers.";
  if (!name.starts_with(kLayers)) {
    return kDecoder.size();
  }
  const std::size_t dot = name.find('.', kLayers.size());
  return dot == std::string_view::npos ? name.size() : dot + 1;
}

}  // namespace

std::string CoreName(std::string_view path) {
  path = WithoutWrappers(path);
  std::string name = Rename(kModules, path);
  if (name == path || !name.starts_with("decoder.")) {
    return name;
  }
  const std::size_t prefix = DecoderPrefixLength(name);
  return name.substr(0, prefix) + Rename(kInsideDecoder, std::string_view(name).substr(prefix));
}

bool HasVersionedQkvOrder(std::string_view path) {
  return path.ends_with(".query_key_value.weight") || path.ends_with(".query_key_value.bias");
}

std::optional<RankSharing> SharingOf(std::string_view core_name) {
  for (const Sharing& row : kSharing) {
    if (core_name.ends_with(row.ending)) {
      return row.sharing;
    }
  }
  return std::nullopt;
}

std::optional<std::string_view> ReasonToIgnore(std::string_view path) {
  for (const Ignored& row : kIgnored) {
    if (path.ends_with(row.ending)) {
      return row.reason;
    }
  }
  return std::nullopt;
}

}  // namespace slipway::engine
