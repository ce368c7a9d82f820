// From the plan of a target with ranks to that of one whose ranks hold quantized weights.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/plan/quantize_plan.h"
#include "worker/engine/plan/shard_layout.h"
#include "worker/engine/quantize/ranges.h"
#include "worker/engine/quantize/recipe.h"
#include "worker/engine/target/rank_targets.h"

namespace slipway::engine {

// What the recipe makes of Hugging Face's modules, in the target's layouts; to be made before the plan is cut.
struct WholeWeights {
  std::map<std::string, PlannedModule, std::less<>> modules;  // by tensor name
  std::vector<QuantizedWeight> weights;                       // of PlannedModule::weight
};

// Adds what it has to warn of to `plan` and changes nothing else. OPTION_UNSUPPORTED as QuantizePlan, and where the
// target does not take a format, its activations or groups, naming what would work.
absl::StatusOr<WholeWeights> QuantizeWholeWeights(const Recipe& recipe, const Ranges* ranges, std::int64_t layers,
                                                  const RankTarget& target, ExportPlan& plan);

// Replaces the tensors of a plan that CutIntoRanks made of `layout` by those that stand for them, and counts them in
// `files`; config.json says so. A rank's tensor is quantized as the modules that it is made of, which all have to be
// alike, its scales are those of the whole modules:
//   - a TensorScale and the range of an input are common to all ranks, to all modules that are fused (by FusedNameOf)
//     and, the range alone, to a layer's experts; but where the target keeps a TensorScale for each module that is
//     joined (JoinedScales), and the format does not share it, each has its own,
//   - scales of rows are of whole rows where ranks share columns.
// OPTION_UNSUPPORTED, naming the module, where one is not to be quantized as those it is joined with, where the target
// cannot take a rank's share of it, or where something that it stores is missing or differs between joined modules.
absl::Status QuantizeRanks(const Recipe& recipe, const Ranges* ranges, const RankTarget& target,
                           const RankRequest& request, const RankLayout& layout, const WholeWeights& whole,
                           std::vector<NamedFile>& files, ExportPlan& plan);

}  // namespace slipway::engine
