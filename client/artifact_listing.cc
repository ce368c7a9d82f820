#include "client/artifact_listing.h"

#include <cstddef>
#include <set>
#include <string_view>

#include <fmt/format.h>

#include "common/checked_math.h"
#include "common/digest.h"
#include "common/error.h"

namespace slipway {
namespace {

constexpr std::size_t kMaximumFiles = 100'000;  // each is held open
constexpr std::size_t kMaximumPathBytes = 1024;

bool StaysInside(std::string_view path) {
  const bool plain = !path.empty() && path.size() <= kMaximumPathBytes && path.find('\0') == std::string_view::npos;
  while (plain) {
    const std::string_view part = path.substr(0, path.find('/'));
    if (part.empty() || part == "." || part == "..") {
      return false;
    }
    if (part.size() == path.size()) {
      return true;
    }
    path.remove_prefix(part.size() + 1);
  }
  return false;
}

}  // namespace

absl::Status CheckListing(std::span<const v1::ArtifactFile> files) {
  if (files.size() > kMaximumFiles) {
    return Error(Reason::kLimitExceeded, fmt::format("the artifact has more than {} files", kMaximumFiles));
  }
  std::set<std::string_view> paths;
  std::int64_t total = 0;
  for (const v1::ArtifactFile& file : files) {
    if (!StaysInside(file.path())) {
      return Error(Reason::kPathOutsideRoot, "a path of the artifact would leave the output", {.file = file.path()});
    }
    const auto sum = CheckedAdd(total, file.size());
    const bool known = DigestAlgorithmFromName(file.digest_algorithm()).has_value();
    if (file.size() < 0 || !sum || !known || !paths.insert(file.path()).second) {
      return Error(Reason::kArtifactCorrupt, "the server lists a file twice, or with an impossible size or digest",
                   {.file = file.path()});
    }
    total = *sum;
  }
  return absl::OkStatus();
}

}  // namespace slipway
