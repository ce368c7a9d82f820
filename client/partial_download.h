// What a download has so far, so that a broken one goes on where it was. Lies beside the output PARENT/NAME as
// PARENT/.NAME.slipway-download:
//   1. lock      held by the program that downloads
//   2. listing   the files to be had, as JSON; a different listing starts anew
//   3. journal   one record of 32 bytes a chunk that was written, little-endian: u32 file (index into the listing),
//                u32 length, u64 offset, u64 XXH3 of the chunk, u64 XXH3 of the 24 bytes before
//   4. content/  the files; renamed to the output when all are whole
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file_system.h"
#include "slipway/v1/artifact.pb.h"

namespace slipway {

struct ByteRange {
  std::size_t file = 0;  // index into the listing
  std::int64_t offset = 0;
  std::int64_t length = 0;
  bool operator==(const ByteRange&) const = default;
};

// Longest range that is asked for at once.
inline constexpr std::int64_t kRangeBytes = std::int64_t{64} << 20;
inline constexpr std::int64_t kMaximumChunkBytes = std::int64_t{1} << 20;

class PartialDownload {
 public:
  // Opens or begins the partial download of `files` for `output` (absolute). What the journal claims is read again and
  // kept where its checksum holds. ABORTED where another program downloads to the same output.
  static absl::StatusOr<std::unique_ptr<PartialDownload>> Open(const std::string& output,
                                                               std::vector<v1::ArtifactFile> files);
  ~PartialDownload();
  PartialDownload(const PartialDownload&) = delete;
  PartialDownload& operator=(const PartialDownload&) = delete;

  // What is still to be fetched, in pieces of at most kRangeBytes, in the order of the listing.
  [[nodiscard]] std::vector<ByteRange> Missing() const;
  [[nodiscard]] const v1::ArtifactFile& file(std::size_t index) const { return files_[index]; }
  [[nodiscard]] std::size_t file_count() const { return files_.size(); }
  [[nodiscard]] std::int64_t total_bytes() const;
  [[nodiscard]] std::int64_t kept_bytes() const { return kept_bytes_; }

  // Stores a chunk whose checksum the caller has checked. Thread-safe.
  absl::Status Store(std::size_t file, std::int64_t offset, std::span<const std::byte> chunk, std::uint64_t xxh3);
  // Reads a whole file again: ARTIFACT_CORRUPT where its digest is not that of the listing. Thread-safe.
  [[nodiscard]] absl::Status CheckDigest(std::size_t file, const std::stop_token& stop) const;
  // Makes the content durable and renames it to the output.
  absl::Status Publish(bool overwrite);
  // Removes everything: nothing of it can be trusted.
  void Discard();

 private:
  PartialDownload(std::string output, std::vector<v1::ArtifactFile> files);

  absl::Status Begin();
  absl::Status OpenFiles();
  absl::Status ReadJournal();
  [[nodiscard]] std::string ContentPath(std::size_t file) const;

  const std::string output_;
  const std::string directory_;
  const std::vector<v1::ArtifactFile> files_;
  std::unique_ptr<FileLock> lock_;
  std::vector<int> descriptors_;              // of the content files
  std::vector<std::vector<ByteRange>> kept_;  // by file, sorted: what the journal proves
  std::int64_t kept_bytes_ = 0;
  std::mutex journal_mutex_;
  int journal_ = -1;
};

}  // namespace slipway
