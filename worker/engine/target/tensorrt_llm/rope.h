// Rotary positions, as config.json states them in the spellings of transformers 4 (rope_theta, rope_scaling) and 5
// (rope_parameters).
#pragma once

#include <optional>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"

namespace slipway::engine::tensorrt_llm {

struct Rope {
  double base = 10000.0;
  double fraction = 1.0;             // of each head's dimensions, which are rotated
  std::optional<double> local_base;  // of layers with a window, where it differs (Gemma 3)
  nlohmann::ordered_json scaling;    // the engine's rotary_scaling: linear, llama3 or yarn; null: none
  nlohmann::ordered_json long_rope;  // {"short_factor", "long_factor"} of LongRoPE; null: it is not that
};

// OPTION_UNSUPPORTED for kinds of scaling that the engines do not know, as all classes but those of latent attention do
// not know YaRN, and those nothing else; CONFIGURATION_INVALID.
absl::StatusOr<Rope> ReadRope(const nlohmann::json& config, bool is_latent = false);

}  // namespace slipway::engine::tensorrt_llm
