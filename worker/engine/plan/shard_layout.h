// Where output tensors lie: which file, which offset.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// The largest file that the options ask for: the default is 5 GB, as is usual, and 1 GB where weights are quantized.
// Such a file takes several times its size to read and to compute, and its SHA-256 is one thread's: fewer and larger
// files would leave most cores of a large machine idle.
std::int64_t ShardLimit(const ExportOptions& options, bool quantized);

// Fills shards one after the other with tensors in their order: a tensor begins a new shard where it would make the
// file larger than `maximum_bytes`; one that is larger by itself has a file of its own. No tensor is split. In a shard
// in which a tensor would not begin at a multiple of its element's size, larger elements go first. Sets shard and
// file_offset of the tensors. Names: "model.safetensors", or "model-00001-of-0000N.safetensors" for several.
// LIMIT_EXCEEDED where a header would be longer than consumers take.
absl::StatusOr<std::vector<Shard>> LayOutShards(std::vector<OutputTensor>& tensors, std::int64_t maximum_bytes);

// Files that are made of given runs of tensors, as those of ranks are.
struct NamedFile {
  std::string name;  // with "{part}": as many as `maximum_bytes` makes of it, counted from 0
  std::int32_t tensor_count = 0;
};

// The same for files with names, one after the other, each of at least one tensor.
absl::StatusOr<std::vector<Shard>> LayOutFiles(const std::vector<NamedFile>& files, std::vector<OutputTensor>& tensors,
                                               std::int64_t maximum_bytes);

}  // namespace slipway::engine
