#include "worker/engine/checkpoint/legacy_grid.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <compare>
#include <cstddef>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::engine {
namespace {

constexpr std::string_view kPrefix = "mp_rank_";
// Current Megatron-LM, and releases of its first year.
constexpr std::array<std::string_view, 2> kFileNames = {"model_optim_rng.pt", "model_rng.pt"};
constexpr std::size_t kMaximumRanks = 65'536;
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

std::int64_t PipelineRank(const RankNumbers& numbers) { return numbers.second.value_or(0); }

absl::Status CheckNoExpertRanks(const std::vector<RankPath>& paths, const ParallelLayout& layout) {
  for (const RankPath& path : paths) {
    if (path.numbers.third || layout.expert > 1) {
      return Error(Reason::kCheckpointUnsupported, "experts that are spread over ranks in the legacy format",
                   {.file = path.file});
    }
  }
  return absl::OkStatus();
}

struct PlacedRank {
  std::int64_t pipeline = 0;
  std::int64_t tensor = 0;
  const std::string* file = nullptr;
  auto operator<=>(const PlacedRank& other) const {
    return std::pair(pipeline, tensor) <=> std::pair(other.pipeline, other.tensor);
  }
  bool operator==(const PlacedRank& other) const { return pipeline == other.pipeline && tensor == other.tensor; }
};

absl::Status Missing(const PlacedRank& rank, std::int64_t tensor_ranks, std::int64_t pipeline_ranks) {
  return Error(
      Reason::kCheckpointCorrupt,
      fmt::format("of {} tensor by {} pipeline parallel ranks, this one is missing", tensor_ranks, pipeline_ranks),
      {.file = pipeline_ranks > 1 ? fmt::format("mp_rank_{:02}_{:03}", rank.tensor, rank.pipeline)
                                  : fmt::format("mp_rank_{:02}", rank.tensor)});
}

// `found` is sorted and within the bounds; every place of the grid must occur once.
absl::StatusOr<RankGrid> FillGrid(const std::vector<PlacedRank>& found, std::int64_t tensor_ranks,
                                  std::int64_t pipeline_ranks) {
  RankGrid grid;
  PlacedRank next;
  for (const PlacedRank& rank : found) {
    if (rank < next) {
      return Error(Reason::kCheckpointCorrupt, "two directories are the same rank", {.file = *rank.file});
    }
    if (next < rank) {
      return Missing(next, tensor_ranks, pipeline_ranks);
    }
    if (next.tensor == 0) {
      grid.emplace_back();
    }
    grid.back().push_back(*rank.file);
    if (++next.tensor == tensor_ranks) {
      next = PlacedRank{next.pipeline + 1, 0, nullptr};
    }
  }
  if (next.pipeline < pipeline_ranks) {
    return Missing(next, tensor_ranks, pipeline_ranks);
  }
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
    if (paths.size() == kMaximumRanks) {
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
  SLIPWAY_RETURN_IF_ERROR(CheckNoExpertRanks(paths, layout));
  std::int64_t tensor_ranks = layout.tensor;
  std::int64_t pipeline_ranks = layout.pipeline;
  for (const RankPath& path : paths) {
    if (layout.tensor <= 0) {
      tensor_ranks = std::max(tensor_ranks, path.numbers.tensor + 1);
    }
    if (layout.pipeline <= 0) {
      pipeline_ranks = std::max(pipeline_ranks, PipelineRank(path.numbers) + 1);
    }
  }
  std::vector<PlacedRank> found;
  for (const RankPath& path : paths) {
    if (path.numbers.tensor >= tensor_ranks || PipelineRank(path.numbers) >= pipeline_ranks) {
      return Error(Reason::kCheckpointCorrupt,
                   fmt::format("the training arguments know {} tensor and {} pipeline parallel ranks; this is none",
                               tensor_ranks, pipeline_ranks),
                   {.file = path.file});
    }
    found.push_back({PipelineRank(path.numbers), path.numbers.tensor, &path.file});
  }
  std::ranges::sort(found);
  return FillGrid(found, tensor_ranks, pipeline_ranks);
}

}  // namespace slipway::engine
