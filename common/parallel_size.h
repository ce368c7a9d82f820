// For how many processes a target is written: what the command line, the service and the engine take.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace slipway {

inline constexpr std::int64_t kMaximumParallelSize = 1024;  // of each kind; no server is started with more

// INVALID_ARGUMENT for a size that is not from 1 to kMaximumParallelSize, and for one above 1 that none of `targets`
// has ranks for; both name `option`.
absl::Status CheckParallelSize(std::string_view option, std::int64_t size, std::span<const std::string> targets);

// INVALID_ARGUMENT for a version that is no short word, and for one that none of `targets` is for; empty is none.
absl::Status CheckTensorRtLlmVersion(std::string_view option, std::string_view version,
                                     std::span<const std::string> targets);

}  // namespace slipway
