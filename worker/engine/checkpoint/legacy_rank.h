// One rank's file of the legacy format: its training state and where the tensors of its model lie.
//
// The file is what torch.save made of one dictionary:
//   1. "args", "checkpoint_version" (absent before 1.0), "iteration"
//   2. "model", or "model0", "model1"... with virtual pipeline stages: parameters by name, flat (Megatron-Core) or in
//      nested dictionaries (before)
//   3. "optimizer", "rng_state" and more that is never needed
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/arguments.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/checkpoint/torch_tensor.h"

namespace slipway::engine {

struct LegacyRankTensor {
  TorchTensor view;           // checked against the storage: every element lies in it
  std::int64_t position = 0;  // of the storage's first byte in the file
  bool versioned_qkv = false;
};

// One (virtual) pipeline stage of one rank: Megatron-Core names, layers numbered from 0.
using RankModel = std::map<std::string, LegacyRankTensor>;

struct LegacyRankFile {
  std::string name;  // relative to the iteration's directory
  std::shared_ptr<const SourceFile> file;
  CommonState common;
  std::vector<RankModel> models;  // one, or one a virtual stage
  std::vector<IgnoredEntries> ignored;
};

// Reads the archive's directory and pickle of `directory`/`name`; no weight. Errors as ReadLegacyCheckpoint's.
absl::StatusOr<LegacyRankFile> ReadRankFile(const SourceDirectory& directory, const std::string& name);

}  // namespace slipway::engine
