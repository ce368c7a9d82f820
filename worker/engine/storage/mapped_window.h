// Windows on local files: pages of the page cache, mapped for exactly the range that is needed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/engine/storage/file_descriptor.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {

// What a file and its windows share.
struct OpenFile {
  FileDescriptor descriptor;
  std::string name;
  FileIdentity identity;  // when it was opened
};

// Maps [offset, offset+length), not empty and inside the file. Keeps `file` open as long as the window lives. Its
// Check() says CHECKPOINT_CHANGED if the file is no longer what it was when opened, else CHECKPOINT_UNREADABLE if a
// page could not be read. Cheap: one mmap and one munmap a window, no locks.
absl::StatusOr<Window> MapWindow(std::shared_ptr<const OpenFile> file, std::int64_t offset, std::int64_t length);

}  // namespace slipway::engine
