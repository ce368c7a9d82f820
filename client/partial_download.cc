#include "client/partial_download.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <set>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "client/artifact_listing.h"
#include "client/message_json.h"
#include "common/digest.h"
#include "common/error.h"

namespace slipway {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaximumListingBytes = std::int64_t{256} << 20;

struct JournalRecord {
  std::uint32_t file = 0;
  std::uint32_t length = 0;
  std::uint64_t offset = 0;
  std::uint64_t chunk_xxh3 = 0;
  std::uint64_t record_xxh3 = 0;

  [[nodiscard]] std::uint64_t Checksum() const {
    return Xxh3(std::as_bytes(std::span(this, 1)).first(offsetof(JournalRecord, record_xxh3)));
  }
};
static_assert(sizeof(JournalRecord) == 32);

absl::Status WriteError(std::string_view call, const std::string& path) {
  return ErrnoError(errno, call, path, FileRole::kOutput);
}

absl::Status WriteWhole(int descriptor, std::span<const std::byte> bytes, std::int64_t offset,
                        const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = pwrite(descriptor, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written < 0) {
      return WriteError("pwrite", path);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += written;
  }
  return absl::OkStatus();
}

// Whether `buffer` could be filled from `offset` on.
bool ReadWhole(int descriptor, std::span<std::byte> buffer, std::int64_t offset) {
  while (!buffer.empty()) {
    const ssize_t got = pread(descriptor, buffer.data(), buffer.size(), offset);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got <= 0) {
      return false;
    }
    buffer = buffer.subspan(static_cast<std::size_t>(got));
    offset += got;
  }
  return true;
}

std::string ListingText(std::span<const v1::ArtifactFile> files) {
  nlohmann::ordered_json listing = nlohmann::ordered_json::array();
  for (const v1::ArtifactFile& file : files) {
    listing.push_back(MessageToJson(file));
  }
  return ToLine(listing);
}

std::string DirectoryFor(const std::string& output) {
  const fs::path path(output);
  return (path.parent_path() / fmt::format(".{}.slipway-download", path.filename().string())).string();
}

}  // namespace

PartialDownload::PartialDownload(std::string output, std::vector<v1::ArtifactFile> files)
    : output_(std::move(output)), directory_(DirectoryFor(output_)), files_(std::move(files)) {}

PartialDownload::~PartialDownload() {
  for (const int descriptor : descriptors_) {
    close(descriptor);
  }
  if (journal_ >= 0) {
    close(journal_);
  }
}

std::string PartialDownload::ContentPath(std::size_t file) const {
  return fmt::format("{}/content/{}", directory_, files_[file].path());
}

absl::StatusOr<std::unique_ptr<PartialDownload>> PartialDownload::Open(const std::string& output,
                                                                       std::vector<v1::ArtifactFile> files) {
  SLIPWAY_RETURN_IF_ERROR(CheckListing(files));
  std::unique_ptr<PartialDownload> partial(new PartialDownload(output, std::move(files)));
  SLIPWAY_RETURN_IF_ERROR(partial->Begin());
  SLIPWAY_RETURN_IF_ERROR(partial->OpenFiles());
  SLIPWAY_RETURN_IF_ERROR(partial->ReadJournal());
  return partial;
}

absl::Status PartialDownload::Begin() {
  FileSystem& files = PosixFileSystem();
  SLIPWAY_RETURN_IF_ERROR(files.MakeDirectories(directory_ + "/content"));
  SLIPWAY_ASSIGN_OR_RETURN(lock_, files.TryLock(directory_ + "/lock", /*exclusive=*/true));
  const std::string listing = ListingText(files_);
  const std::string listing_path = directory_ + "/listing";
  const absl::StatusOr<std::string> before =
      files.Exists(listing_path) ? files.ReadSmallFile(listing_path, kMaximumListingBytes) : std::string();
  if (before.ok() && *before == listing) {
    return absl::OkStatus();
  }
  SLIPWAY_RETURN_IF_ERROR(files.RemoveTree(directory_ + "/content"));
  SLIPWAY_RETURN_IF_ERROR(files.RemoveTree(directory_ + "/journal"));
  SLIPWAY_RETURN_IF_ERROR(files.MakeDirectories(directory_ + "/content"));
  return files.WriteSmallFileAtomically(listing_path, listing);
}

absl::Status PartialDownload::OpenFiles() {
  for (std::size_t i = 0; i < files_.size(); ++i) {
    const std::string path = ContentPath(i);
    SLIPWAY_RETURN_IF_ERROR(PosixFileSystem().MakeDirectories(fs::path(path).parent_path().string()));
    const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (descriptor < 0) {
      return WriteError("open", path);
    }
    descriptors_.push_back(descriptor);
    if (ftruncate(descriptor, files_[i].size()) != 0) {
      return WriteError("ftruncate", path);
    }
  }
  const std::string path = directory_ + "/journal";
  journal_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_APPEND | O_NOFOLLOW, 0666);
  return journal_ < 0 ? WriteError("open", path) : absl::OkStatus();
}

absl::Status PartialDownload::ReadJournal() {
  kept_.resize(files_.size());
  std::vector<std::byte> chunk;
  JournalRecord record;
  std::int64_t position = 0;
  // A torn or foreign record ends what can be believed: the journal is cut there.
  for (; ReadWhole(journal_, std::as_writable_bytes(std::span(&record, 1)), position); position += sizeof(record)) {
    if (record.record_xxh3 != record.Checksum() || record.file >= files_.size() || record.length > kMaximumChunkBytes) {
      break;
    }
    const auto offset = static_cast<std::int64_t>(record.offset);
    const std::int64_t size = files_[record.file].size();
    if (offset < 0 || offset > size - record.length) {
      break;
    }
    chunk.resize(record.length);
    if (ReadWhole(descriptors_[record.file], chunk, offset) && Xxh3(chunk) == record.chunk_xxh3) {
      kept_[record.file].push_back({record.file, offset, record.length});
    }
  }
  if (ftruncate(journal_, position) != 0) {
    return WriteError("ftruncate", directory_ + "/journal");
  }
  for (auto& ranges : kept_) {
    std::ranges::sort(ranges, {}, &ByteRange::offset);
  }
  std::int64_t missing = 0;
  for (const ByteRange& range : Missing()) {
    missing += range.length;
  }
  kept_bytes_ = total_bytes() - missing;
  return absl::OkStatus();
}

std::int64_t PartialDownload::total_bytes() const {
  std::int64_t total = 0;
  for (const v1::ArtifactFile& file : files_) {
    total += file.size();  // CheckListing: does not overflow
  }
  return total;
}

std::vector<ByteRange> PartialDownload::Missing() const {
  std::vector<ByteRange> missing;
  const auto add = [&missing](std::size_t file, std::int64_t begin, std::int64_t end) {
    for (; begin < end; begin += kRangeBytes) {
      missing.push_back({file, begin, std::min(kRangeBytes, end - begin)});
    }
  };
  for (std::size_t i = 0; i < files_.size(); ++i) {
    std::int64_t end = 0;  // of what is there without a hole
    for (const ByteRange& range : kept_[i]) {
      add(i, end, range.offset);
      end = std::max(end, range.offset + range.length);
    }
    add(i, end, files_[i].size());
  }
  return missing;
}

absl::Status PartialDownload::Store(std::size_t file, std::int64_t offset, std::span<const std::byte> chunk,
                                    std::uint64_t xxh3) {
  SLIPWAY_RETURN_IF_ERROR(WriteWhole(descriptors_[file], chunk, offset, ContentPath(file)));
  JournalRecord record{.file = static_cast<std::uint32_t>(file),
                       .length = static_cast<std::uint32_t>(chunk.size()),
                       .offset = static_cast<std::uint64_t>(offset),
                       .chunk_xxh3 = xxh3};
  record.record_xxh3 = record.Checksum();
  const std::scoped_lock lock(journal_mutex_);
  const bool written = write(journal_, &record, sizeof(record)) == static_cast<ssize_t>(sizeof(record));
  return written ? absl::OkStatus() : WriteError("write", directory_ + "/journal");
}

absl::Status PartialDownload::CheckDigest(std::size_t file, const std::stop_token& stop) const {
  const v1::ArtifactFile& expected = files_[file];
  const auto algorithm = DigestAlgorithmFromName(expected.digest_algorithm()).value_or(DigestAlgorithm::kNone);
  Digest digest(algorithm);
  std::vector<std::byte> buffer(static_cast<std::size_t>(kMaximumChunkBytes));
  for (std::int64_t offset = 0; offset < expected.size() && algorithm != DigestAlgorithm::kNone;) {
    const std::int64_t length = std::min(kMaximumChunkBytes, expected.size() - offset);
    const std::span part = std::span(buffer).first(static_cast<std::size_t>(length));
    if (stop.stop_requested() || !ReadWhole(descriptors_[file], part, offset)) {
      return stop.stop_requested() ? Error(Reason::kCancelled, "interrupted") : WriteError("pread", ContentPath(file));
    }
    digest.Update(part);
    offset += length;
  }
  if (algorithm != DigestAlgorithm::kNone && digest.Finish() != expected.digest()) {
    return Error(Reason::kArtifactCorrupt,
                 fmt::format("{} of the downloaded file differs from the listing's", expected.digest_algorithm()),
                 {.file = expected.path()});
  }
  return absl::OkStatus();
}

absl::Status PartialDownload::Publish(bool overwrite) {
  FileSystem& files = PosixFileSystem();
  std::set<std::string> directories{directory_ + "/content"};
  for (std::size_t i = 0; i < files_.size(); ++i) {
    if (fsync(descriptors_[i]) != 0) {
      return WriteError("fsync", ContentPath(i));
    }
    directories.insert(fs::path(ContentPath(i)).parent_path().string());
  }
  for (const std::string& directory : directories) {
    SLIPWAY_RETURN_IF_ERROR(files.SyncDirectory(directory));
  }
  const bool exchange = overwrite && files.Exists(output_);
  SLIPWAY_RETURN_IF_ERROR(
      files.Rename(directory_ + "/content", output_, exchange ? RenameMode::kExchange : RenameMode::kNoReplace));
  SLIPWAY_RETURN_IF_ERROR(files.SyncDirectory(fs::path(output_).parent_path().string()));
  Discard();
  return absl::OkStatus();
}

void PartialDownload::Discard() { (void)PosixFileSystem().RemoveTree(directory_); }

}  // namespace slipway
