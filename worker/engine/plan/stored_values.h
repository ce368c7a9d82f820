// Values of small tensors of a checkpoint, read while a plan is made: ranges and scales of quantizers.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/plan/source_region.h"

namespace slipway::engine {

// More than any tensor has that is read here.
inline constexpr std::int64_t kMaximumStoredValues = std::int64_t{1} << 20;

// All values of `tensor` in row-major order. CHECKPOINT_UNSUPPORTED for other dtypes than F32, BF16 and F16,
// LIMIT_EXCEEDED past kMaximumStoredValues, CHECKPOINT_* where they cannot be read; each names the tensor. Thread-safe.
absl::StatusOr<std::vector<float>> ReadStoredValues(const CanonicalTensor& tensor, const Checkpoint& checkpoint);

// All of a canonical tensor, as regions of the stored ones.
std::vector<SourceRegion> WholeOf(const CanonicalTensor& tensor, const Checkpoint& checkpoint);

}  // namespace slipway::engine
