#include "worker/engine/checkpoint/legacy_grid.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <compare>
#include <cstddef>
#include <iterator>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::engine {
namespace {

constexpr std::string_view kPrefix = "mp_rank_";
// Current Megatron-LM, and releases of its first year.
constexpr std::array<std::string_view, 2> kFileNames = {"model_optim_rng.pt", "model_rng.pt"};
constexpr std::int64_t kMaximumRanks = 65'536;
constexpr std::size_t kMaximumDigits = 9;

// Takes digits, and the underscore before them if `separated`, off the front.
std::optional<std::int64_t> TakeNumber(std::string_view& text, bool separated) {
  if (separated) {
    if (!text.starts_with('_')) {
      return std::nullopt;
    }
    text.remove_prefix(1);
  }
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  if (digits == 0 || digits > kMaximumDigits) {
    return std::nullopt;
  }
  std::int64_t number = 0;
  std::from_chars(text.data(), text.data() + digits, number);
  text.remove_prefix(digits);
  return number;
}

// A rank by what its directory's name says.
struct Place {
  std::int64_t pipeline = 0;
  std::int64_t tensor = 0;
  std::int64_t expert = 0;
  auto operator<=>(const Place&) const = default;  // NOLINT(modernize-use-nullptr): as of LeaseKey
};

// Of two numbers the first is the pipeline rank; one alone is what the run had ranks of.
Place PlaceOf(const RankNumbers& numbers, const ParallelLayout& layout) {
  Place place{.tensor = numbers.tensor};
  const bool second_is_expert = !numbers.third && layout.expert > 1 && layout.pipeline <= 1;
  (second_is_expert ? place.expert : place.pipeline) = numbers.second.value_or(0);
  place.expert += numbers.third.value_or(0);
  return place;
}

std::string DirectoryOf(const Place& place, const RankGrid& grid) {
  return fmt::format("mp_rank_{:02}{}{}", place.tensor, grid.pipeline > 1 ? fmt::format("_{:03}", place.pipeline) : "",
                     grid.expert > 1 ? fmt::format("_{:03}", place.expert) : "");
}

std::string Describe(const RankGrid& grid) {
  return fmt::format("{} tensor, {} pipeline and {} expert parallel ranks", grid.tensor, grid.pipeline, grid.expert);
}

// The sizes that the arguments know, or else the largest numbers.
absl::StatusOr<RankGrid> SizesOf(const std::vector<RankPath>& paths, const ParallelLayout& layout) {
  RankGrid grid;
  for (const RankPath& path : paths) {
    const Place place = PlaceOf(path.numbers, layout);
    const auto widen = [](std::int64_t known, std::int64_t& size, std::int64_t rank) {
      size = known > 0 ? known : std::max(size, rank + 1);
    };
    widen(layout.pipeline, grid.pipeline, place.pipeline);
    widen(layout.tensor, grid.tensor, place.tensor);
    widen(layout.expert, grid.expert, place.expert);
  }
  grid.expert_tensor = layout.expert_tensor > 0 ? layout.expert_tensor : grid.tensor;
  for (const std::int64_t size : {grid.pipeline, grid.tensor, grid.expert, grid.expert_tensor}) {
    if (size > kMaximumRanks) {
      return Error(Reason::kLimitExceeded, fmt::format("{} parallel ranks; the most is {}", size, kMaximumRanks),
                   {.file = paths.front().file});
    }
  }
  if (grid.tensor % grid.expert_tensor != 0) {
    if (grid.expert > 1) {
      return Error(Reason::kCheckpointUnsupported,
                   fmt::format("{} expert tensor parallel ranks do not divide {} tensor parallel ranks: several wrote "
                               "the same file",
                               grid.expert_tensor, grid.tensor),
                   {.file = paths.front().file});
    }
    grid.expert_tensor = 0;
  }
  grid.stage_ranks = std::max(grid.tensor, grid.expert * grid.expert_tensor);
  return grid;
}

}  // namespace

std::optional<RankNumbers> ParseRankDirectory(std::string_view name) {
  if (!name.starts_with(kPrefix)) {
    return std::nullopt;
  }
  name.remove_prefix(kPrefix.size());
  const auto tensor = TakeNumber(name, false);
  if (!tensor) {
    return std::nullopt;
  }
  RankNumbers numbers{.tensor = *tensor, .second = {}, .third = {}};
  for (std::optional<std::int64_t>* const number : {&numbers.second, &numbers.third}) {
    if (name.empty()) {
      return numbers;
    }
    *number = TakeNumber(name, true);
    if (!*number) {
      return std::nullopt;
    }
  }
  return name.empty() ? std::optional(numbers) : std::nullopt;
}

absl::StatusOr<std::vector<RankPath>> ListRankFiles(const SourceDirectory& directory) {
  SLIPWAY_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, directory.List());
  std::vector<RankPath> paths;
  for (const DirectoryEntry& entry : entries) {
    const auto numbers = ParseRankDirectory(entry.name);
    if (!numbers) {
      continue;
    }
    if (std::ssize(paths) == kMaximumRanks) {
      return Error(Reason::kLimitExceeded, fmt::format("more than {} rank directories", kMaximumRanks),
                   {.file = directory.path()});
    }
    for (const std::string_view file_name : kFileNames) {
      const std::string file = fmt::format("{}/{}", entry.name, file_name);
      if (directory.Exists(file)) {
        paths.push_back({*numbers, file});
        break;
      }
    }
  }
  if (paths.empty()) {
    return Error(Reason::kCheckpointCorrupt, fmt::format("no mp_rank_* directory holds {}", kFileNames.front()),
                 {.file = directory.path()});
  }
  return paths;
}

absl::StatusOr<RankGrid> LayOutRanks(const std::vector<RankPath>& paths, const ParallelLayout& layout) {
  SLIPWAY_ASSIGN_OR_RETURN(RankGrid grid, SizesOf(paths, layout));
  std::map<Place, const std::string*> found;
  for (const RankPath& path : paths) {
    const Place place = PlaceOf(path.numbers, layout);
    if (place.tensor >= grid.tensor || place.pipeline >= grid.pipeline || place.expert >= grid.expert) {
      return Error(Reason::kCheckpointCorrupt,
                   fmt::format("the training arguments know {}; this is none", Describe(grid)), {.file = path.file});
    }
    if (!found.emplace(place, &path.file).second) {
      return Error(Reason::kCheckpointCorrupt, "two directories are the same rank", {.file = path.file});
    }
  }
  // Ends at the first rank that is missing, so after no more steps than there are files.
  for (std::int64_t pipeline = 0; pipeline < grid.pipeline; ++pipeline) {
    for (std::int64_t rank = 0; rank < grid.stage_ranks; ++rank) {
      const std::int64_t expert = grid.expert > 1 ? rank / grid.expert_tensor % grid.expert : 0;
      const Place place{.pipeline = pipeline, .tensor = rank % grid.tensor, .expert = expert};
      const auto file = found.find(place);
      if (file == found.end()) {
        return Error(Reason::kCheckpointCorrupt, fmt::format("of {}, this one is missing", Describe(grid)),
                     {.file = DirectoryOf(place, grid)});
      }
      grid.files.push_back(*file->second);
    }
  }
  return grid;
}

}  // namespace slipway::engine
