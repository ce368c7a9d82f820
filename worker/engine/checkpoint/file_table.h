// The files of a checkpoint by name, each in Checkpoint::files once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/storage/file_pool.h"

namespace slipway::engine {

class FileTable {
 public:
  // Refers to `checkpoint`, whose directory is set.
  explicit FileTable(Checkpoint& checkpoint) : checkpoint_(checkpoint), pool_(FilePool::Make(checkpoint.directory)) {}

  // The index of the file `name` (below the checkpoint's directory), added if it is new. LIMIT_EXCEEDED past a million
  // files; errors as of SourceDirectory::Open.
  absl::StatusOr<std::int32_t> NumberOf(const std::string& name);
  [[nodiscard]] const SourceFile& At(std::int32_t number) const {
    return *checkpoint_.files[static_cast<std::size_t>(number)].file;
  }

 private:
  Checkpoint& checkpoint_;
  std::shared_ptr<FilePool> pool_;
  std::unordered_map<std::string, std::int32_t> numbers_;
};

}  // namespace slipway::engine
