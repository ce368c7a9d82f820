#include "worker/engine/model/derive.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "worker/engine/model/architecture.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kMaximumLayers = 1 << 16;

constexpr std::string_view kEmbedding = "embedding.word_embeddings.weight";
constexpr std::string_view kQkv = "decoder.layers.{layer}.self_attention.linear_qkv.weight";
constexpr std::string_view kProjection = "decoder.layers.{layer}.self_attention.linear_proj.weight";
constexpr std::string_view kFc1 = "decoder.layers.{layer}.mlp.linear_fc1.weight";
constexpr std::string_view kFc2 = "decoder.layers.{layer}.mlp.linear_fc2.weight";
constexpr std::string_view kExpertFc1 = "decoder.layers.{layer}.mlp.experts.{expert}.linear_fc1.weight";
constexpr std::string_view kExpertFc2 = "decoder.layers.{layer}.mlp.experts.{expert}.linear_fc2.weight";
constexpr std::string_view kSharedFc2 = "decoder.layers.{layer}.mlp.shared_experts.linear_fc2.weight";
constexpr std::string_view kExperts = ".mlp.experts.";

// What a tensor of a layer shows of its kind.
struct Sign {
  std::string_view within;  // the name inside the layer begins so
  std::optional<Mixer> mixer;
  std::optional<Feed> feed;
};

constexpr auto kSigns = std::to_array<Sign>({
    {"self_attention.linear_", Mixer::kAttention, std::nullopt},
    {"self_attention.in_proj.", Mixer::kLinearAttention, std::nullopt},
    {"mixer.", Mixer::kMamba, std::nullopt},
    {"mlp.linear_fc", std::nullopt, Feed::kDense},
    {"mlp.router.", std::nullopt, Feed::kExperts},
    {"mlp.experts.", std::nullopt, Feed::kExperts},
});

// Takes a number off the front of `text`; nullopt where there is none or it is past all limits.
std::optional<std::int64_t> TakeNumber(std::string_view& text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 0 || number >= kMaximumLayers) {
    return std::nullopt;
  }
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

bool TakePrefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) {
    return false;
  }
  text.remove_prefix(prefix.size());
  return true;
}

// Notes what `name` shows of the layer that it is in, if it is in one of `container`.
void NoteKind(std::string_view name, std::string_view container, std::vector<LayerKind>& kinds) {
  if (!TakePrefix(name, container)) {
    return;
  }
  const std::optional<std::int64_t> layer = TakeNumber(name);
  if (!layer || !TakePrefix(name, ".")) {
    return;
  }
  TakePrefix(name, "transformer_layer.");
  if (static_cast<std::size_t>(*layer) >= kinds.size()) {
    kinds.resize(static_cast<std::size_t>(*layer) + 1, LayerKind{Mixer::kNone, Feed::kNone});
  }
  LayerKind& kind = kinds[static_cast<std::size_t>(*layer)];
  for (const Sign& sign : kSigns) {
    if (name.starts_with(sign.within)) {
      kind.mixer = sign.mixer.value_or(kind.mixer);
      kind.feed = sign.feed.value_or(kind.feed);
    }
  }
}

template <typename Value>
void Fill(std::optional<Value>& value, std::optional<Value> evidence) {
  value = value ? value : evidence;
}

}  // namespace

TensorEvidence::TensorEvidence(const std::map<std::string, CanonicalTensor>& tensors) {
  for (const auto& [name, tensor] : tensors) {
    first_.try_emplace(PatternOf(name), &tensor);
    NoteKind(name, "decoder.layers.", layers_);
    NoteKind(name, "mtp.layers.", predictions_);
    if (const std::size_t at = name.find(kExperts); at != std::string::npos) {
      std::string_view rest = std::string_view(name).substr(at + kExperts.size());
      experts_ = std::max(experts_, TakeNumber(rest).value_or(-1) + 1);
    }
  }
}

std::set<std::string, std::less<>> TensorEvidence::patterns() const {
  std::set<std::string, std::less<>> patterns;
  for (const auto& [pattern, tensor] : first_) {
    patterns.insert(patterns.end(), pattern);
  }
  return patterns;
}

std::optional<std::int64_t> TensorEvidence::Extent(std::string_view pattern, std::size_t axis) const {
  const auto found = first_.find(pattern);
  return found == first_.end() || axis >= found->second->shape.size() ? std::nullopt
                                                                      : std::optional(found->second->shape[axis]);
}

std::optional<DType> TensorEvidence::Type(std::string_view pattern) const {
  const auto found = first_.find(pattern);
  return found == first_.end() ? std::nullopt : std::optional(found->second->dtype);
}

void TensorEvidence::Complete(StatedConfiguration& stated) const {
  CompleteSizes(stated);
  CompleteExperts(stated);
  CompleteSwitches(stated);
}

void TensorEvidence::CompleteSizes(StatedConfiguration& stated) const {
  Fill(stated.layers, std::optional(static_cast<std::int64_t>(layers_.size())));
  Fill(stated.hidden_size, Extent(kEmbedding, 1));
  Fill(stated.ffn_hidden_size, Extent(kFc2, 1));
  const std::int64_t heads = stated.attention_heads.value_or(0);
  if (heads > 0) {
    if (const auto columns = Extent(kProjection, 1)) {
      Fill(stated.head_dimension, std::optional(*columns / heads));
    }
    if (const auto rows = Extent(kQkv, 0); rows && stated.head_dimension.value_or(0) > 0) {
      Fill(stated.query_groups, std::optional((*rows / *stated.head_dimension - heads) / 2));
    }
    Fill(stated.query_groups, std::optional(heads));
    Fill(stated.head_dimension, std::optional(stated.hidden_size.value_or(0) / heads));
  }
}

void TensorEvidence::CompleteExperts(StatedConfiguration& stated) const {
  if (experts_ == 0) {
    return;
  }
  Fill(stated.experts.count, std::optional(experts_));
  Fill(stated.experts.ffn_hidden_size, Extent(kExpertFc2, 1));
  Fill(stated.experts.shared_ffn_hidden_size, Extent(kSharedFc2, 1));
  Fill(stated.ffn_hidden_size, stated.experts.ffn_hidden_size);
}

void TensorEvidence::CompleteSwitches(StatedConfiguration& stated) const {
  const auto has = [this](std::string_view pattern) { return std::optional(Has(pattern)); };
  Fill(stated.latent_attention, has("decoder.layers.{layer}.self_attention.linear_kv_up_proj.weight"));
  Fill(stated.tied_embeddings, std::optional(!Has("output_layer.weight")));
  Fill(stated.qkv_bias, has("decoder.layers.{layer}.self_attention.linear_qkv.bias"));
  Fill(stated.linear_bias, std::optional(Has("decoder.layers.{layer}.mlp.linear_fc2.bias") ||
                                         Has("decoder.layers.{layer}.mlp.experts.{expert}.linear_fc2.bias")));
  Fill(stated.qk_norm,
       std::optional(!*stated.latent_attention && Has("decoder.layers.{layer}.self_attention.q_layernorm.weight")));
  const bool dense = Has(kFc1);
  const auto rows = Extent(dense ? kFc1 : kExpertFc1, 0);
  const auto width = Extent(dense ? kFc2 : kExpertFc2, 1);
  Fill(stated.gated, std::optional(rows && width && *rows % 2 == 0 && *rows / 2 == *width));
  if (!stated.normalization) {
    stated.normalization = Has("decoder.final_layernorm.bias") ? "LayerNorm" : "RMSNorm";
  }
}

}  // namespace slipway::engine
