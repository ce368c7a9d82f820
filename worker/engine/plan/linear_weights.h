// Which outputs are weights of linear layers, and what they are as matrices [out, in].
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

struct LinearWeight {
  std::string module;   // "model.layers.0.mlp.experts.3.gate_proj"
  OutputTensor values;  // [rows, columns]; its name is "<module>.weight"
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  bool transposed = false;  // rows are inputs, as GPT-2's Conv1D has them
};

// The module of a matrix: its name without ".weight" (and a packed one's without anything). nullopt: it is no matrix of
// a module, as norms, biases and convolutions are not.
std::optional<std::string> ModuleOf(const OutputTensor& tensor);

// Whether experts are stacked in `tensor`: [experts, ...] under "experts.gate_up_proj" or "experts.down_proj".
bool IsStackedExperts(const OutputTensor& tensor);

// The matrices of an output that has a module: itself, or of stacked experts each one's gate_proj, up_proj and
// down_proj. With `packed` the experts stay one matrix: all their rows one below the other, in the order that the
// output has them along its last axis. CHECKPOINT_UNSUPPORTED where experts are stacked in a way that is not known.
absl::StatusOr<std::vector<LinearWeight>> LinearWeightsOf(const ExportPlan& plan, const OutputTensor& tensor,
                                                          bool packed);

// "model.layers.7.mlp.gate_proj" -> 7: the first number behind "layers", "h", "blocks" or "block".
std::optional<std::int64_t> LayerOfModule(std::string_view module);

// Modules that engines compute as one: the name that fused siblings have in common, "model.layers.0.mlp.gate+up";
// a module that is fused with none has its own name.
std::string FusedNameOf(std::string_view module);

}  // namespace slipway::engine
