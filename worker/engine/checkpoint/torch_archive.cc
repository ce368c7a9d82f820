// A zip archive as torch.save writes it (PKWARE's APPNOTE, the parts that occur), little-endian:
//
//   1. members, each: local header "PK\3\4" (30 bytes; name length at 26, extra length at 28), name, extra field, data
//   2. central directory, one entry a member: "PK\1\2" (46 bytes; flags 8, method 10, compressed size 20, size 24,
//      name length 28, extra length 30, comment length 32, local header 42), name, extra field, comment; a size or
//      position of 0xffffffff is in the extra field 0x0001 instead, 8 bytes each in the order size, compressed size,
//      position
//   3. for large archives "PK\6\6" (entries 32, directory's size 40, directory's position 48) and its locator
//      "PK\6\7" (20 bytes; position of 3. at 8)
//   4. "PK\5\6" (22 bytes; entries 10, directory's size 12, directory's position 16), without a comment
//
// Positions count from the archive's own start. Local headers may leave sizes at zero (bit 3 of the flags); the central
// directory's are the ones that count.
#include "worker/engine/checkpoint/torch_archive.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <utility>

#include "common/error.h"
#include "worker/engine/storage/memory_window.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kEndSize = 22;
constexpr std::int64_t kLocatorSize = 20;
constexpr std::int64_t kEnd64Size = 56;
constexpr std::int64_t kLocalSize = 30;
constexpr std::int64_t kCentralSize = 46;
constexpr std::int64_t kMaximumMembers = 1'000'000;
constexpr std::int64_t kMaximumDirectoryBytes = std::int64_t{256} << 20;
constexpr std::int64_t kMaximumPickleBytes = std::int64_t{256} << 20;  // of data.pkl
constexpr std::int64_t kTailBytes = 4096;  // enough for the directory of an archive of one tensor
constexpr std::uint64_t kIn64 = 0xffffffff;

template <typename T>
std::uint64_t Load(std::span<const std::byte> bytes, std::size_t offset) {
  T value = 0;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

bool HasSignature(std::span<const std::byte> bytes, std::string_view signature) {
  return bytes.size() >= signature.size() && std::memcmp(bytes.data(), signature.data(), signature.size()) == 0;
}

std::string_view TextAt(std::span<const std::byte> bytes, std::size_t offset, std::size_t length) {
  return {reinterpret_cast<const char*>(bytes.data()) + offset, length};
}

}  // namespace

// Reads one archive's directory.
class ArchiveDirectoryReader {
 public:
  ArchiveDirectoryReader(const SourceFile& file, std::int64_t start, std::int64_t length)
      : file_(file), start_(start), length_(length) {}

  absl::StatusOr<TorchArchive> Read();

 private:
  struct Directory {
    std::int64_t position = 0;  // in the archive
    std::int64_t size = 0;
    std::int64_t count = 0;
  };

  absl::Status CheckKind() const;
  absl::StatusOr<Directory> FindDirectory();
  absl::StatusOr<Directory> FindDirectory64(std::int64_t end);
  absl::Status ReadEntries(std::span<const std::byte> bytes, const Directory& directory);
  absl::Status ReadEntry(std::span<const std::byte> entry, std::int64_t position);
  absl::Status FinishEntries(std::int64_t directory_position);
  // The bytes [position, position+size) of the archive, from the tail already read where it holds them.
  absl::StatusOr<std::span<const std::byte>> Bytes(std::int64_t position, std::int64_t size);
  [[nodiscard]] absl::Status Fail(Reason reason, std::string_view message, std::int64_t position) const {
    return Error(reason, message, {.file = file_.name(), .offset = start_ + position});
  }
  [[nodiscard]] absl::Status Corrupt(std::string_view message, std::int64_t position) const {
    return Fail(Reason::kCheckpointCorrupt, message, position);
  }

  const SourceFile& file_;
  std::int64_t start_;
  std::int64_t length_;
  std::vector<std::byte> tail_;
  std::vector<std::byte> scratch_;
  TorchArchive archive_;
};

absl::StatusOr<std::span<const std::byte>> ArchiveDirectoryReader::Bytes(std::int64_t position, std::int64_t size) {
  if (position < 0 || size < 0 || position > length_ || size > length_ - position) {
    return Corrupt("the zip archive points outside of itself", 0);
  }
  const std::int64_t tail_start = length_ - static_cast<std::int64_t>(tail_.size());
  if (position >= tail_start) {
    return std::span<const std::byte>(tail_).subspan(static_cast<std::size_t>(position - tail_start),
                                                     static_cast<std::size_t>(size));
  }
  scratch_.resize(static_cast<std::size_t>(size));
  SLIPWAY_RETURN_IF_ERROR(file_.ReadAt(start_ + position, scratch_));
  return std::span<const std::byte>(scratch_);
}

// A clear word for torch files that are no zip archive.
absl::Status ArchiveDirectoryReader::CheckKind() const {
  std::array<std::byte, 2> magic = {};
  if (length_ >= kEndSize) {
    SLIPWAY_RETURN_IF_ERROR(file_.ReadAt(start_, magic));
  }
  if (magic == std::array{std::byte{0x80}, std::byte{0x02}}) {
    return Fail(Reason::kCheckpointUnsupported, "a file of torch before 1.6 (no zip archive): save it again", 0);
  }
  return Corrupt("no zip archive: its end record is missing", length_);
}

absl::StatusOr<ArchiveDirectoryReader::Directory> ArchiveDirectoryReader::FindDirectory() {
  const std::int64_t end = length_ - kEndSize;
  if (end < 0) {
    return CheckKind();
  }
  SLIPWAY_ASSIGN_OR_RETURN(const std::span<const std::byte> record, Bytes(end, kEndSize));
  if (!HasSignature(record, "PK\5\6")) {
    return CheckKind();
  }
  const Directory directory = {.position = static_cast<std::int64_t>(Load<std::uint32_t>(record, 16)),
                               .size = static_cast<std::int64_t>(Load<std::uint32_t>(record, 12)),
                               .count = static_cast<std::int64_t>(Load<std::uint16_t>(record, 10))};
  const bool needs_64 = directory.position == kIn64 || directory.size == kIn64 || directory.count == 0xffff;
  if (needs_64) {
    return FindDirectory64(end);
  }
  return directory;
}

absl::StatusOr<ArchiveDirectoryReader::Directory> ArchiveDirectoryReader::FindDirectory64(std::int64_t end) {
  const std::int64_t locator_position = end - kLocatorSize;
  SLIPWAY_ASSIGN_OR_RETURN(const std::span<const std::byte> locator, Bytes(locator_position, kLocatorSize));
  if (!HasSignature(locator, "PK\6\7")) {
    return Corrupt("the zip archive's 64-bit end record is missing", locator_position);
  }
  const auto position = static_cast<std::int64_t>(Load<std::uint64_t>(locator, 8));
  SLIPWAY_ASSIGN_OR_RETURN(const std::span<const std::byte> record, Bytes(position, kEnd64Size));
  if (!HasSignature(record, "PK\6\6")) {
    return Corrupt("the zip archive's 64-bit end record is missing", position);
  }
  return Directory{.position = static_cast<std::int64_t>(Load<std::uint64_t>(record, 48)),
                   .size = static_cast<std::int64_t>(Load<std::uint64_t>(record, 40)),
                   .count = static_cast<std::int64_t>(Load<std::uint64_t>(record, 32))};
}

absl::Status ArchiveDirectoryReader::ReadEntry(std::span<const std::byte> entry, std::int64_t position) {
  const std::uint64_t name_length = Load<std::uint16_t>(entry, 28);
  const std::uint64_t extra_length = Load<std::uint16_t>(entry, 30);
  const std::string_view name = TextAt(entry, static_cast<std::size_t>(kCentralSize), name_length);
  const std::uint64_t method = Load<std::uint16_t>(entry, 10);
  const bool encrypted = (Load<std::uint16_t>(entry, 8) & 1U) != 0;
  if (method != 0 || encrypted) {
    return Fail(Reason::kCheckpointUnsupported,
                fmt::format("member {} of the zip archive is {}", name, encrypted ? "encrypted" : "compressed"),
                position);
  }
  std::uint64_t compressed = Load<std::uint32_t>(entry, 20);
  std::uint64_t size = Load<std::uint32_t>(entry, 24);
  std::uint64_t header = Load<std::uint32_t>(entry, 42);
  std::span<const std::byte> extra = entry.subspan(static_cast<std::size_t>(kCentralSize) + name_length, extra_length);
  while (extra.size() >= 4) {
    const std::uint64_t id = Load<std::uint16_t>(extra, 0);
    const std::uint64_t field_length = Load<std::uint16_t>(extra, 2);
    if (field_length > extra.size() - 4) {
      return Corrupt("an extra field of the zip archive's directory is cut short", position);
    }
    std::span<const std::byte> field = extra.subspan(4, field_length);
    extra = extra.subspan(4 + field_length);
    for (std::uint64_t* const value : {&size, &compressed, &header}) {
      if (id == 1 && *value == kIn64 && field.size() >= 8) {
        *value = Load<std::uint64_t>(field, 0);
        field = field.subspan(8);
      }
    }
  }
  const auto limit = static_cast<std::uint64_t>(length_);
  if (size != compressed || header > limit || size > limit - header) {
    return Corrupt(fmt::format("member {} lies outside the zip archive", name), position);
  }
  const std::size_t root = name.find('/');  // the archive's root folder
  archive_.entries_.push_back({.name = std::string(root == std::string_view::npos ? name : name.substr(root + 1)),
                               .header = start_ + static_cast<std::int64_t>(header),
                               .size = static_cast<std::int64_t>(size)});
  return absl::OkStatus();
}

absl::Status ArchiveDirectoryReader::ReadEntries(std::span<const std::byte> bytes, const Directory& directory) {
  archive_.entries_.reserve(static_cast<std::size_t>(directory.count));
  for (std::int64_t i = 0; i < directory.count; ++i) {
    const std::int64_t position = directory.position + directory.size - static_cast<std::int64_t>(bytes.size());
    if (bytes.size() < static_cast<std::size_t>(kCentralSize) || !HasSignature(bytes, "PK\1\2")) {
      return Corrupt("the zip archive's directory is cut short", position);
    }
    const std::uint64_t length = static_cast<std::uint64_t>(kCentralSize) + Load<std::uint16_t>(bytes, 28) +
                                 Load<std::uint16_t>(bytes, 30) + Load<std::uint16_t>(bytes, 32);
    if (length > bytes.size()) {
      return Corrupt("the zip archive's directory is cut short", position);
    }
    SLIPWAY_RETURN_IF_ERROR(ReadEntry(bytes.first(length), position));
    bytes = bytes.subspan(length);
  }
  return absl::OkStatus();
}

// Sorts by name; sets where each member must have ended, and refuses members that overlap or repeat.
absl::Status ArchiveDirectoryReader::FinishEntries(std::int64_t directory_position) {
  std::vector<TorchArchive::Entry>& entries = archive_.entries_;
  std::ranges::sort(entries, {}, &TorchArchive::Entry::header);
  for (std::size_t i = 0; i < entries.size(); ++i) {
    TorchArchive::Entry& entry = entries[i];
    entry.end = i + 1 < entries.size() ? entries[i + 1].header : start_ + directory_position;
    if (entry.end - entry.header < kLocalSize + entry.size) {
      return Corrupt(fmt::format("member {} overlaps what follows it in the zip archive", entry.name),
                     entry.header - start_);
    }
  }
  std::ranges::sort(entries, {}, &TorchArchive::Entry::name);
  const auto repeated = std::ranges::adjacent_find(entries, {}, &TorchArchive::Entry::name);
  if (repeated != entries.end()) {
    return Corrupt(fmt::format("the zip archive has two members {}", repeated->name), repeated->header - start_);
  }
  return absl::OkStatus();
}

absl::StatusOr<TorchArchive> ArchiveDirectoryReader::Read() {
  if (start_ < 0 || length_ < 0 || start_ > file_.size() || length_ > file_.size() - start_) {
    return Error(Reason::kCheckpointCorrupt,
                 fmt::format("{} bytes at {} lie outside the file, which has {}", length_, start_, file_.size()),
                 {.file = file_.name(), .offset = start_});
  }
  tail_.resize(static_cast<std::size_t>(std::min(length_, kTailBytes)));
  SLIPWAY_RETURN_IF_ERROR(file_.ReadAt(start_ + length_ - static_cast<std::int64_t>(tail_.size()), tail_));
  SLIPWAY_ASSIGN_OR_RETURN(const Directory directory, FindDirectory());
  if (directory.count < 0 || directory.count > kMaximumMembers || directory.size > kMaximumDirectoryBytes) {
    return Fail(Reason::kLimitExceeded, "the zip archive's directory is too large", length_);
  }
  if (directory.count > directory.size / kCentralSize) {
    return Corrupt("the zip archive's directory is smaller than its entries", length_);
  }
  SLIPWAY_ASSIGN_OR_RETURN(const std::span<const std::byte> bytes, Bytes(directory.position, directory.size));
  archive_.file_ = &file_;
  SLIPWAY_RETURN_IF_ERROR(ReadEntries(bytes, directory));
  SLIPWAY_RETURN_IF_ERROR(FinishEntries(directory.position));
  return std::move(archive_);
}

absl::StatusOr<TorchArchive> TorchArchive::Open(const SourceFile& file, std::int64_t offset, std::int64_t length) {
  SLIPWAY_ASSIGN_OR_RETURN(TorchArchive archive, ArchiveDirectoryReader(file, offset, length).Read());
  if (archive.Contains("byteorder")) {
    SLIPWAY_ASSIGN_OR_RETURN(const ArchiveMember member, archive.Find("byteorder"));
    std::array<char, 6> order = {};
    if (member.size == 6) {
      SLIPWAY_RETURN_IF_ERROR(file.ReadAt(member.position, std::as_writable_bytes(std::span(order))));
    }
    if (std::string_view(order.data(), order.size()) != "little") {
      return Error(Reason::kCheckpointUnsupported, "the tensors are not little-endian",
                   {.file = file.name(), .offset = member.position});
    }
  }
  return archive;
}

bool TorchArchive::Contains(std::string_view name) const {
  return std::ranges::binary_search(entries_, name, {}, &Entry::name);
}

absl::StatusOr<ArchiveMember> TorchArchive::Find(std::string_view name) const {
  const auto entry = std::ranges::lower_bound(entries_, name, {}, &Entry::name);
  if (entry == entries_.end() || entry->name != name) {
    return Error(Reason::kCheckpointCorrupt, fmt::format("the zip archive has no member {}", name),
                 {.file = file_->name()});
  }
  std::array<std::byte, kLocalSize> header = {};
  SLIPWAY_RETURN_IF_ERROR(file_->ReadAt(entry->header, header));
  const std::int64_t position = entry->header + kLocalSize +
                                static_cast<std::int64_t>(Load<std::uint16_t>(header, 26)) +
                                static_cast<std::int64_t>(Load<std::uint16_t>(header, 28));
  if (!HasSignature(header, "PK\3\4") || Load<std::uint16_t>(header, 8) != 0 || position > entry->end ||
      entry->size > entry->end - position) {
    return Error(Reason::kCheckpointCorrupt,
                 fmt::format("the header of member {} contradicts the zip archive's directory", name),
                 {.file = file_->name(), .offset = entry->header});
  }
  return ArchiveMember{.name = entry->name, .position = position, .size = entry->size};
}

absl::StatusOr<ArchiveMember> TorchArchive::Storage(std::string_view key) const {
  return Find(fmt::format("data/{}", key));
}

absl::StatusOr<PickleDocument> TorchArchive::ReadPickle() const {
  SLIPWAY_ASSIGN_OR_RETURN(const ArchiveMember member, Find("data.pkl"));
  if (member.size > kMaximumPickleBytes) {
    return Error(Reason::kLimitExceeded, fmt::format("data.pkl has {} bytes", member.size),
                 {.file = file_->name(), .offset = member.position});
  }
  std::vector<std::byte> bytes(static_cast<std::size_t>(member.size));
  SLIPWAY_RETURN_IF_ERROR(file_->ReadAt(member.position, bytes));
  return ParsePickle(OwningWindow(std::move(bytes)),
                     {.file = file_->name(), .file_position = member.position, .allow_persistent_ids = true});
}

}  // namespace slipway::engine
