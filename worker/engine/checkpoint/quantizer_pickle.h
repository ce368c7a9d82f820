// The values of ModelOpt's pickles that say how quantizers are set.
#pragma once

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/pickle.h"
#include "worker/engine/checkpoint/quantizer_state.h"

namespace slipway::engine {

// Of a module's state; empty where it is none of ModelOpt's. CHECKPOINT_CORRUPT for settings that no quantizer has.
absl::StatusOr<ModuleQuantizers> QuantizersOf(const PickleDocument& document);

// Of `value`, the dictionary with "modelopt_state_dict". CHECKPOINT_CORRUPT as above, LIMIT_EXCEEDED past 1'000 rules.
absl::StatusOr<ModelOptState> ModelOptStateOf(const PickleDocument& document, PickleValue value);

}  // namespace slipway::engine
