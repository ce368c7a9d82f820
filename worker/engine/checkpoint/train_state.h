// Megatron-Bridge's train_state.pt and latest_train_state.pt: a torch.save archive of a dictionary of 0-d tensors.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {

// The training step that the file `name` says. CHECKPOINT_CORRUPT where it says none, or none that makes sense.
absl::StatusOr<std::int64_t> ReadTrainingStep(const SourceDirectory& directory, const std::string& name);

}  // namespace slipway::engine
