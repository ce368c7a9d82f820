// model.safetensors.index.json: which file holds which tensor.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace slipway::engine {

inline constexpr std::string_view kSafetensorsIndex = "model.safetensors.index.json";

// Tensor to file. `file` is the index's own name, for messages. CHECKPOINT_CORRUPT where it is no index or names a
// tensor twice; PATH_OUTSIDE_ROOT for a file that is not directly in the directory.
absl::StatusOr<std::map<std::string, std::string>> ParseSafetensorsIndex(std::string_view text,
                                                                         const std::string& file);

}  // namespace slipway::engine
