// ParseRecipe: YAML, with the line of what is wrong.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <functional>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include "common/error.h"
#include "worker/engine/checkpoint/yaml_document.h"
#include "worker/engine/quantize/recipe.h"

namespace slipway::engine {
namespace {

constexpr std::size_t kMaximumBytes = 1 << 20;
constexpr std::size_t kMaximumRules = 1'000;
constexpr std::size_t kMaximumPatterns = 10'000;  // numbers of layers likewise
constexpr std::size_t kShown = 64;

absl::Status Wrong(int line, std::string_view message) {
  return Error(Reason::kInvalidArgument, fmt::format("recipe, line {}: {}", line, message));
}

// Of yaml-cpp's nodes: lines count from 0, and what is missing has none.
absl::Status WrongAt(const YAML::Node& node, std::string_view message) {
  return Wrong(std::max(node.Mark().line, 0) + 1, message);
}

std::string Quoted(std::string_view text) { return fmt::format("'{}'", text.substr(0, kShown)); }

absl::StatusOr<std::string> Text(const YAML::Node& node, std::string_view key) {
  if (!node.IsScalar() || node.Scalar().empty()) {
    return WrongAt(node, fmt::format("{} is no text", key));
  }
  return node.Scalar();
}

template <typename T>
absl::StatusOr<T> Number(const YAML::Node& node, std::string_view key) {
  const std::string text = node.IsScalar() ? node.Scalar() : "";
  T number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    return WrongAt(node, fmt::format("{} is no number: {}", key, Quoted(text)));
  }
  return number;
}

// The place of a word in `words`.
absl::StatusOr<std::size_t> Choice(const YAML::Node& node, std::string_view key,
                                   std::span<const std::string_view> words) {
  SLIPWAY_ASSIGN_OR_RETURN(const std::string text, Text(node, key));
  const auto found = std::ranges::find(words, text);
  if (found == words.end()) {
    return WrongAt(node, fmt::format("{} is {}; it can be {}", key, Quoted(text), fmt::join(words, ", ")));
  }
  return static_cast<std::size_t>(found - words.begin());
}

using Reader = std::function<absl::Status(const YAML::Node& value)>;
struct Key {
  std::string_view name;
  Reader read;
};

// Reads a mapping whose keys are known and occur once each.
absl::Status ReadMapping(const YAML::Node& node, std::string_view what, std::span<const Key> keys) {
  if (!node.IsMap()) {
    return WrongAt(node, fmt::format("{} is no mapping", what));
  }
  std::vector<std::string_view> seen;
  for (const auto& entry : node) {
    const std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "";
    const auto key = std::ranges::find(keys, name, &Key::name);
    if (key == keys.end()) {
      std::vector<std::string_view> known;
      std::ranges::transform(keys, std::back_inserter(known), &Key::name);
      return WrongAt(entry.first,
                     fmt::format("{} has no key {}; it has {}", what, Quoted(name), fmt::join(known, ", ")));
    }
    if (std::ranges::find(seen, key->name) != seen.end()) {
      return WrongAt(entry.first, fmt::format("{} twice", key->name));
    }
    seen.push_back(key->name);
    SLIPWAY_RETURN_IF_ERROR(key->read(entry.second));
  }
  return absl::OkStatus();
}

class RecipeReader {
 public:
  absl::StatusOr<Recipe> Read(const YAML::Node& root) {
    const std::array keys = std::to_array<Key>({
        {"name", [this](const YAML::Node& node) { return ReadName(node); }},
        {"config_form", [this](const YAML::Node& node) { return ReadForm(node); }},
        {"kv_cache", [this](const YAML::Node& node) { return ReadKvCache(node); }},
        {"scale_search", [this](const YAML::Node& node) { return ReadSearch(node); }},
        {"activations", [this](const YAML::Node& node) { return ReadActivations(node); }},
        {"default_input_amax", [this](const YAML::Node& node) { return ReadAmax(node); }},
        {"rules", [this](const YAML::Node& node) { return ReadRules(node); }},
    });
    SLIPWAY_RETURN_IF_ERROR(ReadMapping(root, "the recipe", keys));
    if (std::ranges::all_of(recipe_.rules, [](const RecipeRule& rule) { return rule.format == nullptr; })) {
      return Wrong(1, "it has no rule with a format");
    }
    return std::move(recipe_);
  }

 private:
  absl::Status ReadName(const YAML::Node& node) {
    SLIPWAY_ASSIGN_OR_RETURN(recipe_.name, Text(node, "name"));
    return absl::OkStatus();
  }

  absl::Status ReadForm(const YAML::Node& node) {
    constexpr std::array<std::string_view, 4> kWords = {"auto", "modelopt", "compressed-tensors", "native"};
    SLIPWAY_ASSIGN_OR_RETURN(const std::size_t choice, Choice(node, "config_form", kWords));
    recipe_.form = ConfigFormOf(kWords[choice]);
    return absl::OkStatus();
  }

  absl::Status ReadKvCache(const YAML::Node& node) {
    constexpr std::array<std::string_view, 3> kWords = {"none", "fp8", "nvfp4"};
    constexpr std::array kValues = {KvCache::kNone, KvCache::kFp8, KvCache::kNvfp4};
    SLIPWAY_ASSIGN_OR_RETURN(const std::size_t choice, Choice(node, "kv_cache", kWords));
    recipe_.kv_cache = kValues[choice];
    return absl::OkStatus();
  }

  absl::Status ReadSearch(const YAML::Node& node) {
    constexpr std::array<std::string_view, 2> kWords = {"amax", "mse"};
    constexpr std::array kValues = {ScaleSearch::kAmax, ScaleSearch::kSquaredError};
    SLIPWAY_ASSIGN_OR_RETURN(const std::size_t choice, Choice(node, "scale_search", kWords));
    recipe_.search = kValues[choice];
    return absl::OkStatus();
  }

  absl::Status ReadActivations(const YAML::Node& node) {
    constexpr std::array<std::string_view, 3> kWords = {"none", "dynamic", "static"};
    constexpr std::array kValues = {Activations::kNone, Activations::kDynamic, Activations::kStatic};
    SLIPWAY_ASSIGN_OR_RETURN(const std::size_t choice, Choice(node, "activations", kWords));
    recipe_.activations = kValues[choice];
    return absl::OkStatus();
  }

  absl::Status ReadAmax(const YAML::Node& node) {
    SLIPWAY_ASSIGN_OR_RETURN(const float amax, Number<float>(node, "default_input_amax"));
    if (!std::isfinite(amax) || amax <= 0) {
      return WrongAt(node, "default_input_amax is not above 0");
    }
    recipe_.default_input_amax = amax;
    return absl::OkStatus();
  }

  absl::Status ReadRules(const YAML::Node& node) {
    if (!node.IsSequence()) {
      return WrongAt(node, "rules is no list");
    }
    for (const YAML::Node& rule : node) {
      if (recipe_.rules.size() == kMaximumRules) {
        return WrongAt(rule, fmt::format("more than {} rules", kMaximumRules));
      }
      SLIPWAY_RETURN_IF_ERROR(ReadRule(rule));
    }
    return absl::OkStatus();
  }

  absl::Status ReadRule(const YAML::Node& node) {
    RecipeRule rule;
    bool has_format = false;
    YAML::Node group;
    YAML::Node symmetric;
    const std::array keys = std::to_array<Key>({
        {"modules", [&](const YAML::Node& value) { return ReadModules(value, rule); }},
        {"layers", [&](const YAML::Node& value) { return ReadLayers(value, rule); }},
        {"format",
         [&](const YAML::Node& value) {
           has_format = true;
           return ReadFormat(value, rule);
         }},
        {"group",
         [&](const YAML::Node& value) {
           group.reset(value);
           return absl::OkStatus();
         }},
        {"symmetric",
         [&](const YAML::Node& value) {
           symmetric.reset(value);
           return absl::OkStatus();
         }},
    });
    SLIPWAY_RETURN_IF_ERROR(ReadMapping(node, "a rule", keys));
    if (!has_format) {
      return WrongAt(node, "a rule has no format (none is one)");
    }
    SLIPWAY_RETURN_IF_ERROR(ReadGroup(group, rule));
    SLIPWAY_RETURN_IF_ERROR(ReadSymmetric(symmetric, rule));
    recipe_.rules.push_back(std::move(rule));
    return absl::OkStatus();
  }

  // Aliases make long lists of short texts.
  absl::Status Count(const YAML::Node& node) {
    return ++entries_ > kMaximumPatterns
               ? WrongAt(node, fmt::format("more than {} patterns and layers", kMaximumPatterns))
               : absl::OkStatus();
  }

  absl::Status ReadModules(const YAML::Node& node, RecipeRule& rule) {
    constexpr std::size_t kMaximumLength = 256;
    if (!node.IsSequence() || node.size() == 0) {
      return WrongAt(node, "modules is no list of patterns");
    }
    for (const YAML::Node& entry : node) {
      SLIPWAY_RETURN_IF_ERROR(Count(entry));
      SLIPWAY_ASSIGN_OR_RETURN(std::string pattern, Text(entry, "a pattern"));
      const bool plain = std::ranges::all_of(pattern, [](unsigned char letter) {
        return std::isalnum(letter) != 0 ||
               std::string_view("_.-*?").find(static_cast<char>(letter)) != std::string_view::npos;
      });
      if (!plain || pattern.size() > kMaximumLength) {
        return WrongAt(
            entry, fmt::format("{} is no pattern of a module's name (letters, digits, . _ - * ?)", Quoted(pattern)));
      }
      rule.modules.push_back(std::move(pattern));
    }
    return absl::OkStatus();
  }

  absl::Status ReadLayers(const YAML::Node& node, RecipeRule& rule) {
    constexpr std::int64_t kMaximumLayer = 100'000;
    if (!node.IsSequence() || node.size() == 0) {
      return WrongAt(node, "layers is no list of numbers");
    }
    for (const YAML::Node& entry : node) {
      SLIPWAY_RETURN_IF_ERROR(Count(entry));
      SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t layer, Number<std::int64_t>(entry, "a layer"));
      if (layer >= kMaximumLayer || layer < -kMaximumLayer) {
        return WrongAt(entry, fmt::format("there is no layer {}", layer));
      }
      rule.layers.push_back(layer);
    }
    return absl::OkStatus();
  }

  static absl::Status ReadFormat(const YAML::Node& node, RecipeRule& rule) {
    SLIPWAY_ASSIGN_OR_RETURN(const std::string name, Text(node, "format"));
    rule.format = FindFormat(name);
    if (rule.format != nullptr || name == "none") {
      return absl::OkStatus();
    }
    std::vector<std::string_view> known = {"none"};
    std::ranges::transform(Formats(), std::back_inserter(known), &Format::name);
    return WrongAt(node, fmt::format("there is no format {}; there are {}", Quoted(name), fmt::join(known, ", ")));
  }

  static absl::Status ReadGroup(const YAML::Node& node, RecipeRule& rule) {
    if (!node.IsDefined() || node.IsNull()) {
      return absl::OkStatus();
    }
    SLIPWAY_ASSIGN_OR_RETURN(const std::int32_t group, Number<std::int32_t>(node, "group"));
    if (rule.format == nullptr) {
      return WrongAt(node, "a group without a format");
    }
    const Format& format = *rule.format;
    const Coding& coding = format.layouts.front().coding;
    std::vector<std::int32_t> known(format.groups.begin(), format.groups.end());
    if (known.empty() && coding.sharing == Sharing::kGroup) {
      known.push_back(coding.group);
    }
    if (std::ranges::find(known, group) == known.end()) {
      return WrongAt(node, known.empty() ? fmt::format("{} has no groups", format.name)
                                         : fmt::format("{} has no groups of {}, only of {}", format.name, group,
                                                       fmt::join(known, ", ")));
    }
    rule.group = group;
    return absl::OkStatus();
  }

  static absl::Status ReadSymmetric(const YAML::Node& node, RecipeRule& rule) {
    if (!node.IsDefined() || node.IsNull()) {
      return absl::OkStatus();
    }
    constexpr std::array<std::string_view, 2> kWords = {"false", "true"};
    SLIPWAY_ASSIGN_OR_RETURN(const std::size_t choice, Choice(node, "symmetric", kWords));
    if (rule.format == nullptr) {
      return WrongAt(node, "symmetric without a format");
    }
    rule.symmetric = choice == 1;
    const bool known = std::ranges::any_of(rule.format->layouts, [&](const Layout& layout) {
      return HasZeroPoints(layout.coding.rule) != *rule.symmetric;
    });
    return known ? absl::OkStatus() : WrongAt(node, fmt::format("{} has no zero points", rule.format->name));
  }

  Recipe recipe_;
  std::size_t entries_ = 0;
};

int LineOf(std::string_view text, std::int64_t offset) {
  const std::string_view before = text.substr(0, static_cast<std::size_t>(std::max<std::int64_t>(offset, 0)));
  return static_cast<int>(std::ranges::count(before, '\n')) + 1;
}

}  // namespace

absl::StatusOr<Recipe> ParseRecipe(std::string_view text) {
  if (text.size() > kMaximumBytes) {
    return Error(Reason::kInvalidArgument, fmt::format("a recipe of {} bytes; at most {}", text.size(), kMaximumBytes));
  }
  // Bounds depth and values, and refuses what is no YAML; the nodes that say their lines are made after that.
  const std::string document(text);
  if (const auto bounded = ParseYaml(document, "recipe"); !bounded.ok()) {
    return Wrong(LineOf(text, WhereOf(bounded.status()).offset.value_or(0)), std::string(bounded.status().message()));
  }
  try {
    return RecipeReader().Read(YAML::Load(document));
  } catch (const YAML::Exception& error) {
    return Wrong(error.mark.line + 1, error.msg);
  }
}

}  // namespace slipway::engine
