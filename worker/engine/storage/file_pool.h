// Many files of one directory, few of them open: a checkpoint may have a hundred thousand files, a process far fewer
// descriptors. A file is opened when it is used; past `maximum_open` the one that was not used for longest is closed.
// Windows keep the file that they show open for as long as they live, whatever the pool closes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "absl/status/statusor.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {

// Thread-safe. Its files keep it alive.
class FilePool : public std::enable_shared_from_this<FilePool> {
 public:
  // A quarter of the usual limit of descriptors, and more than the ranks that write one tensor.
  static constexpr std::size_t kMaximumOpen = 256;

  static std::shared_ptr<FilePool> Make(std::shared_ptr<const SourceDirectory> directory,
                                        std::size_t maximum_open = kMaximumOpen);

  // The file `name` as it is now. Whenever it is opened again and is no longer that: CHECKPOINT_CHANGED. Errors as of
  // SourceDirectory::Open.
  absl::StatusOr<std::shared_ptr<const SourceFile>> Add(const std::string& name);

 private:
  friend class PooledFile;
  using OpenFiles = std::list<std::pair<std::uint64_t, std::shared_ptr<const SourceFile>>>;  // the last used first

  FilePool(std::shared_ptr<const SourceDirectory> directory, std::size_t maximum_open)
      : directory_(std::move(directory)), maximum_open_(maximum_open) {}
  absl::StatusOr<std::shared_ptr<const SourceFile>> Get(std::uint64_t number, const std::string& name,
                                                        const FileIdentity& identity);
  void Keep(std::uint64_t number, std::shared_ptr<const SourceFile> file);

  const std::shared_ptr<const SourceDirectory> directory_;
  const std::size_t maximum_open_;
  std::mutex mutex_;
  std::uint64_t next_number_ = 0;
  OpenFiles open_;
  std::unordered_map<std::uint64_t, OpenFiles::iterator> places_;
};

}  // namespace slipway::engine
