// YAML from outside as JSON: data only, bounded before it is built.
#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"

namespace slipway::engine {

// The first document of `text`. Plain scalars become null, booleans, numbers or strings by YAML's core schema (and the
// spellings "yes", "no", "on", "off"); quoted ones are strings. Infinities and NaN are the strings "Infinity",
// "-Infinity", "NaN". Tags name no types here: a tagged mapping is a mapping, nothing is made of it. An alias is a copy
// of its anchor's value. The last of several equal keys counts; keys that are no scalars are refused.
// CHECKPOINT_CORRUPT where it is no YAML, LIMIT_EXCEEDED for more text, values (copies count) or depth than a
// configuration has; both name `file` and the offset.
absl::StatusOr<nlohmann::json> ParseYaml(const std::string& text, const std::string& file);

}  // namespace slipway::engine
