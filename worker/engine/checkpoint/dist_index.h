// The index of a distributed checkpoint: ".metadata", a pickle of torch.distributed.checkpoint.metadata.Metadata, as
// compact tables. Millions of blocks: an object of the pickle becomes a row here as soon as it is read.
//
//   Metadata.state_dict_metadata  name -> TensorStorageMetadata(properties, size, chunks) or BytesStorageMetadata
//   ChunkStorageMetadata          offsets, sizes
//   Metadata.storage_data         MetadataIndex(fqn, offset) -> _StorageInfo(relative_path, offset, length)
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/pickle.h"

namespace slipway::engine {

// Where one item lies. Not checked against any file yet.
struct DistLocation {
  std::string_view file;
  std::int64_t offset = 0;
  std::int64_t length = 0;
  bool transformed = false;  // compressed or encrypted on the way
};

// One block of a tensor, or the one object of a bytes entry (no offsets, no sizes).
struct DistBlock {
  std::span<const std::int64_t> offsets;
  std::span<const std::int64_t> sizes;
  DistLocation location;
};

struct DistEntry {
  std::string_view name;
  bool is_tensor = false;
  PickleClass dtype;  // of a tensor
  std::span<const std::int64_t> shape;
};

// Owns what its views point into. Immutable once read; thread-safe.
class DistIndex {
 public:
  // Parses `window`, the whole file named `file`.
  static absl::StatusOr<std::unique_ptr<const DistIndex>> Read(Window window, const std::string& file);
  virtual ~DistIndex() = default;

  // Sorted by name.
  [[nodiscard]] virtual std::span<const DistEntry> entries() const = 0;
  // The blocks of one of them, sorted by offsets. CHECKPOINT_CORRUPT where the index does not say where one lies, or
  // says it twice.
  [[nodiscard]] virtual absl::StatusOr<std::vector<DistBlock>> Blocks(const DistEntry& entry) const = 0;
  // Class of the pickled index: Megatron-Core 0.15 has its own.
  [[nodiscard]] virtual PickleClass root_class() const = 0;
};

}  // namespace slipway::engine
