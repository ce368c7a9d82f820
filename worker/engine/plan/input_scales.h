// Scales of inputs that ModelOpt took out of weights (AWQ, SmoothQuant: pre_quant_scale), where nothing stores them.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/plan/quantization_candidates.h"
#include "worker/engine/quantize/ranges.h"

namespace slipway::engine {

struct AbsorbedScales {
  std::set<std::string, std::less<>> by_norms;    // modules whose input's norm has them now: the weights stay scaled
  std::set<std::string, std::less<>> by_weights;  // modules whose weights have them again: as they were trained
};

// For the candidates that have such scales and do not store them (`stores`): where a norm feeds a module and its fused
// siblings alone, all of them are quantized and have the same scales, the norm takes them in, so that what is quantized
// is what was calibrated; anywhere else weights get back what was taken out of them. Sets column_factors of the plan's
// tensors, says so in its warnings. OPTION_UNSUPPORTED, naming the module, where neither can be.
absl::StatusOr<AbsorbedScales> AbsorbInputScales(const std::vector<QuantizationCandidate>& candidates,
                                                 const Ranges& ranges,
                                                 const std::function<bool(const QuantizationCandidate&)>& stores,
                                                 ExportPlan& plan);

}  // namespace slipway::engine
