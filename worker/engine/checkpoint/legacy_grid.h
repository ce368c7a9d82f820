// The directories of a legacy checkpoint, mp_rank_TT[_PPP][_EEE], as a grid of ranks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/checkpoint.h"

namespace slipway::engine {

// A directory's numbers: tensor rank, and one or two more whose meaning the training arguments tell.
struct RankNumbers {
  std::int64_t tensor = 0;
  std::optional<std::int64_t> second;
  std::optional<std::int64_t> third;
};

// Absent for a name of another form.
std::optional<RankNumbers> ParseRankDirectory(std::string_view name);

// The files "mp_rank_.../model_optim_rng.pt" below `directory`, by name. Directories that hold only a distributed
// optimizer's files are left out. CHECKPOINT_CORRUPT where there is no file, LIMIT_EXCEEDED for too many.
struct RankPath {
  RankNumbers numbers;
  std::string file;  // relative to `directory`
};
absl::StatusOr<std::vector<RankPath>> ListRankFiles(const SourceDirectory& directory);

// Files by rank: [pipeline][tensor].
using RankGrid = std::vector<std::vector<std::string>>;

// Lays the files out. `layout` is that of the training arguments; where it knows nothing, the directories' numbers
// count. CHECKPOINT_CORRUPT for a rank that is missing (naming its directory) or does not belong;
// CHECKPOINT_UNSUPPORTED for expert parallelism.
absl::StatusOr<RankGrid> LayOutRanks(const std::vector<RankPath>& paths, const ParallelLayout& layout);

}  // namespace slipway::engine
