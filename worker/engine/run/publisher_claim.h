// The fence of publication: one publisher at a time has the staging directory, under a name of its own, and it alone
// can put it in the output's place.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "common/file_system.h"

namespace slipway::engine {

absl::Status LeaseLost(const std::string& output);
absl::Status OutputExists(const std::string& output);

class PublisherClaim {
 public:
  // Of the publisher of `epoch`; does nothing yet. `files` outlives it.
  PublisherClaim(std::string output, const std::string& plan_hash, std::int64_t epoch, FileSystem& files);

  // Where the staging directory is once it is taken.
  [[nodiscard]] const std::string& directory() const { return claimed_; }

  // Renaming is the fence: of all publishers only one has the directory, and one that lost it finds its paths gone.
  // Takes over what a publisher of an earlier epoch had claimed. LEASE_LOST where a later one has it.
  absl::Status Take();
  // Back to where shards are written.
  void GiveBack() { files_.Rename(claimed_, staging_, RenameMode::kNoReplace).IgnoreError(); }
  // Puts the directory in the output's place: OUTPUT_EXISTS unless `overwrite`, which exchanges the two.
  absl::Status Reveal(bool overwrite);
  // After the output is there: removes what an exchange left in place of the claim, and what others left. Failures
  // leave it to the next sweep: the export itself is done.
  void CleanUp();

 private:
  [[nodiscard]] std::string Trash() const { return claimed_ + ".old.trash"; }

  const std::string output_;
  const std::int64_t epoch_;
  FileSystem& files_;
  const std::string staging_;
  const std::string claimed_;
};

}  // namespace slipway::engine
