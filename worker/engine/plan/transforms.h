// The transforms of model tables as maps from canonical tensors to regions of stored tensors. All of them take whole
// rows (slices along axis 0) in some order.
//
// A gated linear_qkv (kQkvGated) has n gate heads behind the n query heads of each group. in_proj of a gated delta net
// (kDeltaNet), Nk key heads of dk, Nv = p Nk value heads of dv, is [query; key; value; z; beta; alpha]; Hugging Face
// has for each key head its query, key, values and z, and in another tensor its beta and alpha.
//
// linear_qkv (kQkv), A heads, G groups, n = A/G, D rows a head: group g is [q_{gn} ... q_{gn+n-1}, k_g, v_g], so its
// block has (n + 2) D rows.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/model/architecture.h"
#include "worker/engine/model/model.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// Rows [begin, begin + count) of a canonical tensor.
struct RowRange {
  std::int64_t begin = 0;
  std::int64_t count = 0;
  bool operator==(const RowRange&) const = default;
};

// The rows of the rule's canonical tensor that make up its target number `target`, in order. The canonical tensor has
// SourceShape(rule, configuration).
std::vector<RowRange> RowsOf(const TensorRule& rule, std::size_t target, const ModelConfiguration& configuration);

// Rows as regions of the stored tensors that `tensor` is made of; neighbouring ranges are joined. INTERNAL where the
// rows are not there.
// What the axes of an output of `shape` have gone through since its rows, of all experts where they are stacked, were
// put one after the other.
AxisPermutation PermutationOf(Axes axes, const Shape& shape);

absl::StatusOr<std::vector<SourceRegion>> RegionsOf(const CanonicalTensor& tensor, const std::vector<RowRange>& rows,
                                                    const Checkpoint& checkpoint);

}  // namespace slipway::engine
