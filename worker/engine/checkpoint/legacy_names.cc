#include "worker/engine/checkpoint/legacy_names.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <utility>

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

// The first that matches counts. Experts, shared experts and the only MLP of a layer end alike.
constexpr auto kSharing = std::to_array<Sharing>({
    {"embedding.word_embeddings.weight", RankSharing::kRows},
    {"embedding.position_embeddings.weight", RankSharing::kReplicated},
    {"output_layer.weight", RankSharing::kRows},
    {"output_layer.bias", RankSharing::kRows},
    {".mixer.norm.weight", RankSharing::kRows},
    {"norm.weight", RankSharing::kReplicated},
    {"norm.bias", RankSharing::kReplicated},
    {".layer_norm_weight", RankSharing::kReplicated},
    {".layer_norm_bias", RankSharing::kReplicated},
    {".self_attention.linear_qkv.weight", RankSharing::kRows},
    {".self_attention.linear_qkv.bias", RankSharing::kRows},
    {".self_attention.linear_proj.weight", RankSharing::kColumns},
    {".self_attention.linear_proj.bias", RankSharing::kReplicated},
    {".self_attention.core_attention.softmax_offset", RankSharing::kRows},
    // Multi-head latent attention.
    {".self_attention.linear_q_proj.weight", RankSharing::kRows},
    {".self_attention.linear_q_down_proj.weight", RankSharing::kLatent},
    {".self_attention.linear_kv_down_proj.weight", RankSharing::kLatent},
    {".self_attention.linear_q_up_proj.weight", RankSharing::kRows},
    {".self_attention.linear_kv_up_proj.weight", RankSharing::kRows},
    {".indexer.linear_wq_b.weight", RankSharing::kReplicated},
    {".indexer.linear_wk.weight", RankSharing::kReplicated},
    {".indexer.linear_weights_proj.weight", RankSharing::kReplicated},
    {".linear_fc1.weight", RankSharing::kFirstLinear},
    {".linear_fc1.bias", RankSharing::kFirstLinear},
    {".linear_fc2.weight", RankSharing::kColumns},
    {".linear_fc2.bias", RankSharing::kReplicated},
    {".router.weight", RankSharing::kReplicated},
    {".router.bias", RankSharing::kReplicated},
    {".router.expert_bias", RankSharing::kReplicated},
    {".shared_experts.gate_weight", RankSharing::kReplicated},
    {".mlp.fc1_latent_proj.weight", RankSharing::kReplicated},
    {".mlp.fc1_latent_proj.bias", RankSharing::kReplicated},
    {".mlp.fc2_latent_proj.weight", RankSharing::kReplicated},
    {".mlp.fc2_latent_proj.bias", RankSharing::kReplicated},
    {".eh_proj.weight", RankSharing::kRows},
    // Mamba and gated delta networks; their fused tensors come in parts (legacy_split.h).
    {".in_proj.weight.z", RankSharing::kRows},
    {".in_proj.weight.x", RankSharing::kRows},
    {".in_proj.weight.B", RankSharing::kRows},
    {".in_proj.weight.C", RankSharing::kRows},
    {".in_proj.weight.dt", RankSharing::kRows},
    {".in_proj.weight.query", RankSharing::kRows},
    {".in_proj.weight.key", RankSharing::kRows},
    {".in_proj.weight.value", RankSharing::kRows},
    {".in_proj.weight.beta", RankSharing::kRows},
    {".in_proj.weight.alpha", RankSharing::kRows},
    {".conv1d.weight.x", RankSharing::kRows},
    {".conv1d.weight.B", RankSharing::kRows},
    {".conv1d.weight.C", RankSharing::kRows},
    {".conv1d.bias.x", RankSharing::kRows},
    {".conv1d.bias.B", RankSharing::kRows},
    {".conv1d.bias.C", RankSharing::kRows},
    {".conv1d.weight.query", RankSharing::kRows},
    {".conv1d.weight.key", RankSharing::kRows},
    {".conv1d.weight.value", RankSharing::kRows},
    {".A_log", RankSharing::kRows},
    {".dt_bias", RankSharing::kRows},
    {".mixer.D", RankSharing::kRows},
    {".out_proj.weight", RankSharing::kColumns},
});

// Parameters of Mamba mixers that have another name on disk than at run time.
constexpr auto kInsideMixer = std::to_array<Renaming>({
    {"conv1d_weight", "conv1d.weight"},
    {"conv1d_bias", "conv1d.bias"},
});

constexpr std::string_view kExperts = ".mlp.experts.";
constexpr std::string_view kMixer = ".mixer.";

struct Ignored {
  std::string_view ending;
  std::string_view reason;
};

constexpr auto kIgnored = std::to_array<Ignored>({
    {"._extra_state", "extra state of Transformer Engine"},
    {"word_embeddings_for_head.weight", "tied copy of the word embeddings"},
    {".inv_freq", "rotary frequencies, which follow from the configuration"},
    {".router.local_tokens_per_expert", "counts of tokens, which training keeps"},
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

// `inside` is what follows "mlp.experts.".
std::string NameExpert(std::string_view inside) {
  constexpr std::string_view kListed = "local_experts.";
  if (inside.starts_with(kListed)) {
    return std::string("experts.").append(inside.substr(kListed.size()));
  }
  for (const std::string_view parameter :
       {"linear_fc1.weight", "linear_fc1.bias", "linear_fc2.weight", "linear_fc2.bias"}) {
    const std::string_view number = inside.starts_with(parameter) ? inside.substr(parameter.size()) : "";
    if (!number.empty() && number.find_first_not_of("0123456789") == std::string_view::npos) {
      return std::string("experts.").append(number).append(".").append(parameter);
    }
  }
  return std::string(inside);
}

// The spelling on disk of a name at run time.
std::string DiskName(std::string name) {
  if (const std::size_t experts = name.find(kExperts); experts != std::string::npos) {
    const std::size_t inside = experts + kExperts.size();
    return name.substr(0, inside) + NameExpert(std::string_view(name).substr(inside));
  }
  if (const std::size_t mixer = name.find(kMixer); mixer != std::string::npos) {
    const std::size_t inside = mixer + kMixer.size();
    return name.substr(0, inside) + Rename(kInsideMixer, std::string_view(name).substr(inside));
  }
  return name;
}

}  // namespace

std::string CoreName(std::string_view path) {
  path = WithoutWrappers(path);
  std::string name = Rename(kModules, path);
  if (name == path || !name.starts_with("decoder.")) {
    return DiskName(std::move(name));
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
  if (path.find("_quantizer.") != std::string_view::npos) {
    return "ModelOpt quantizer state";
  }
  for (const Ignored& row : kIgnored) {
    if (path.ends_with(row.ending)) {
      return row.reason;
    }
  }
  return std::nullopt;
}

}  // namespace slipway::engine
