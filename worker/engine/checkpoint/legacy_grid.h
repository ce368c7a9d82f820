// The directories of a legacy checkpoint, mp_rank_TT[_PPP][_EEE], as a grid of ranks.
//
// Megatron numbers the ranks of one pipeline stage so that rank r is tensor-parallel rank r % tensor, and for experts
// expert tensor-parallel rank r % expert_tensor and expert-parallel rank (r / expert_tensor) % expert. The first
// max(tensor, expert * expert_tensor) of them hold all that there is; only they are looked at.
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

struct RankGrid {
  std::int64_t pipeline = 1;
  std::int64_t tensor = 1;
  std::int64_t expert = 1;
  // 0: experts cannot be told apart, since ranks that share one wrote the same file.
  std::int64_t expert_tensor = 1;
  std::int64_t stage_ranks = 1;    // of one pipeline stage
  std::vector<std::string> files;  // [pipeline][stage_ranks]
};

// Lays the files out. `layout` is that of the training arguments; where it knows nothing, the directories' numbers
// count. CHECKPOINT_CORRUPT for a rank that is missing (naming its directory) or does not belong;
// CHECKPOINT_UNSUPPORTED where expert tensor parallel ranks do not divide the tensor parallel ones, LIMIT_EXCEEDED.
absl::StatusOr<RankGrid> LayOutRanks(const std::vector<RankPath>& paths, const ParallelLayout& layout);

}  // namespace slipway::engine
