#include "worker/engine/storage/source.h"

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::engine {

absl::StatusOr<std::string> SourceDirectory::ReadSmallFile(const std::string& name, std::int64_t maximum) const {
  SLIPWAY_ASSIGN_OR_RETURN(const std::unique_ptr<SourceFile> file, Open(name));
  if (file->size() > maximum) {
    return Error(Reason::kLimitExceeded,
                 fmt::format("the file has {} bytes; at most {} are read", file->size(), maximum),
                 {.file = file->name()});
  }
  std::string content(static_cast<std::size_t>(file->size()), '\0');
  SLIPWAY_RETURN_IF_ERROR(file->ReadAt(0, std::as_writable_bytes(std::span(content))));
  return content;
}

}  // namespace slipway::engine
