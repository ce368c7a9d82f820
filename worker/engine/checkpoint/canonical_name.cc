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
constexpr std::array<std::string_view, 5> kLayerContainers = {"decoder.layers.", "encoder.layers.", "mtp.layers.",
                                                              "vision_model.decoder.layers.",
                                                              "vision_model.decoder.deepstack_merger_list."};

// Models with more than text keep the text's part below it.
constexpr std::string_view kTextPart = "language_model.";

struct Alias {
  std::string_view stored;  // the beginning of the name
  std::string_view canonical;
};

constexpr auto kModelAliases = std::to_array<Alias>({
    {"decoder.final_norm.", "decoder.final_layernorm."},
});

// The layer inside a multi-token-prediction layer: at run time the first, on disk the second. Hybrid models keep the
// first, and nest a stack of layers in it.
constexpr std::string_view kInnerLayer = "mtp_model_layer.";
constexpr std::string_view kCanonicalInnerLayer = "transformer_layer.";

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
    // Parameters of newer Mamba mixers, as they are called at run time.
    {"mixer.conv1d_weight", "mixer.conv1d.weight"},
    {"mixer.conv1d_bias", "mixer.conv1d.bias"},
});

// Of all experts; below it, one of
//   experts.<tail>, experts.<e>.<tail>   on disk: stacked, or one by one
//   local_experts.<e>.<tail>             at run time, as a list of MLPs
//   linear_fc1.weight<e>                 at run time, as a grouped linear of Transformer Engine
constexpr std::string_view kExperts = "mlp.experts.";
constexpr std::string_view kStackedExperts = "experts.";
constexpr std::string_view kListedExperts = "local_experts.";
constexpr auto kGroupedParameters =
    std::to_array<std::string_view>({"linear_fc1.weight", "linear_fc1.bias", "linear_fc2.weight", "linear_fc2.bias"});

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
    {"weight_quantizer._amax", {"_w", "_v"}},  // of ModelOpt
    {"mixer.in_proj.weight", {".z", ".x", ".B", ".C", ".dt"}},
    {"mixer.conv1d.weight", {".x", ".B", ".C"}},
    {"mixer.conv1d.bias", {".x", ".B", ".C"}},
    {"mixer.conv1d_weight", {".x", ".B", ".C"}},
    {"mixer.conv1d_bias", {".x", ".B", ".C"}},
    {"self_attention.in_proj.weight", {".query", ".key", ".value", ".z", ".beta", ".alpha"}},
    {"self_attention.conv1d.weight", {".query", ".key", ".value"}},
});

struct Part {
  const Split* split = nullptr;
  std::size_t index = 0;
};

// `name` without the expert's number at its end, if it is a parameter of a grouped linear.
std::string_view WithoutGroupedNumber(std::string_view name) {
  const std::size_t length = name.find_last_not_of("0123456789") + 1;
  const std::string_view parameter = name.substr(0, length);
  const auto names_it = [parameter](std::string_view ending) {
    return parameter.ends_with(ending) && parameter.substr(0, parameter.size() - ending.size()).ends_with(kExperts);
  };
  return std::ranges::any_of(kGroupedParameters, names_it) ? parameter : name;
}

std::optional<Part> FindPart(std::string_view name) {
  for (const Split& split : kSplits) {
    for (std::size_t i = 0; i < split.count(); ++i) {
      if (!name.ends_with(split.endings[i])) {
        continue;
      }
      if (WithoutGroupedNumber(name.substr(0, name.size() - split.endings[i].size())).ends_with(split.stem)) {
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

absl::StatusOr<std::int64_t> ParseNumber(std::string_view digits, std::string_view what, std::int64_t maximum,
                                         std::string_view stored) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || number >= maximum) {
    return Error(Reason::kLimitExceeded, fmt::format("a {} number of {} or more", what, maximum),
                 {.tensor = std::string(stored)});
  }
  return number;
}

// Takes "<number>." off the front of `rest`; absent where it does not begin with digits and a dot.
absl::StatusOr<std::optional<std::int64_t>> TakeNumber(std::string_view& rest, std::string_view what,
                                                       std::int64_t maximum, std::string_view stored) {
  const std::size_t dot = rest.find_first_not_of("0123456789");
  if (dot == 0 || dot == std::string_view::npos || rest[dot] != '.') {
    return std::nullopt;
  }
  SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t number, ParseNumber(rest.substr(0, dot), what, maximum, stored));
  rest.remove_prefix(dot + 1);
  return number;
}

void NameExpert(std::string_view tail, std::optional<std::int64_t> number, CanonicalName& name) {
  name.middle += kExperts;
  name.expert = {.repeated = true, .index = number};
  name.tail = fmt::format(".{}", tail);
}

// `rest` is what follows kExperts. False where it is in none of the spellings.
absl::StatusOr<bool> ParseExpert(std::string_view rest, std::string_view stored, CanonicalName& name) {
  const bool listed = rest.starts_with(kListedExperts);
  if (listed || rest.starts_with(kStackedExperts)) {
    rest.remove_prefix(listed ? kListedExperts.size() : kStackedExperts.size());
    SLIPWAY_ASSIGN_OR_RETURN(const auto number, TakeNumber(rest, "expert", kMaximumExperts, stored));
    if (listed && !number) {
      return false;
    }
    NameExpert(rest, number, name);
    return true;
  }
  for (const std::string_view parameter : kGroupedParameters) {
    if (rest.size() > parameter.size() && rest.starts_with(parameter) &&
        rest.find_first_not_of("0123456789", parameter.size()) == std::string_view::npos) {
      SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t number,
                               ParseNumber(rest.substr(parameter.size()), "expert", kMaximumExperts, stored));
      NameExpert(parameter, number, name);
      return true;
    }
  }
  return false;
}

// The part of the name that is inside one layer: experts and aliases.
absl::Status ParseInsideLayer(std::string_view rest, std::string_view stored, CanonicalName& name) {
  if (rest.starts_with(kExperts)) {
    SLIPWAY_ASSIGN_OR_RETURN(const bool parsed, ParseExpert(rest.substr(kExperts.size()), stored, name));
    if (parsed) {
      return absl::OkStatus();
    }
  }
  name.middle += ApplyAliases(kLayerAliases, rest);
  return absl::OkStatus();
}

// Multi-token prediction nests a whole layer, or a stack of them, in each of its own.
absl::StatusOr<std::string> TakeInnerLayer(std::string_view& rest, std::string_view stored) {
  const bool at_run_time = rest.starts_with(kInnerLayer);
  if (!at_run_time && !rest.starts_with(kCanonicalInnerLayer)) {
    return std::string();
  }
  rest.remove_prefix(at_run_time ? kInnerLayer.size() : kCanonicalInnerLayer.size());
  constexpr std::string_view kLayers = "layers.";
  if (!rest.starts_with(kLayers)) {
    return std::string(kCanonicalInnerLayer);
  }
  rest.remove_prefix(kLayers.size());
  SLIPWAY_ASSIGN_OR_RETURN(const std::optional<std::int64_t> number, TakeNumber(rest, "layer", kMaximumLayers, stored));
  return fmt::format("{}{}{}", kInnerLayer, kLayers, number ? fmt::format("{}.", *number) : "");
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
  if (whole.starts_with(kTextPart)) {
    whole.remove_prefix(kTextPart.size());
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
