#include "worker/engine/model/derive.h"

#include <algorithm>
#include <array>
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
constexpr std::string_view kLatentProjection = "decoder.layers.{layer}.mlp.fc1_latent_proj.weight";
constexpr std::string_view kQueryUp = "decoder.layers.{layer}.self_attention.linear_q_up_proj.weight";
constexpr std::string_view kQuery = "decoder.layers.{layer}.self_attention.linear_q_proj.weight";
constexpr std::string_view kKeyValueDown = "decoder.layers.{layer}.self_attention.linear_kv_down_proj.weight";
constexpr std::string_view kKeyValueUp = "decoder.layers.{layer}.self_attention.linear_kv_up_proj.weight";
constexpr std::string_view kIndexerKey =
    "decoder.layers.{layer}.self_attention.core_attention.indexer.linear_wk.weight";
constexpr std::string_view kIndexerWeights =
    "decoder.layers.{layer}.self_attention.core_attention.indexer.linear_weights_proj.weight";
constexpr std::string_view kExperts = ".mlp.experts.";

constexpr std::string_view kDeltaNetDecay = "decoder.layers.{layer}.self_attention.A_log";
constexpr std::string_view kDeltaNetNorm = "decoder.layers.{layer}.self_attention.out_norm.weight";
constexpr std::string_view kDeltaNetConvolution = "decoder.layers.{layer}.self_attention.conv1d.weight";
constexpr std::string_view kMambaDecay = "decoder.layers.{layer}.mixer.A_log";
constexpr std::string_view kMambaOutput = "decoder.layers.{layer}.mixer.out_proj.weight";
constexpr std::string_view kMambaConvolution = "decoder.layers.{layer}.mixer.conv1d.weight";
constexpr std::array<std::string_view, 2> kVisionLayers = {"visual.blocks.", "vision_model.decoder.layers."};
constexpr std::string_view kVisionMergers = "vision_model.decoder.deepstack_merger_list.";
constexpr std::size_t kKernelAxis = 2;  // of a convolution [channels, 1, kernel]

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

// The number that follows `container` in `name`, which loses both; nullopt where it begins otherwise.
std::optional<std::size_t> TakeLayer(std::string_view& name, std::string_view container) {
  if (!TakePrefix(name, container)) {
    return std::nullopt;
  }
  const std::optional<std::int64_t> layer = TakeNumber(name);
  return layer && TakePrefix(name, ".") ? std::optional(static_cast<std::size_t>(*layer)) : std::nullopt;
}

// Notes what `name`, inside the layer `layer`, shows of it.
void NoteKind(std::string_view name, std::size_t layer, std::vector<LayerKind>& kinds) {
  if (layer >= kinds.size()) {
    kinds.resize(layer + 1, LayerKind{Mixer::kNone, Feed::kNone});
  }
  LayerKind& kind = kinds[layer];
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
    NoteLayer(name);
    if (const std::size_t at = name.find(kExperts); at != std::string::npos) {
      std::string_view rest = std::string_view(name).substr(at + kExperts.size());
      experts_ = std::max(experts_, TakeNumber(rest).value_or(-1) + 1);
    }
  }
}

void TensorEvidence::NoteLayer(std::string_view name) {
  const auto count = [](const std::optional<std::size_t>& layer) {
    return layer ? static_cast<std::int64_t>(*layer) + 1 : 0;
  };
  for (const std::string_view container : kVisionLayers) {
    std::string_view within = name;
    vision_layers_ = std::max(vision_layers_, count(TakeLayer(within, container)));
  }
  std::string_view of_merger = name;
  vision_mergers_ = std::max(vision_mergers_, count(TakeLayer(of_merger, kVisionMergers)));
  if (const auto layer = TakeLayer(name, "decoder.layers.")) {
    NoteKind(name, *layer, layers_);
    return;
  }
  const auto outer = TakeLayer(name, "mtp.layers.");
  if (!outer) {
    return;
  }
  if (*outer >= predictions_.size()) {
    predictions_.resize(*outer + 1);
  }
  if (const auto inner = TakeLayer(name, "mtp_model_layer.layers.")) {
    NoteKind(name, *inner, predictions_[*outer]);
    return;
  }
  NoteKind(TakePrefix(name, "transformer_layer.") ? name : "", 0, predictions_[*outer]);
}

std::int64_t TensorEvidence::prediction_depth() const {
  std::size_t depth = 1;
  for (const std::vector<LayerKind>& layers : predictions_) {
    depth = std::max(depth, layers.size());
  }
  return static_cast<std::int64_t>(depth);
}

std::vector<LayerKind> TensorEvidence::prediction_kinds() const {
  std::vector<LayerKind> kinds;
  const auto depth = static_cast<std::size_t>(prediction_depth());
  if (predictions_.size() * depth > kMaximumLayers) {
    return kinds;  // their tensors will be unknown ones
  }
  for (const std::vector<LayerKind>& layers : predictions_) {
    kinds.insert(kinds.end(), layers.begin(), layers.end());
    kinds.resize(kinds.size() + depth - layers.size(), LayerKind{Mixer::kNone, Feed::kNone});
  }
  return kinds;
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
  CompleteLatentAttention(stated);
  CompleteExperts(stated);
  CompleteMixers(stated);
  CompleteVision(stated);
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
    const auto rows = Extent(kQkv, 0);
    const std::int64_t with_gates = 2 * (heads + stated.query_groups.value_or(heads));
    Fill(stated.attention_gate,
         std::optional(rows && stated.head_dimension.value_or(0) > 0 && *rows / *stated.head_dimension == with_gates));
    if (rows && stated.head_dimension.value_or(0) > 0 && !*stated.attention_gate) {
      Fill(stated.query_groups, std::optional((*rows / *stated.head_dimension - heads) / 2));
    }
    Fill(stated.query_groups, std::optional(heads));
    Fill(stated.head_dimension, std::optional(stated.hidden_size.value_or(0) / heads));
  }
}

// Queries are [nope | rope] a head, compressed keys and values [rank | rope], keys and values [nope | value] a head.
void TensorEvidence::CompleteLatentAttention(StatedConfiguration& stated) const {
  const auto rank = Extent(kKeyValueUp, 1);
  if (!rank) {
    return;
  }
  LatentAttentionConfiguration& latent = stated.latent;
  Fill(latent.query_rank, Extent(kQueryUp, 1));
  Fill(latent.key_value_rank, rank);
  if (const auto rows = Extent(kKeyValueDown, 0)) {
    Fill(latent.rope_dimension, std::optional(*rows - *rank));
  }
  const std::int64_t heads = stated.attention_heads.value_or(0);
  if (heads > 0) {
    if (const auto rows = Extent(Has(kQueryUp) ? kQueryUp : kQuery, 0); rows && latent.rope_dimension) {
      Fill(latent.nope_dimension, std::optional(*rows / heads - *latent.rope_dimension));
    }
    if (const auto columns = Extent(kProjection, 1)) {
      Fill(latent.value_dimension, std::optional(*columns / heads));
    }
  }
  Fill(stated.indexer.heads, Extent(kIndexerWeights, 0));
  Fill(stated.indexer.head_dimension, Extent(kIndexerKey, 0));
}

void TensorEvidence::CompleteExperts(StatedConfiguration& stated) const {
  if (experts_ == 0) {
    return;
  }
  Fill(stated.experts.count, std::optional(experts_));
  Fill(stated.experts.ffn_hidden_size, Extent(kExpertFc2, 1));
  Fill(stated.experts.shared_ffn_hidden_size, Extent(kSharedFc2, 1));
  Fill(stated.experts.latent_size, Extent(kLatentProjection, 0));
  Fill(stated.ffn_hidden_size, stated.experts.ffn_hidden_size);
}

void TensorEvidence::CompleteMixers(StatedConfiguration& stated) const {
  Fill(stated.linear_attention.value_heads, Extent(kDeltaNetDecay, 0));
  Fill(stated.linear_attention.value_dimension, Extent(kDeltaNetNorm, 0));
  Fill(stated.linear_attention.kernel, Extent(kDeltaNetConvolution, kKernelAxis));
  Fill(stated.mamba.heads, Extent(kMambaDecay, 0));
  Fill(stated.mamba.kernel, Extent(kMambaConvolution, kKernelAxis));
  if (const auto width = Extent(kMambaOutput, 1); width && stated.mamba.heads.value_or(0) > 0) {
    Fill(stated.mamba.head_dimension, std::optional(*width / *stated.mamba.heads));
  }
}

void TensorEvidence::CompleteVision(StatedConfiguration& stated) const {
  // A vision_config that leaves something out means other numbers than those that happen to be stored.
  if (!stated.vision.layers && vision_layers_ > 0) {
    stated.vision.layers = vision_layers_;
    stated.vision.mergers = vision_mergers_;
  }
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
