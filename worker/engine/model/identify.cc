#include "worker/engine/model/identify.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/error.h"
#include "worker/engine/model/rule_instances.h"

namespace slipway::engine {
namespace {

constexpr std::size_t kExamples = 3;

// How the weights of a checkpoint relate to a family's.
struct Match {
  const Architecture* architecture = nullptr;
  std::vector<std::string> unknown;  // patterns
  std::vector<std::string> missing;
  [[nodiscard]] std::pair<std::size_t, std::size_t> distance() const { return {unknown.size(), missing.size()}; }
};

// The patterns of the rules that the model should have a tensor of.
std::set<std::string, std::less<>> Expectations(const Architecture& architecture,
                                                const ModelConfiguration& configuration) {
  std::set<std::pair<const RuleBlock*, const TensorRule*>> seen;  // layers repeat them
  std::set<std::string, std::less<>> expected;
  for (const RuleInstance& instance : InstancesOf(architecture, configuration)) {
    if (seen.emplace(instance.block, instance.rule).second) {
      expected.insert(PatternOf(*instance.block, *instance.rule));
    }
  }
  return expected;
}

Match MatchTo(const Architecture& architecture, const ModelConfiguration& configuration) {
  Match match{.architecture = &architecture, .unknown = {}, .missing = {}};
  const auto expected = Expectations(architecture, configuration);
  for (const std::string& pattern : configuration.patterns) {
    if (!expected.contains(pattern)) {
      match.unknown.push_back(pattern);
    }
  }
  for (const std::string& pattern : expected) {
    if (!configuration.Has(pattern)) {
      match.missing.push_back(pattern);
    }
  }
  return match;
}

std::string Examples(const std::vector<std::string>& patterns) {
  const std::size_t shown = std::min(kExamples, patterns.size());
  return fmt::format("{}{}", fmt::join(patterns.begin(), patterns.begin() + static_cast<std::ptrdiff_t>(shown), ", "),
                     patterns.size() > shown ? fmt::format(" and {} more", patterns.size() - shown) : "");
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

bool Accepts(const Architecture& architecture, std::string_view argument) {
  return std::ranges::find(architecture.accepts, argument) != architecture.accepts.end();
}

bool Sees(const Architecture& architecture) {
  return std::ranges::find(architecture.blocks, Repeat::kVisionLayers, &RuleBlock::repeat) != architecture.blocks.end();
}

// Architecture::fit; 0 also where the configuration says something that the family does not know.
int FitOf(const Architecture& architecture, const ModelConfiguration& configuration) {
  const auto accepts = [&](const auto& fact) { return Accepts(architecture, fact.first); };
  return Sees(architecture) == configuration.vision.layers.has_value() &&
                 std::ranges::all_of(configuration.special, accepts)
             ? architecture.fit(configuration)
             : 0;
}

std::string Facts(const ModelConfiguration& configuration) {
  std::vector<std::string_view> facts;
  for (const auto& [argument, fact] : configuration.special) {
    facts.push_back(fact);
  }
  return facts.empty() ? "" : fmt::format("; the configuration says: {}", fmt::join(facts, ", "));
}

// "experts (scores by softmax, in 2 groups, times 2.5)"
std::string RoutingOf(const ExpertsConfiguration& experts) {
  if (!experts.count) {
    return "without experts";
  }
  std::string text = fmt::format("with experts (scores by {}", experts.score_function.value_or("softmax"));
  if (experts.groups.value_or(1) > 1) {
    text += fmt::format(", in {} groups", *experts.groups);
  }
  if (experts.scaling.value_or(1.0) != 1.0) {
    text += fmt::format(", times {}", *experts.scaling);
  }
  return text + ")";
}

// What a person needs to see why a configuration is not of a family.
std::string Summary(const ModelConfiguration& c) {
  const auto word = [](bool has) { return has ? "with" : "without"; };
  return fmt::format(
      "{} {}, {} activation, {}, {} latent attention, {} norms of queries and keys, {} bias in q, k and v, {} "
      "bias in linear layers, {} a sliding window, {} gates of queries, {} positions, {} a vision tower{}",
      c.normalization, c.gated ? "and gated MLPs" : "and ungated MLPs", c.activation, RoutingOf(c.experts),
      word(c.latent_attention), word(c.qk_norm), word(c.qkv_bias), word(c.linear_bias),
      word(c.sliding_window.has_value()), word(c.attention_gate), c.position_embedding,
      word(c.vision.layers.has_value()), Facts(c));
}

absl::StatusOr<const Architecture*> Named(const ModelConfiguration& configuration, const std::string& name,
                                          std::string_view origin) {
  const Architecture* architecture = FindArchitecture(name);
  if (architecture == nullptr) {
    return Unsupported(fmt::format("{} names {}", origin, name));
  }
  if (FitOf(*architecture, configuration) == 0) {
    return Error(Reason::kArchitectureUnsupported,
                 fmt::format("{} names {}, but the model is one with {}", origin, name, Summary(configuration)));
  }
  return architecture;
}

// The family whose weights come nearest; of those that come equally near, the one that fits best.
Match Nearest(const ModelConfiguration& configuration, bool must_fit) {
  Match nearest;
  for (const Architecture* architecture : Architectures()) {
    const int fit = FitOf(*architecture, configuration);
    if (must_fit && fit == 0) {
      continue;
    }
    Match match = MatchTo(*architecture, configuration);
    const auto better = [&] {
      return match.distance() < nearest.distance() ||
             (match.distance() == nearest.distance() && fit > FitOf(*nearest.architecture, configuration));
    };
    if (nearest.architecture == nullptr || better()) {
      nearest = std::move(match);
    }
  }
  return nearest;
}

absl::Status NoFamily(const ModelConfiguration& configuration) {
  const Match nearest = Nearest(configuration, /*must_fit=*/false);
  std::string what = fmt::format("the model is of no supported family; {} comes nearest", nearest.architecture->name);
  if (!nearest.unknown.empty()) {
    what += fmt::format(", which does not have {}", Examples(nearest.unknown));
  }
  if (!nearest.missing.empty()) {
    what += fmt::format("{} has {}, which the checkpoint lacks", nearest.unknown.empty() ? ", which" : " but",
                        Examples(nearest.missing));
  }
  if (nearest.unknown.empty() && nearest.missing.empty()) {
    what += fmt::format("; the model is one with {}", Summary(configuration));
  } else {
    what += Facts(configuration);
  }
  return Error(Reason::kArchitectureUnsupported, fmt::format("{}; supported are {}", what, Names()),
               {.tensor = nearest.unknown.empty() ? "" : nearest.unknown.front()});
}

// A family that arguments cannot tell may be meant wherever its tensors are there: its settings are not looked at.
bool IsMeantPerhaps(const Architecture& architecture, const ModelConfiguration& configuration) {
  return architecture.beyond_arguments && architecture.zero_centered_norms == configuration.zero_centered_gamma;
}

// The family that has exactly the checkpoint's tensors and needs a config.json; null where there is none.
const Architecture* ByTensors(const ModelConfiguration& configuration) {
  const auto found = std::ranges::find_if(Architectures(), [&](const Architecture* architecture) {
    return IsMeantPerhaps(*architecture, configuration) &&
           MatchTo(*architecture, configuration).distance() == std::pair<std::size_t, std::size_t>(0, 0);
  });
  return found == Architectures().end() ? nullptr : *found;
}

}  // namespace

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

absl::Status NeedsConfig(const Architecture& architecture) {
  return Error(Reason::kConfigurationInvalid,
               fmt::format("the tensors are those of {}, which training arguments cannot describe: give the model's "
                           "Hugging Face directory with --hf-config",
                           architecture.name));
}

std::vector<const Architecture*> FamiliesAsNear(const Architecture& chosen, const ModelConfiguration& configuration) {
  const auto distance = MatchTo(chosen, configuration).distance();
  std::vector<const Architecture*> families;
  for (const Architecture* architecture : Architectures()) {
    if (architecture != &chosen &&
        (FitOf(*architecture, configuration) > 0 || IsMeantPerhaps(*architecture, configuration)) &&
        MatchTo(*architecture, configuration).distance() == distance) {
      families.push_back(architecture);
    }
  }
  return families;
}

absl::StatusOr<const Architecture*> ChooseArchitecture(const ModelConfiguration& configuration,
                                                       const std::string& named, const nlohmann::json& hf_config,
                                                       std::vector<std::string>& notes) {
  if (!named.empty()) {
    return Named(configuration, named, "--architecture");
  }
  if (const std::string of_config = ClassOf(hf_config); !of_config.empty()) {
    return Named(configuration, of_config, "config.json of --hf-config");
  }
  const Match best = Nearest(configuration, /*must_fit=*/true);
  if (best.architecture == nullptr || !best.unknown.empty()) {
    if (const Architecture* by_tensors = ByTensors(configuration)) {
      return NeedsConfig(*by_tensors);
    }
  }
  if (best.architecture == nullptr || (!best.unknown.empty() && !best.missing.empty())) {
    return NoFamily(configuration);
  }
  std::vector<std::string_view> equals;
  for (const Architecture* family : FamiliesAsNear(*best.architecture, configuration)) {
    equals.push_back(family->name);
  }
  if (!equals.empty()) {
    notes.push_back(fmt::format("nothing in the checkpoint tells {} from {}: {} is taken; --architecture names another",
                                best.architecture->name, fmt::join(equals, ", "), best.architecture->name));
  }
  return best.architecture;
}

absl::Status RefuseUnknownFacts(const ModelConfiguration& configuration) {
  const auto is_known = [](const auto& fact) {
    return std::ranges::any_of(Architectures(), [&](const Architecture* a) { return Accepts(*a, fact.first); });
  };
  return std::ranges::all_of(configuration.special, is_known) ? absl::OkStatus() : NoFamily(configuration);
}

}  // namespace slipway::engine
