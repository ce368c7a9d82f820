// The store in one SQLite file: WAL, synchronous=FULL, foreign keys.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/store/store.h"

namespace slipway::server {

// Opens `path`, making or migrating it. STORE_FAILED with a clear message where the file is corrupt, is no Slipway
// store, or was written by a newer version.
absl::StatusOr<std::unique_ptr<Store>> OpenSqliteStore(const std::string& path);

}  // namespace slipway::server
