// Config files of a quantized plan.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/quantize/recipe.h"
#include "worker/engine/target/quantization_config.h"

namespace slipway::engine {

// Says in config.json among `texts`, and in the form's own file beside it, how `modules`, all linear layers of the
// model but for a tied output layer, are quantized. OPTION_UNSUPPORTED where the form cannot say that.
absl::Status DescribeQuantization(ConfigForm form, KvCache kv_cache, std::vector<QuantizedModule> modules,
                                  std::vector<TextFile>& texts);

}  // namespace slipway::engine
