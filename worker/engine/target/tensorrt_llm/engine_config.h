// config.json of a TensorRT-LLM checkpoint.
#pragma once

#include <nlohmann/json.hpp>

#include "worker/engine/target/tensorrt_llm/engine_model.h"
#include "worker/engine/target/tensorrt_llm/family.h"
#include "worker/engine/target/tensorrt_llm/parallel.h"

namespace slipway::engine::tensorrt_llm {

// Of an unquantized model; with keys that all versions take, and those of the family. `config` is Hugging Face's, which
// `model` was learned from.
nlohmann::ordered_json MakeEngineConfig(const EngineModel& model, const Family& family, const Parallel& parallel,
                                        const nlohmann::json& config);

}  // namespace slipway::engine::tensorrt_llm
