// Page tokens: where the next page begins, bound to the filter that the first page had.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace slipway::server {

std::string MakePageToken(std::int64_t before_order, const std::string& filter);

// INVALID_ARGUMENT for a token that is malformed or of another filter.
absl::StatusOr<std::int64_t> ParsePageToken(const std::string& token, const std::string& filter);

}  // namespace slipway::server
