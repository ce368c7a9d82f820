#include "worker/engine/storage/hub_directory.h"

#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "common/error.h"

namespace slipway::engine {
namespace {

namespace fs = std::filesystem;

// A directory below `root`, whose links may lead to anything below `root`.
class DirectoryBelow final : public SourceDirectory {
 public:
  DirectoryBelow(std::unique_ptr<SourceDirectory> root, std::string below, std::string path)
      : root_(std::move(root)), below_(std::move(below)), path_(std::move(path)) {}

  [[nodiscard]] const std::string& path() const override { return path_; }
  [[nodiscard]] absl::StatusOr<std::vector<DirectoryEntry>> List() const override {
    SLIPWAY_ASSIGN_OR_RETURN(const std::unique_ptr<SourceDirectory> directory, root_->OpenDirectory(below_));
    return directory->List();
  }
  // The root refuses names with "..": they stay below this directory too.
  [[nodiscard]] bool Exists(const std::string& name) const override { return root_->Exists(Below(name)); }
  [[nodiscard]] absl::StatusOr<std::unique_ptr<SourceFile>> Open(const std::string& name) const override {
    return root_->Open(Below(name));
  }
  [[nodiscard]] absl::StatusOr<std::unique_ptr<SourceDirectory>> OpenDirectory(const std::string& name) const override {
    return root_->OpenDirectory(Below(name));
  }

 private:
  [[nodiscard]] std::string Below(const std::string& name) const { return below_ + "/" + name; }

  std::unique_ptr<SourceDirectory> root_;
  std::string below_;
  std::string path_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<SourceDirectory>> OpenHuggingFaceDirectory(const std::string& path) {
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  const fs::path snapshots = real.parent_path();
  if (error || snapshots.filename() != "snapshots") {
    return OpenLocalDirectory(path);
  }
  SLIPWAY_ASSIGN_OR_RETURN(auto repository, OpenLocalDirectory(snapshots.parent_path().string()));
  return std::make_unique<DirectoryBelow>(std::move(repository), "snapshots/" + real.filename().string(), path);
}

}  // namespace slipway::engine
