// Checks requests field by field; all violations of one request come in one INVALID_ARGUMENT.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/coordinator.h"
#include "server/outputs.h"
#include "slipway/v1/export.pb.h"

namespace slipway::server {

// Checks what can be checked without looking at the checkpoint. A single violation keeps its own reason
// (PATH_OUTSIDE_ROOT, OPTION_UNSUPPORTED). `roots` decide about paths.
absl::StatusOr<NewExport> ValidateCreate(const v1::CreateExportRequest& request, const OutputRoots& roots);

// "state=NAME AND checkpoint=PATH" into the query; at most one term of each.
absl::Status ParseFilter(const std::string& filter, ListQuery& query);

}  // namespace slipway::server
