// torch.save archives (zip, stored): where the elements of the tensor in one lie.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/checkpoint.h"

namespace slipway::engine {

// Finds the elements of a piece that lies in an archive: reads the archive's directory and its small pickle, checks
// that dtype and element count are those of `tensor` and `piece`, and returns the piece with in_archive false, position
// at its first element, length and strides set. CHECKPOINT_CORRUPT (with file and offset) where they contradict.
absl::StatusOr<Piece> LocateElements(const Checkpoint& checkpoint, const StoredTensor& tensor, const Piece& piece);

}  // namespace slipway::engine
