#include "server/artifact_listings.h"

#include <algorithm>
#include <utility>

#include "common/error.h"

namespace slipway::server {
namespace {

constexpr std::size_t kCapacity = 16;

}  // namespace

absl::StatusOr<ArtifactListings::Entries> ArtifactListings::Of(const std::string& directory) {
  const std::shared_ptr<Listing> listing = Touch(directory);
  const std::lock_guard lock(listing->mutex);
  // Before the reading: a manifest that is exchanged meanwhile is read again next time.
  const absl::StatusOr<FileIdentity> manifest = PosixFileSystem().Identify(ManifestOf(directory));
  if (listing->entries != nullptr && manifest.ok() && *manifest == listing->manifest) {
    return listing->entries;
  }
  listing->entries = nullptr;
  SLIPWAY_ASSIGN_OR_RETURN(std::vector<ArtifactEntry> entries, ReadArtifactEntries(directory));
  auto read = std::make_shared<const std::vector<ArtifactEntry>>(std::move(entries));
  if (manifest.ok()) {
    listing->entries = read;
    listing->manifest = *manifest;
  }
  return read;
}

std::shared_ptr<ArtifactListings::Listing> ArtifactListings::Touch(const std::string& directory) {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find(listings_, directory, [](const auto& listing) { return listing->directory; });
  if (found != listings_.end()) {
    listings_.splice(listings_.begin(), listings_, found);
    return listings_.front();
  }
  if (listings_.size() == kCapacity) {
    listings_.pop_back();
  }
  listings_.push_front(std::make_shared<Listing>());
  listings_.front()->directory = directory;
  return listings_.front();
}

}  // namespace slipway::server
