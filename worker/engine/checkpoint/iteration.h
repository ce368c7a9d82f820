// Which directory of a training run is the checkpoint.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {

struct IterationDirectory {
  std::shared_ptr<const SourceDirectory> root;       // where the tracker file is, or the same as `directory`
  std::shared_ptr<const SourceDirectory> directory;  // the iteration's own
  std::int64_t iteration = 0;
  bool release = false;
  std::string framework = {};  // "NeMo 2...": whose directory it is, where that is not Megatron-LM or Megatron-Bridge
};

// In this order: `path` if it is an iteration's directory itself (metadata.json, .metadata, mp_rank_0*,
// run_config.yaml, train_state.pt); NeMo's weights/ or model_weights/ below it; options.iteration;
// latest_train_state.pt (Megatron-Bridge's, which writes both trackers); latest_checkpointed_iteration.txt (a number,
// or "release"); the largest iter_*; `path` if it is a Hugging Face directory. CHECKPOINT_NOT_FOUND names what was
// looked for and the iterations that there are; CHECKPOINT_UNSUPPORTED a directory that is several of these at once.
absl::StatusOr<IterationDirectory> FindIteration(const std::string& path, const ReadOptions& options);

// A checkpoint of which nothing but its place is known yet.
std::shared_ptr<Checkpoint> CheckpointAt(IterationDirectory found, CheckpointFormat format);

}  // namespace slipway::engine
