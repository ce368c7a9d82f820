// Plans and inspections, which arrive as JSON from the engine or a server, as people read them.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

namespace slipway {

// `plan` as worker/engine/plan/export_plan.h describes it (PlanToJson). `tensors`: with a row for each.
std::string RenderPlan(const nlohmann::ordered_json& plan, bool tensors, int width);

// `inspection` as worker/engine/plan/inspection.h describes it.
std::string RenderInspection(const nlohmann::ordered_json& inspection, int width);

}  // namespace slipway
