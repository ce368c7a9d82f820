// A published artifact as the server sees it: what manifest.json lists, and byte ranges of those files.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace slipway::server {

struct ArtifactEntry {
  std::string path;  // relative, without ".."
  std::int64_t size = 0;
  std::string digest_algorithm;
  std::string digest;
};

// The path of the manifest of the artifact in `directory`.
std::string ManifestOf(const std::string& directory);

// The files of the artifact in `directory`, manifest.json among them, sorted by path. NOT_FOUND where there is no
// manifest, ARTIFACT_CORRUPT where it is none or names a path that leaves the directory. Reads the whole manifest.
absl::StatusOr<std::vector<ArtifactEntry>> ReadArtifactEntries(const std::string& directory);

// The name of the export that published the artifact in `directory`; empty where its manifest cannot be read.
std::string ExportOfArtifact(const std::string& directory);

// One file of an artifact, open for reading. Not thread-safe.
class ArtifactFile {
 public:
  // `path` must come from ReadArtifactEntries. Links below the directory are not followed.
  static absl::StatusOr<ArtifactFile> Open(const std::string& directory, const std::string& path);
  ~ArtifactFile();
  ArtifactFile(ArtifactFile&& other) noexcept;
  ArtifactFile& operator=(ArtifactFile&&) = delete;

  [[nodiscard]] std::int64_t size() const { return size_; }
  // Exactly `length` bytes from `offset`; ARTIFACT_CORRUPT where the file ends before.
  absl::Status Read(std::int64_t offset, std::size_t length, std::string& into) const;

 private:
  ArtifactFile(int descriptor, std::int64_t size, std::string name)
      : descriptor_(descriptor), size_(size), name_(std::move(name)) {}

  int descriptor_;
  std::int64_t size_;
  std::string name_;
};

}  // namespace slipway::server
