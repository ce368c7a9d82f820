// A temporary directory of one running program. It is removed when the program ends; what a killed program left is
// swept by the next one. Layout of BASE/slipway-local-XXXXXX (mode 0700):
//   1. client.lock  held with flock by the owner for as long as it lives; appears by rename, already locked
//   2. whatever the owner puts there
#pragma once

#include <chrono>
#include <string>

#include "absl/status/statusor.h"

namespace slipway {

class PrivateDirectory {
 public:
  // Makes one below `base`. OUTPUT_UNWRITABLE where that cannot be.
  static absl::StatusOr<PrivateDirectory> Make(const std::string& base);
  ~PrivateDirectory();
  PrivateDirectory(PrivateDirectory&& other) noexcept;
  PrivateDirectory& operator=(PrivateDirectory&&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  PrivateDirectory(std::string path, int lock) : path_(std::move(path)), lock_(lock) {}

  std::string path_;  // empty: moved from
  int lock_ = -1;
};

// $TMPDIR where it is a directory whose name leaves room for a socket's path, else "/tmp".
std::string TemporaryBase();

// How old a directory without a lock file must be to count as left over rather than as being made.
inline constexpr std::chrono::minutes kSweepAge{60};

// Removes the private directories below `base` that belong to this user and that no living program holds. Returns how
// many. Errors are passed over: sweeping is a courtesy.
int SweepPrivateDirectories(const std::string& base);

}  // namespace slipway
