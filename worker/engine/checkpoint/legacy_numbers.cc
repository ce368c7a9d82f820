#include "worker/engine/checkpoint/legacy_numbers.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <set>

#include <fmt/format.h>

#include "common/checked_math.h"
#include "common/error.h"

namespace slipway::engine {
namespace {

constexpr std::string_view kLayers = "decoder.layers.";
constexpr std::string_view kExperts = ".mlp.experts.experts.";

// The number at the front of `text`, which a dot or the end must follow.
std::optional<std::int64_t> LeadingNumber(std::string_view text) {
  const char* const end = text.data() + std::min(text.find('.'), text.size());
  std::int64_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stop == end && number >= 0 ? std::optional(number) : std::nullopt;
}

// 0, 1, 2... without a gap.
bool IsCounted(const std::set<std::int64_t>& numbers) {
  return numbers.empty() || *numbers.rbegin() == static_cast<std::int64_t>(numbers.size()) - 1;
}

}  // namespace

bool IsInLayers(std::string_view name) { return name.starts_with(kLayers); }

std::optional<std::int64_t> LayerOf(std::string_view name) {
  return IsInLayers(name) ? LeadingNumber(name.substr(kLayers.size())) : std::nullopt;
}

std::string WithLayer(std::string_view name, std::int64_t layer) {
  const std::size_t end = std::min(name.find('.', kLayers.size()), name.size());
  return fmt::format("{}{}{}", kLayers, layer, name.substr(end));
}

absl::StatusOr<std::int64_t> CountLayers(const std::string& file, const RankModel& model) {
  std::set<std::int64_t> layers;
  for (const auto& [name, tensor] : model) {
    if (const auto layer = LayerOf(name)) {
      layers.insert(*layer);
    } else if (IsInLayers(name)) {
      return Error(Reason::kCheckpointCorrupt, "a layer without a number", {.tensor = name, .file = file});
    }
  }
  if (!IsCounted(layers)) {
    return Error(Reason::kCheckpointCorrupt,
                 fmt::format("it holds {} layers, but one is numbered {}", layers.size(), *layers.rbegin()),
                 {.file = file});
  }
  return static_cast<std::int64_t>(layers.size());
}

std::optional<ExpertName> ExpertOf(std::string_view name) {
  const std::size_t found = name.find(kExperts);
  if (found == std::string_view::npos) {
    return std::nullopt;
  }
  const std::size_t digits = found + kExperts.size();
  const auto number = LeadingNumber(name.substr(digits));
  const std::size_t tail = std::min(name.find('.', digits), name.size());
  return number ? std::optional(ExpertName{name.substr(0, digits), *number, name.substr(tail)}) : std::nullopt;
}

absl::StatusOr<std::map<std::string, std::int64_t, std::less<>>> CountExperts(const std::string& file,
                                                                              std::int64_t expert_ranks,
                                                                              const RankModel& model) {
  std::map<std::string, std::set<std::int64_t>, std::less<>> numbers;
  for (const auto& [name, tensor] : model) {
    if (const auto expert = ExpertOf(name)) {
      numbers[std::string(expert->head)].insert(expert->number);
    }
  }
  std::map<std::string, std::int64_t, std::less<>> counts;
  for (const auto& [head, experts] : numbers) {
    const auto corrupt = [&, &layer = head](std::string_view message) {
      return Error(Reason::kCheckpointCorrupt, message, {.tensor = layer, .file = file});
    };
    if (!IsCounted(experts)) {
      return corrupt(fmt::format("it holds {} experts, but one is numbered {}", experts.size(), *experts.rbegin()));
    }
    const auto count = static_cast<std::int64_t>(experts.size());
    const auto all = CheckedMultiply(count, expert_ranks);
    constexpr std::size_t kInsideMlp = std::string_view("experts.experts.").size();
    const auto router = model.find(head.substr(0, head.size() - kInsideMlp) + "router.weight");
    if (!all || (router != model.end() && !router->second.view.shape.empty() && router->second.view.shape[0] != *all)) {
      return corrupt(fmt::format("{} experts on each of {} ranks are not those that the layer's router knows", count,
                                 expert_ranks));
    }
    counts[head] = count;
  }
  return counts;
}

}  // namespace slipway::engine
