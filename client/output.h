// The OUTPUT directory of export and download: what must hold before the work begins.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace slipway {

// A place for an output: its absolute path, and the directories that had to be made for it. Those that are still empty
// are removed at the end, so that a refused export leaves nothing behind.
class OutputPlace {
 public:
  // Makes the parent directories. OUTPUT_EXISTS where `output` exists and may not be replaced, INVALID_ARGUMENT where
  // it is not a name for a directory, OUTPUT_UNWRITABLE.
  static absl::StatusOr<OutputPlace> Prepare(const std::string& output, bool overwrite);
  ~OutputPlace();
  OutputPlace(OutputPlace&&) noexcept = default;
  OutputPlace& operator=(OutputPlace&&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string parent() const;

 private:
  OutputPlace() = default;

  std::string path_;
  std::vector<std::string> made_;  // outermost first
};

}  // namespace slipway
