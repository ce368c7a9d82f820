#include "worker/engine/model/identify.h"

#include <algorithm>
#include <cstdint>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/error.h"

namespace slipway::engine {
namespace {

constexpr std::size_t kExamples = 3;

// How the names of a checkpoint relate to a family's.
struct Match {
  const Architecture* architecture = nullptr;
  std::int64_t unknown = 0;  // tensors
  std::vector<std::string> unknown_examples = {};
  std::int64_t missing = 0;  // rules without any tensor
};

struct Occurrence {
  std::int64_t count = 0;
  std::string example;
};
using Patterns = std::map<std::string, Occurrence, std::less<>>;

Patterns PatternsOf(const std::map<std::string, CanonicalTensor>& tensors) {
  Patterns patterns;
  for (const auto& [name, tensor] : tensors) {
    Occurrence& occurrence = patterns[PatternOf(name)];
    if (occurrence.count++ == 0) {
      occurrence.example = name;
    }
  }
  return patterns;
}

Match MatchTo(const Architecture& architecture, const Patterns& patterns) {
  Match match{.architecture = &architecture};
  for (const auto& [pattern, occurrence] : patterns) {
    if (std::ranges::find(architecture.rules, std::string_view(pattern), &TensorRule::source) !=
        architecture.rules.end()) {
      continue;
    }
    match.unknown += occurrence.count;
    if (match.unknown_examples.size() < kExamples) {
      match.unknown_examples.push_back(occurrence.example);
    }
  }
  match.missing = std::ranges::count_if(architecture.rules, [&](const TensorRule& rule) {
    return rule.presence == Presence::kRequired && patterns.find(rule.source) == patterns.end();
  });
  return match;
}

Match Nearest(const Patterns& patterns) {
  Match nearest;
  for (const Architecture* architecture : Architectures()) {
    Match match = MatchTo(*architecture, patterns);
    const auto distance = [](const Match& m) { return std::pair(m.missing, m.unknown); };
    if (nearest.architecture == nullptr || distance(match) < distance(nearest)) {
      nearest = std::move(match);
    }
  }
  return nearest;
}

std::string Names() {
  std::vector<std::string_view> names;
  for (const Architecture* architecture : Architectures()) {
    names.push_back(architecture->name);
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

absl::Status Unsupported(std::string_view what) {
  return Error(Reason::kArchitectureUnsupported, fmt::format("{}; supported are {}", what, Names()));
}

absl::StatusOr<const Architecture*> Named(const ModelConfiguration& configuration, const std::string& name,
                                          std::string_view origin) {
  const Architecture* architecture = FindArchitecture(name);
  if (architecture == nullptr) {
    return Unsupported(fmt::format("{} names {}", origin, name));
  }
  if (architecture->fit(configuration) == 0) {
    const auto word = [](bool has) { return has ? "with" : "without"; };
    return Error(
        Reason::kArchitectureUnsupported,
        fmt::format("{} names {}, but the model is one {} norms of queries and keys, {} bias in q, k and v, {} "
                    "bias in linear layers, {} a sliding window",
                    origin, name, word(configuration.qk_norm), word(configuration.qkv_bias),
                    word(configuration.linear_bias), word(configuration.sliding_window.has_value())));
  }
  return architecture;
}

// The class that a config.json names, or empty.
std::string ClassOf(const nlohmann::json& hf_config) {
  if (!hf_config.is_object()) {
    return {};
  }
  if (const auto classes = hf_config.find("architectures");
      classes != hf_config.end() && classes->is_array() && !classes->empty() && classes->front().is_string()) {
    return classes->front().get<std::string>();
  }
  if (const auto type = hf_config.find("model_type"); type != hf_config.end() && type->is_string()) {
    const auto known = std::ranges::find(Architectures(), std::string_view(type->get_ref<const std::string&>()),
                                         &Architecture::model_type);
    return known == Architectures().end() ? type->get<std::string>() : std::string((*known)->name);
  }
  return {};
}

}  // namespace

absl::Status CheckStructure(const std::map<std::string, CanonicalTensor>& tensors,
                            const std::vector<std::string>& unsupported) {
  const Match nearest = Nearest(PatternsOf(tensors));
  if (unsupported.empty() && (nearest.unknown == 0 || nearest.missing == 0)) {
    return absl::OkStatus();
  }
  std::string what = fmt::format("the model is of no supported family; {} comes nearest", nearest.architecture->name);
  if (nearest.unknown > 0) {
    what += fmt::format(", which does not have {}{} ({} tensors in all)", fmt::join(nearest.unknown_examples, ", "),
                        nearest.unknown > static_cast<std::int64_t>(nearest.unknown_examples.size()) ? ", ..." : "",
                        nearest.unknown);
  }
  if (!unsupported.empty()) {
    what += fmt::format("; the configuration says: {}", fmt::join(unsupported, ", "));
  }
  return Error(Reason::kArchitectureUnsupported, what,
               {.tensor = nearest.unknown > 0 ? nearest.unknown_examples.front() : ""});
}

absl::StatusOr<const Architecture*> ChooseArchitecture(const ModelConfiguration& configuration,
                                                       const std::string& named, const nlohmann::json& hf_config) {
  if (configuration.normalization != "RMSNorm" || !configuration.gated || configuration.activation != "silu") {
    return Unsupported(fmt::format("the model has {} and {} layers", configuration.normalization,
                                   configuration.gated ? configuration.activation : "ungated"));
  }
  if (!named.empty()) {
    return Named(configuration, named, "--architecture");
  }
  if (const std::string of_config = ClassOf(hf_config); !of_config.empty()) {
    return Named(configuration, of_config, "config.json of --hf-config");
  }
  const auto fit = [&](const Architecture* architecture) { return architecture->fit(configuration); };
  const Architecture* best = *std::ranges::max_element(Architectures(), {}, fit);
  if (best->fit(configuration) == 0) {
    return Unsupported("no family has this combination of biases, norms of queries and keys, and sliding window");
  }
  return best;
}

}  // namespace slipway::engine
