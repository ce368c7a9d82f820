// Which export options can be followed.
#pragma once

#include "absl/status/status.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// OPTION_UNSUPPORTED or INVALID_ARGUMENT, naming the option and saying what to give instead.
absl::Status CheckOptions(const ExportOptions& options);

// Whether a format or a recipe is named. What a checkpoint was calibrated for is not asked for by a name.
[[nodiscard]] bool AsksForQuantization(const ExportOptions& options);

}  // namespace slipway::engine
