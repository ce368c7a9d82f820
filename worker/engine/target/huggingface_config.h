// config.json: generated from a family's table, or the user's own with what differs replaced.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "worker/engine/dtype.h"
#include "worker/engine/model/model.h"

namespace slipway::engine {

// `token_ids` (bos_token_id, ...) are put in where the user's config.json has none. With a user's config.json
// (Model::hf_config) every field of the checkpoint that differs replaces the user's and is noted in `warnings`; the
// user's other fields stay, whatever they are, except quantization_config (the weights are not quantized) and, unless
// `allow_custom_code`, auto_map (it names Python files). Rotary scaling of a kind that no checkpoint states (yarn,
// dynamic) stays.
nlohmann::json MakeHuggingFaceConfig(const Model& model, const nlohmann::json& token_ids, DType dtype,
                                     bool allow_custom_code, std::vector<std::string>& warnings);

}  // namespace slipway::engine
