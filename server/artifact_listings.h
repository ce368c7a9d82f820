// The file lists of artifacts that are being downloaded: a manifest of a very large model takes longer to read than
// one of its files, and is asked for once a file. Thread-safe.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/file_system.h"
#include "server/artifact.h"

namespace slipway::server {

class ArtifactListings {
 public:
  using Entries = std::shared_ptr<const std::vector<ArtifactEntry>>;

  // ReadArtifactEntries, or what it gave before where the manifest is still the same file. Callers that ask for one
  // artifact at the same time wait for one reading.
  absl::StatusOr<Entries> Of(const std::string& directory);

 private:
  struct Listing {
    std::string directory;
    std::mutex mutex;
    Entries entries;  // null: not read, or not readable
    FileIdentity manifest;
  };
  std::shared_ptr<Listing> Touch(const std::string& directory);

  std::mutex mutex_;
  std::list<std::shared_ptr<Listing>> listings_;  // the last used first
};

}  // namespace slipway::server
