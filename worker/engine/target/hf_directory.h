// A Hugging Face directory that files are taken from. Links must stay below it, except that a snapshot of the hub's
// cache (.../<repository>/snapshots/<revision>) may link to its repository's blobs, as all of its files do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/file_system.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// Immutable. Errors: CHECKPOINT_NOT_FOUND, PATH_OUTSIDE_ROOT, CHECKPOINT_UNREADABLE, LIMIT_EXCEEDED; with the file.
class HfDirectory {
 public:
  static absl::StatusOr<HfDirectory> Open(const std::string& path);

  [[nodiscard]] bool Has(const std::string& name) const;
  // Names of the files directly below, sorted.
  [[nodiscard]] absl::StatusOr<std::vector<std::string>> Files() const;
  [[nodiscard]] absl::StatusOr<std::string> Read(const std::string& name, std::int64_t maximum) const;
  // The file as something to be copied to the same name.
  [[nodiscard]] absl::StatusOr<SidecarFile> Sidecar(const std::string& name) const;

 private:
  HfDirectory(std::string path, std::string root) : path_(std::move(path)), root_(std::move(root)) {}
  // The file's real path, checked to be where it may be.
  [[nodiscard]] absl::StatusOr<std::string> Resolve(const std::string& name) const;

  std::string path_;  // real
  std::string root_;  // real; what links may lead to
};

}  // namespace slipway::engine
