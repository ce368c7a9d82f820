#include "worker/engine/checkpoint/canonical_name.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::engine {
namespace {

// Containers of layers: what follows is a layer's number, or the rest of the name where layers are stacked.
constexpr std::array<std::string_view, 3> kLayerContainers = {"decoder.layers.", "encoder.layers.", "mtp.layers."};

struct Alias {
  std::string_view stored;  // the beginning of the name
  std::string_view canonical;
};

constexpr auto kModelAliases = std::to_array<Alias>({
    {"decoder.final_norm.", "decoder.final_layernorm."},
});

// The layer inside a multi-token-prediction layer.
constexpr auto kInnerLayerAliases = std::to_array<Alias>({
    {"mtp_model_layer.", "transformer_layer."},
    {"transformer_layer.", "transformer_layer."},
});

// Names inside a layer. A norm that Transformer Engine fuses into the linear that follows is stored as that linear's,
// and some layer specifications rename norms on disk.
constexpr auto kLayerAliases = std::to_array<Alias>({
    {"self_attention.linear_qkv.layer_norm_", "input_layernorm."},
    {"self_attention.linear_q_proj.layer_norm_", "input_layernorm."},
    {"self_attention.linear_q_down_proj.layer_norm_", "input_layernorm."},
    {"self_attention.linear_kv_down_proj.layer_norm_", "input_layernorm."},
    {"self_attention.linear_qkv_down_proj.layer_norm_", "input_layernorm."},
    {"self_attention.in_proj.layer_norm_", "input_layernorm."},
    {"mixer.in_proj.layer_norm_", "input_layernorm."},
    {"norm.", "input_layernorm."},
    {"self_attention.linear_q_up_proj.layer_norm_", "self_attention.q_layernorm."},
    {"self_attention.linear_kv_up_proj.layer_norm_", "self_attention.kv_layernorm."},
    {"mlp.linear_fc1.layer_norm_", "pre_mlp_layernorm."},
    // Transformer Engine's fused sequence of operations: norm, first linear, activation, second linear.
    {"mlp.0.", "pre_mlp_layernorm."},
    {"mlp.1.basic_ops.0.", "mlp.linear_fc1."},
    {"mlp.1.basic_ops.1.", "mlp.linear_fc1."},
    {"mlp.3.basic_ops.0.", "mlp.linear_fc2."},
    {"mlp.3.basic_ops.1.", "mlp.linear_fc2."},
});

constexpr std::string_view kExperts = "mlp.experts.experts.";
constexpr std::string_view kCanonicalExperts = "mlp.experts.";

// Weights that are stored in parts: the end of the name without the part, and the parts' endings in order.
struct Split {
  std::string_view stem;
  std::array<std::string_view, 6> endings;  // unused ones are empty
  [[nodiscard]] std::size_t count() const {
    return static_cast<std::size_t>(std::ranges::find(endings, std::string_view()) - endings.begin());
  }
};

constexpr auto kSplits = std::to_array<Split>({
    {".weight", {"_w", "_v"}},  // gate, up
    {".bias", {"_w", "_v"}},
    {"mixer.in_proj.weight", {".z", ".x", ".B", ".C", ".dt"}},
    {"mixer.conv1d.weight", {".x", ".B", ".C"}},
    {"mixer.conv1d.bias", {".x", ".B", ".C"}},
    {"self_attention.in_proj.weight", {".query", ".key", ".value", ".z", ".beta", ".alpha"}},
    {"self_attention.conv1d.weight", {".query", ".key", ".value"}},
});

struct Part {
  const Split* split = nullptr;
  std::size_t index = 0;
};

std::optional<Part> FindPart(std::string_view name) {
  for (const Split& split : kSplits) {
    for (std::size_t i = 0; i < split.count(); ++i) {
      if (!name.ends_with(split.endings[i])) {
        continue;
      }
      if (name.substr(0, name.size() - split.endings[i].size()).ends_with(split.stem)) {
        return Part{&split, i};
      }
    }
  }
  return std::nullopt;
}

// The canonical spelling of `name` by the first row that matches.
std::string ApplyAliases(std::span<const Alias> aliases, std::string_view name) {
  for (const Alias& alias : aliases) {
    if (name.starts_with(alias.stored)) {
      return std::string(alias.canonical).append(name.substr(alias.stored.size()));
    }
  }
  return std::string(name);
}

// Takes "<number>." off the front of `rest`; absent where it does not begin with digits and a dot.
absl::StatusOr<std::optional<std::int64_t>> TakeNumber(std::string_view& rest, std::string_view what,
                                                       std::int64_t maximum, std::string_view stored) {
  const std::size_t dot = rest.find_first_not_of("0123456789");
  if (dot == 0 || dot == std::string_view::npos || rest[dot] != '.') {
    return std::nullopt;
  }
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + dot, number);
  if (error != std::errc() || number >= maximum) {
    return Error(Reason::kLimitExceeded, fmt::format("a {} number of {} or more", what, maximum),
                 {.tensor = std::string(stored)});
  }
  rest.remove_prefix(dot + 1);
  return number;
}

// The part of the name that is inside one layer: experts and aliases.
absl::Status ParseInsideLayer(std::string_view rest, std::string_view stored, CanonicalName& name) {
  if (!rest.starts_with(kExperts)) {
    name.middle += ApplyAliases(kLayerAliases, rest);
    return absl::OkStatus();
  }
  rest.remove_prefix(kExperts.size());
  name.middle += kCanonicalExperts;
  name.expert.repeated = true;
  SLIPWAY_ASSIGN_OR_RETURN(name.expert.index, TakeNumber(rest, "expert", kMaximumExperts, stored));
  name.tail = "." + std::string(rest);
  return absl::OkStatus();
}

// Multi-token prediction nests a whole layer, or a stack of them, in each of its own.
absl::StatusOr<std::string> TakeInnerLayer(std::string_view& rest, std::string_view stored) {
  const auto* const alias = std::ranges::find_if(
      kInnerLayerAliases, [rest](const Alias& candidate) { return rest.starts_with(candidate.stored); });
  if (alias == kInnerLayerAliases.end()) {
    return std::string();
  }
  rest.remove_prefix(alias->stored.size());
  std::string inner(alias->canonical);
  constexpr std::string_view kLayers = "layers.";
  if (rest.starts_with(kLayers)) {
    rest.remove_prefix(kLayers.size());
    SLIPWAY_ASSIGN_OR_RETURN(const std::optional<std::int64_t> number,
                             TakeNumber(rest, "layer", kMaximumLayers, stored));
    inner += number ? fmt::format("layers.{}.", *number) : std::string(kLayers);
  }
  return inner;
}

absl::Status ParseLayered(std::string_view container, std::string_view rest, std::string_view stored,
                          CanonicalName& name) {
  name.head = container;
  name.layer.repeated = true;
  SLIPWAY_ASSIGN_OR_RETURN(name.layer.index, TakeNumber(rest, "layer", kMaximumLayers, stored));
  SLIPWAY_ASSIGN_OR_RETURN(const std::string inner, TakeInnerLayer(rest, stored));
  name.middle = "." + inner;
  return ParseInsideLayer(rest, stored, name);
}

}  // namespace

absl::StatusOr<CanonicalName> ParseStoredName(std::string_view stored) {
  CanonicalName name;
  std::string_view whole = stored;
  if (const auto part = FindPart(stored)) {
    name.part = part->index;
    name.parts = part->split->count();
    whole.remove_suffix(part->split->endings[part->index].size());
  }
  for (const std::string_view container : kLayerContainers) {
    if (whole.starts_with(container)) {
      SLIPWAY_RETURN_IF_ERROR(ParseLayered(container, whole.substr(container.size()), stored, name));
      return name;
    }
  }
  name.head = ApplyAliases(kModelAliases, whole);
  return name;
}

std::string Spell(const CanonicalName& name, std::int64_t layer, std::int64_t expert) {
  std::string text = name.head;
  if (name.layer.repeated) {
    text += std::to_string(layer);
  }
  text += name.middle;
  if (name.expert.repeated) {
    text += std::to_string(expert);
  }
  text += name.tail;
  return text;
}

std::string SpellStoredPart(std::string_view stored, std::size_t part) {
  const auto found = FindPart(stored);
  if (!found || part >= found->split->count()) {
    return std::string(stored);
  }
  stored.remove_suffix(found->split->endings[found->index].size());
  return std::string(stored).append(found->split->endings[part]);
}

}  // namespace slipway::engine
