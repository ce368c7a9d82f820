// Planning in steps, for what already has some of them.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/model/model.h"
#include "worker/engine/plan/adapter.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// Called after each step of planning that is done, on the thread that plans; may be empty.
using PlanProgress = std::function<void()>;

// MakePlan that says how it gets on.
absl::StatusOr<std::shared_ptr<const ExportPlan>> MakePlan(const ExportOptions& options, const PlanProgress& progress);

// MakePlan for a checkpoint that was read already.
absl::StatusOr<std::shared_ptr<const ExportPlan>> MakePlanOf(std::shared_ptr<const Checkpoint> checkpoint,
                                                             const ExportOptions& options,
                                                             const PlanProgress& progress = {});

// The rest of it for one target, once names are canonical and the model is known. With an `adapter`, `checkpoint` has
// both.
absl::StatusOr<std::shared_ptr<ExportPlan>> MakePlanOf(std::shared_ptr<const Checkpoint> checkpoint,
                                                       const std::map<std::string, CanonicalTensor>& tensors,
                                                       const Model& model, const ExportOptions& options,
                                                       const PlanProgress& progress = {},
                                                       const Adapter* adapter = nullptr);

// Of an adapter that goes alone: `checkpoint` has its tensors, `base` are those of the model that it changes.
absl::StatusOr<std::shared_ptr<ExportPlan>> MakeAdapterPlan(const Adapter& adapter,
                                                            std::shared_ptr<const Checkpoint> checkpoint,
                                                            const std::map<std::string, CanonicalTensor>& base,
                                                            const Model& model, const ExportOptions& options);

}  // namespace slipway::engine
