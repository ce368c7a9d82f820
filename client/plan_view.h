// A plan, which arrives as JSON from the engine or a server, as people read it.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace slipway {

// `plan` as worker/engine/plan/export_plan.h describes it (PlanToJson). `tensors`: with a row for each, where the
// plan has them.
std::string RenderPlan(const nlohmann::ordered_json& plan, bool tensors, int width);

}  // namespace slipway
