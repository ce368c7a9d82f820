#include "worker/engine/checkpoint/quantizer_pickle.h"

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::engine {
namespace {

using Kind = PickleValue::Kind;

constexpr std::size_t kMaximumRules = 1'000;
constexpr std::size_t kMaximumPattern = 256;
constexpr std::size_t kMaximumSequence = 8;  // quantizers one after the other
constexpr std::size_t kMaximumName = 4'096;
constexpr std::int64_t kMaximumBits = 64;
constexpr std::int64_t kMaximumBlock = 1 << 20;

absl::Status Corrupt(std::string_view what) {
  return Error(Reason::kCheckpointCorrupt, fmt::format("ModelOpt's quantizer state {}", what));
}

// Attributes are called "_num_bits" in states and "num_bits" in rules.
std::optional<PickleValue> Attribute(const PickleDocument& document, PickleValue settings, std::string_view name) {
  const auto value = document.Find(settings, fmt::format("_{}", name));
  return value ? value : document.Find(settings, name);
}

bool IsTrue(std::optional<PickleValue> value) { return value && value->Boolean().value_or(false); }

absl::StatusOr<std::int64_t> Number(PickleValue value, std::int64_t maximum, std::string_view what) {
  const auto number = value.Integer();
  return number && *number >= 0 && *number <= maximum ? absl::StatusOr<std::int64_t>(*number)
                                                      : Corrupt(fmt::format("has {} that make no sense", what));
}

// (exponent, mantissa).
absl::Status ReadPair(const PickleDocument& document, PickleValue value, std::int64_t& first, std::int64_t& second) {
  const std::span<const PickleValue> items = document.Items(value);
  if (items.size() != 2) {
    return Corrupt("has bits that are no pair");
  }
  SLIPWAY_ASSIGN_OR_RETURN(first, Number(items[0], kMaximumBits, "bits"));
  SLIPWAY_ASSIGN_OR_RETURN(second, Number(items[1], kMaximumBits, "bits"));
  return absl::OkStatus();
}

// {-1: columns, -2: rows, "type": "dynamic", "scale_bits": (4, 3)}. A block of None is a whole row.
absl::Status ReadBlocks(const PickleDocument& document, PickleValue blocks, QuantizerSettings& settings) {
  const std::span<const PickleValue> items = document.Items(blocks);
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    const PickleValue value = items[i + 1];
    if (const auto axis = items[i].Integer()) {
      if (*axis != -1 && *axis != -2) {
        return Corrupt("has blocks along another axis than a matrix's");
      }
      if (value.IsNone()) {
        settings.by_row = true;
        continue;
      }
      SLIPWAY_ASSIGN_OR_RETURN((*axis == -1 ? settings.block_columns : settings.block_rows),
                               Number(value, kMaximumBlock, "blocks"));
      continue;
    }
    const std::string_view key = document.Text(items[i]).value_or("");
    if (key == "type" && document.Text(value) == "dynamic") {
      settings.dynamic = true;
    } else if (key == "scale_bits" && !value.IsNone()) {
      SLIPWAY_RETURN_IF_ERROR(ReadPair(document, value, settings.scale_exponent, settings.scale_mantissa));
    }
  }
  return absl::OkStatus();
}

// 0 or (0,) is a range a row; other axes are those of inputs.
bool IsFirstAxis(const PickleDocument& document, PickleValue axis) {
  const std::span<const PickleValue> items = document.Items(axis);
  return axis.Integer() == 0 || (items.size() == 1 && items[0].Integer() == 0);
}

absl::StatusOr<QuantizerSettings> SettingsOf(const PickleDocument& document, PickleValue value) {
  if (value.kind() != Kind::kDictionary) {
    return Corrupt("has settings that are no dictionary");
  }
  QuantizerSettings settings;
  settings.enabled = !IsTrue(Attribute(document, value, "disabled"));
  const auto type = Attribute(document, value, "type");
  settings.dynamic = IsTrue(Attribute(document, value, "dynamic")) || (type && document.Text(*type) == "dynamic");
  if (const auto bits = Attribute(document, value, "num_bits"); bits && !bits->IsNone()) {
    if (bits->Integer()) {
      SLIPWAY_ASSIGN_OR_RETURN(settings.integer_bits, Number(*bits, kMaximumBits, "bits"));
    } else {
      SLIPWAY_RETURN_IF_ERROR(ReadPair(document, *bits, settings.exponent_bits, settings.mantissa_bits));
    }
  }
  if (const auto axis = Attribute(document, value, "axis")) {
    settings.by_row = IsFirstAxis(document, *axis);
  }
  if (const auto blocks = Attribute(document, value, "block_sizes"); blocks && !blocks->IsNone()) {
    SLIPWAY_RETURN_IF_ERROR(ReadBlocks(document, *blocks, settings));
  }
  return settings;
}

absl::StatusOr<QuantizerRule> RuleOf(const PickleDocument& document, std::string_view pattern, PickleValue settings,
                                     std::optional<PickleValue> enable) {
  if (pattern.size() > kMaximumPattern) {
    return Corrupt("has a pattern that is too long");
  }
  QuantizerRule rule{.pattern = std::string(pattern), .enabled = true, .settings = {}};
  if (settings.kind() == Kind::kList || settings.kind() == Kind::kTuple) {
    const std::span<const PickleValue> sequence = document.Items(settings);
    if (sequence.size() > kMaximumSequence) {
      return Corrupt("has more quantizers one after the other than any");
    }
    for (const PickleValue& each : sequence) {
      SLIPWAY_ASSIGN_OR_RETURN(QuantizerSettings one, SettingsOf(document, each));
      rule.settings.push_back(one);
    }
  } else if (settings.kind() == Kind::kDictionary) {
    // Older rules only switch: {"enable": False}.
    if (Attribute(document, settings, "num_bits")) {
      SLIPWAY_ASSIGN_OR_RETURN(QuantizerSettings one, SettingsOf(document, settings));
      rule.settings.push_back(one);
    }
    enable = enable ? enable : document.Find(settings, "enable");
  }
  rule.enabled = !enable || enable->Boolean().value_or(true);
  return rule;
}

// A list of {"quantizer_name", "parent_class", "cfg", "enable"}.
absl::Status ReadRuleList(const PickleDocument& document, PickleValue list, ModelOptState& state) {
  for (const PickleValue& item : document.Items(list)) {
    const auto name = document.Find(item, "quantizer_name");
    const auto parent = document.Find(item, "parent_class");
    const std::optional<std::string_view> pattern = name ? document.Text(*name) : std::nullopt;
    if (!pattern) {
      return Corrupt("has a rule without a pattern");
    }
    if (parent && !parent->IsNone()) {
      continue;  // of embeddings, batch norms and activations, which no format quantizes
    }
    const auto settings = document.Find(item, "cfg");
    SLIPWAY_ASSIGN_OR_RETURN(QuantizerRule rule, RuleOf(document, *pattern, settings.value_or(PickleValue()),
                                                        document.Find(item, "enable")));
    state.rules.push_back(std::move(rule));
  }
  return absl::OkStatus();
}

absl::Status ReadRules(const PickleDocument& document, PickleValue rules, ModelOptState& state) {
  const std::span<const PickleValue> items = document.Items(rules);
  if (items.size() > kMaximumRules) {
    return Error(Reason::kLimitExceeded, fmt::format("more than {} rules of quantizers", kMaximumRules));
  }
  if (rules.kind() == Kind::kList) {
    return ReadRuleList(document, rules, state);
  }
  for (std::size_t i = 0; rules.kind() == Kind::kDictionary && i + 1 < items.size(); i += 2) {
    const auto pattern = document.Text(items[i]);
    if (!pattern || pattern->starts_with("nn.") || items[i + 1].IsNone()) {
      continue;  // of classes of modules
    }
    const bool is_default = *pattern == "default";
    SLIPWAY_ASSIGN_OR_RETURN(QuantizerRule rule,
                             RuleOf(document, is_default ? "*" : *pattern, items[i + 1], std::nullopt));
    // The default counts where nothing else says anything, wherever it stands.
    state.rules.insert(is_default ? state.rules.begin() : state.rules.end(), std::move(rule));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModuleQuantizers> QuantizersOf(const PickleDocument& document) {
  ModuleQuantizers quantizers;
  const auto state = document.Find(document.root(), "modelopt_quantizer_state");
  if (!state) {
    return quantizers;
  }
  const std::span<const PickleValue> items = document.Items(*state);
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    const auto name = document.Text(items[i]);
    if (!name || name->size() > kMaximumName) {
      return Corrupt("has a quantizer without a name");
    }
    if (IsTrue(document.Find(items[i + 1], "is_sequential_quantizer"))) {
      continue;  // its members are there, too
    }
    SLIPWAY_ASSIGN_OR_RETURN(quantizers[std::string(*name)], SettingsOf(document, items[i + 1]));
  }
  return quantizers;
}

absl::StatusOr<ModelOptState> ModelOptStateOf(const PickleDocument& document, PickleValue value) {
  ModelOptState state;
  if (const auto version = document.Find(value, "modelopt_version")) {
    state.version = std::string(document.Text(*version).value_or("").substr(0, 40));
  }
  const auto modes = document.Find(value, "modelopt_state_dict");
  const std::span<const PickleValue> items = modes ? document.Items(*modes) : std::span<const PickleValue>();
  if (items.size() > kMaximumRules) {
    return Error(Reason::kLimitExceeded, fmt::format("more than {} modes of ModelOpt", kMaximumRules));
  }
  for (const PickleValue& item : items) {
    const std::span<const PickleValue> pair = document.Items(item);
    const auto mode = pair.size() == 2 ? document.Text(pair[0]) : std::nullopt;
    if (!mode) {
      return Corrupt("has a mode without a name");
    }
    state.modes.emplace_back(mode->substr(0, kMaximumName));
    const auto config = document.Find(pair[1], "config");
    const auto rules = config && *mode == "quantize" ? document.Find(*config, "quant_cfg") : std::nullopt;
    if (rules) {
      SLIPWAY_RETURN_IF_ERROR(ReadRules(document, *rules, state));
    }
  }
  return state;
}

}  // namespace slipway::engine
