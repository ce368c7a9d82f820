// A tensor of the whole model out of what the tensor-parallel ranks hold of it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/checkpoint/legacy_names.h"
#include "worker/engine/checkpoint/legacy_rank.h"

namespace slipway::engine {

// One rank's part; borrows. The file's name is for messages.
struct RankPart {
  const LegacyRankTensor* tensor = nullptr;
  std::int32_t file = 0;  // index into Checkpoint::files
  std::string_view file_name;
};

// Order of the rows of a rank's query_key_value before checkpoint_version 2.0; from then on [heads, 3, dimension].
enum class QkvOrder {
  kKindFirst,  // version 0: [3, heads, dimension]
  kKindLast,   // version 1.0: [heads, dimension, 3]
};

struct Assembly {
  RankSharing sharing = RankSharing::kReplicated;
  bool gated = false;  // of kFirstLinear
  std::optional<QkvOrder> qkv_order;
  std::int64_t heads = 0;  // attention heads of one rank; used with qkv_order only
};

// `parts` by tensor-parallel rank, at least one. TENSOR_SHAPE_MISMATCH where the ranks' shapes or dtypes differ or do
// not allow the assembly.
absl::StatusOr<StoredTensor> AssembleTensor(const std::string& name, std::span<const RankPart> parts,
                                            const Assembly& assembly);

}  // namespace slipway::engine
