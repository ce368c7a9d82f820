// Watching an export as a person or program at the command line: progress, events, and the result.
#pragma once

#include <cstdint>
#include <stop_token>
#include <string>

#include "absl/status/statusor.h"
#include "client/console.h"
#include "client/export_client.h"
#include "slipway/v1/export.pb.h"

namespace slipway {

// Follows an export to its end: a progress line or sentences on `err`, and with --json every update on `out` as it
// comes. Warnings of the plan are shown once. Returns the finished export; the error of an export that FAILED, and
// CANCELLED for one that was cancelled, come back as the status.
absl::StatusOr<v1::Export> Follow(const ExportClient& client, const std::string& name, std::int64_t from_sequence,
                                  const Console& console, const std::stop_token& stop);

// Why `finished` left no artifact; OK where it SUCCEEDED.
absl::Status OutcomeOf(const v1::Export& finished);

// Asks an export to stop and waits for its partial output to be gone, but not for long.
void CancelAndWait(const ExportClient& client, const std::string& name);

}  // namespace slipway
