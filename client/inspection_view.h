// An inspection, which arrives as JSON from the engine or a server, as people read it.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace slipway {

// `inspection` as worker/engine/plan/inspection.h describes it; what it lacks is left out. Fits `width` columns (0: any
// number), as far as names of tensors do.
std::string RenderInspection(const nlohmann::ordered_json& inspection, int width);

}  // namespace slipway
