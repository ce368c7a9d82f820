// What the names in a distributed checkpoint say before a table of models is asked.
#pragma once

#include <optional>
#include <string_view>

#include "absl/status/status.h"

namespace slipway::engine {

// Why an entry of this name is no weight ("optimizer state"); empty where it may be one. Static storage.
std::string_view ReasonToIgnoreName(std::string_view name);

// Without the prefixes that wrappers of the model leave: "model.module.decoder.x" is "decoder.x".
std::string_view WithoutWrappers(std::string_view name);

// What a tensor of one of ModelOpt's quantizers is called: "<module>.<quantizer>.<buffer>".
struct QuantizerTensorName {
  std::string_view module;     // "decoder.layers.0.mlp.linear_fc1"
  std::string_view quantizer;  // "weight_quantizer"; of a sequence of quantizers "weight_quantizer.0"
  std::string_view buffer;     // "_amax", "_pre_quant_scale", "_scale"...
};

// Absent where it is none. Views of `name`.
std::optional<QuantizerTensorName> ParseQuantizerTensorName(std::string_view name);

// For formats whose quantizers are not read: CHECKPOINT_UNSUPPORTED where the weights mean nothing without this one.
absl::Status CheckNotNeeded(const QuantizerTensorName& name);

// The reason that is given for those that an export does not need.
inline constexpr std::string_view kQuantizerState = "ModelOpt quantizer state";

}  // namespace slipway::engine
