// Resource names of the API.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace slipway::server {

// "exports/{id}".
std::string ExportName(std::string_view id);

// The id of "exports/{id}"; INVALID_ARGUMENT for another form.
absl::StatusOr<std::string> ParseExportName(std::string_view name);

}  // namespace slipway::server
