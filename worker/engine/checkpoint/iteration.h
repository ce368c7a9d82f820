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
};

// In this order: `path` if it is an iteration's directory itself; options.iteration; the tracker file
// latest_checkpointed_iteration.txt (a number, or "release"); the largest iter_*; `path` if it is a Hugging Face
// directory. CHECKPOINT_NOT_FOUND names what was
// looked for and the iterations that there are.
absl::StatusOr<IterationDirectory> FindIteration(const std::string& path, const ReadOptions& options);

}  // namespace slipway::engine
