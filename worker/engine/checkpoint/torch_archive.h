// The zip archives that torch.save writes (stored members only), as byte ranges of a larger file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/pickle.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {

// A member's bytes: positions are those of the file, not of the archive.
struct ArchiveMember {
  std::string name;  // without the archive's root folder: "data.pkl", "data/0"
  std::int64_t position = 0;
  std::int64_t size = 0;
};

// The directory of one archive. Borrows `file`, which must outlive it. Immutable; thread-safe.
class TorchArchive {
 public:
  // The archive at [offset, offset+length) of `file`. CHECKPOINT_CORRUPT for anything that contradicts itself or
  // leaves the range, CHECKPOINT_UNSUPPORTED for compressed members, big-endian data and torch files that are no zip.
  static absl::StatusOr<TorchArchive> Open(const SourceFile& file, std::int64_t offset, std::int64_t length);

  // Where a member's bytes lie (reads its local header). CHECKPOINT_CORRUPT if there is none of that name.
  [[nodiscard]] absl::StatusOr<ArchiveMember> Find(std::string_view name) const;
  [[nodiscard]] bool Contains(std::string_view name) const;
  // The bytes of storage `key`: member "data/<key>".
  [[nodiscard]] absl::StatusOr<ArchiveMember> Storage(std::string_view key) const;
  // data.pkl. The document owns what it needs.
  [[nodiscard]] absl::StatusOr<PickleDocument> ReadPickle() const;

 private:
  struct Entry {
    std::string name;
    std::int64_t header = 0;  // position of the local header in the file
    std::int64_t size = 0;
    std::int64_t end = 0;  // nothing of this member lies at or past it
  };
  friend class ArchiveDirectoryReader;

  const SourceFile* file_ = nullptr;
  std::vector<Entry> entries_;  // sorted by name
};

}  // namespace slipway::engine
