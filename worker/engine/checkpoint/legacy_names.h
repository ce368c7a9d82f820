// Names in the legacy format, as tables: what the generations before Megatron-Core called each weight, how tensor
// parallel ranks share it, and what is no weight.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace slipway::engine {

// How the tensor-parallel ranks hold a tensor.
enum class RankSharing {
  kReplicated,   // all the same
  kRows,         // consecutive blocks along axis 0
  kColumns,      // consecutive blocks along axis 1
  kFirstLinear,  // kRows; of a gated MLP each rank holds [its gate rows; its up rows]
  kLatent,       // kReplicated or kRows: the rows of a latent attention's down projection tell
};

// The Megatron-Core name of a weight, given the path of dictionary keys that leads to it, joined with dots; wrapping
// prefixes ("module.") go. Experts are named "...mlp.experts.experts.<number in the rank>.linear_fc1.weight", however
// the run implemented them, but for those that share one tensor (legacy_split.h). A name that no table knows stays.
std::string CoreName(std::string_view path);

// True for the fused attention weights whose row order depends on checkpoint_version: only those before Megatron-Core.
bool HasVersionedQkvOrder(std::string_view path);

// Absent for a name that is in no table.
std::optional<RankSharing> SharingOf(std::string_view core_name);

// Why an entry of the model's dictionary is no weight; absent for a weight.
std::optional<std::string_view> ReasonToIgnore(std::string_view path);

}  // namespace slipway::engine
