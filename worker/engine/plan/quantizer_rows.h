// Which rows of a stored tensor of amaxes belong to which rows of its weight.
//
// ModelOpt stores the amaxes of a weight's rows (or of blocks in them) as ranks have them, one rank after the other.
// That is the weight's own order, except where the weight was put together otherwise: of a gated linear_fc1 rank r has
// [gate r; up r], so amaxes are [g0; u0; g1; u1; ...] while the weight is all gates and then all ups. The pieces of
// both tensors say what each rank had.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/plan/transforms.h"
#include "worker/engine/quantize/ranges.h"

namespace slipway::engine {

// The block of values that share an amax.
struct AmaxBlock {
  std::int64_t rows = 1;
  std::int64_t columns = 0;  // 0: the whole row
};

// Whether `weight` is [gate; up].
bool IsGated(const CanonicalTensor& weight, const ModelConfiguration& configuration);

// The amaxes of `rows` of the matrix `weight`; `amaxes` is [ceil(R / block rows), ceil(C / block columns)], or without
// the second axis where that is 1. `gated`: the weight is [gate; up]. TENSOR_SHAPE_MISMATCH for another shape,
// CHECKPOINT_UNSUPPORTED where rows cut blocks or it cannot be told which rows the amaxes are of; each names the
// amaxes.
absl::StatusOr<StoredAmaxes> AmaxesOf(const CanonicalTensor& amaxes, const CanonicalTensor& weight, AmaxBlock block,
                                      bool gated, const std::vector<RowRange>& rows, const Checkpoint& checkpoint);

}  // namespace slipway::engine
