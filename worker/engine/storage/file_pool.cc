#include "worker/engine/storage/file_pool.h"

#include "common/error.h"

namespace slipway::engine {

class PooledFile final : public SourceFile {
 public:
  PooledFile(std::shared_ptr<FilePool> pool, std::uint64_t number, std::string name, const SourceFile& opened)
      : pool_(std::move(pool)),
        number_(number),
        name_(std::move(name)),
        full_name_(opened.name()),
        identity_(opened.identity()) {}

  [[nodiscard]] const std::string& name() const override { return full_name_; }
  [[nodiscard]] std::int64_t size() const override { return identity_.size; }
  [[nodiscard]] FileIdentity identity() const override { return identity_; }
  [[nodiscard]] absl::StatusOr<FileIdentity> CurrentIdentity() const override {
    SLIPWAY_ASSIGN_OR_RETURN(const auto file, pool_->Get(number_, name_, identity_));
    return file->CurrentIdentity();
  }
  [[nodiscard]] absl::Status ReadAt(std::int64_t offset, std::span<std::byte> bytes) const override {
    SLIPWAY_ASSIGN_OR_RETURN(const auto file, pool_->Get(number_, name_, identity_));
    return file->ReadAt(offset, bytes);
  }
  [[nodiscard]] absl::StatusOr<Window> Map(std::int64_t offset, std::int64_t length) const override {
    SLIPWAY_ASSIGN_OR_RETURN(const auto file, pool_->Get(number_, name_, identity_));
    return file->Map(offset, length);
  }

 private:
  const std::shared_ptr<FilePool> pool_;
  const std::uint64_t number_;
  const std::string name_;
  const std::string full_name_;
  const FileIdentity identity_;
};

std::shared_ptr<FilePool> FilePool::Make(std::shared_ptr<const SourceDirectory> directory, std::size_t maximum_open) {
  return std::shared_ptr<FilePool>(new FilePool(std::move(directory), maximum_open));
}

absl::StatusOr<std::shared_ptr<const SourceFile>> FilePool::Add(const std::string& name) {
  SLIPWAY_ASSIGN_OR_RETURN(std::shared_ptr<const SourceFile> opened, directory_->Open(name));
  std::uint64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    number = next_number_++;
  }
  auto file = std::make_shared<const PooledFile>(shared_from_this(), number, name, *opened);
  Keep(number, std::move(opened));
  return file;
}

absl::StatusOr<std::shared_ptr<const SourceFile>> FilePool::Get(std::uint64_t number, const std::string& name,
                                                                const FileIdentity& identity) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto place = places_.find(number); place != places_.end()) {
      open_.splice(open_.begin(), open_, place->second);
      return open_.front().second;
    }
  }
  // Outside the lock: it may take as long as the storage likes. Two threads may open the same file; one is kept.
  SLIPWAY_ASSIGN_OR_RETURN(std::shared_ptr<const SourceFile> opened, directory_->Open(name));
  if (opened->identity() != identity) {
    return Error(Reason::kCheckpointChanged, "the file changed since the export was planned", {.file = opened->name()});
  }
  Keep(number, opened);
  return opened;
}

void FilePool::Keep(std::uint64_t number, std::shared_ptr<const SourceFile> file) {
  OpenFiles closed;  // after the lock is given back
  const std::lock_guard lock(mutex_);
  if (maximum_open_ == 0 || places_.contains(number)) {
    return;
  }
  open_.emplace_front(number, std::move(file));
  places_.emplace(number, open_.begin());
  if (open_.size() > maximum_open_) {
    places_.erase(open_.back().first);
    closed.splice(closed.begin(), open_, std::prev(open_.end()));
  }
}

}  // namespace slipway::engine
