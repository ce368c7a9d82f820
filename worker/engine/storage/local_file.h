// A local file as a SourceFile: positioned reads, and windows on the page cache.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/engine/storage/file_descriptor.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {

// Takes over an open descriptor. CHECKPOINT_CORRUPT if it is no regular file; `name` is for messages.
absl::StatusOr<std::unique_ptr<SourceFile>> MakeLocalFile(FileDescriptor descriptor, std::string name);

// The identity of an open file.
absl::StatusOr<FileIdentity> IdentityOf(int descriptor, const std::string& name);

}  // namespace slipway::engine
