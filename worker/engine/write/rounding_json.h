// Rounding as journal and manifest have it: {"inexact", "overflows", "underflows", "nans", "infinities",
// "largest_absolute", "largest_relative"}. Floats come back as they were.
#pragma once

#include <nlohmann/json.hpp>

#include "worker/engine/transform/rounding.h"

namespace slipway::engine {

[[nodiscard]] nlohmann::ordered_json RoundingToJson(const Rounding& rounding);

// Throws nlohmann::json::exception where `json` is not such an object.
[[nodiscard]] Rounding RoundingFromJson(const nlohmann::json& json);

}  // namespace slipway::engine
