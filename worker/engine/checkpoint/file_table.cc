#include "worker/engine/checkpoint/file_table.h"

#include <fmt/format.h>

#include <utility>

#include "common/error.h"

namespace slipway::engine {
namespace {

constexpr std::size_t kMaximumFiles = 1'000'000;

}  // namespace

absl::StatusOr<std::int32_t> FileTable::NumberOf(const std::string& name) {
  if (const auto known = numbers_.find(name); known != numbers_.end()) {
    return known->second;
  }
  if (checkpoint_.files.size() == kMaximumFiles) {
    return Error(Reason::kLimitExceeded, fmt::format("the checkpoint has more than {} files", kMaximumFiles),
                 {.file = checkpoint_.directory->path()});
  }
  SLIPWAY_ASSIGN_OR_RETURN(std::shared_ptr<const SourceFile> file, pool_->Add(name));
  const FileIdentity identity = file->identity();
  const auto number = static_cast<std::int32_t>(checkpoint_.files.size());
  checkpoint_.files.push_back({.name = name, .identity = identity, .file = std::move(file)});
  numbers_.emplace(name, number);
  return number;
}

}  // namespace slipway::engine
