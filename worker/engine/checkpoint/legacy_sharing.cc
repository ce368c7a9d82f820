#include "worker/engine/checkpoint/legacy_sharing.h"

#include <cstddef>
#include <string_view>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "worker/engine/checkpoint/arguments.h"

namespace slipway::engine {
namespace {

// Megatron-LM rewrites query_key_value when it loads a checkpoint of a version before these.
constexpr double kVersionWithHeadsFirst = 1.0;
constexpr double kVersionWithKindsInside = 2.0;

// The first linear of a gated MLP has twice the rows that the second has columns.
absl::StatusOr<bool> IsGated(const std::string& name, const LegacyRankFile& rank, const RankModel& model) {
  constexpr std::string_view kFirst = ".linear_fc1.";
  const std::size_t place = name.rfind(kFirst);
  const auto second = model.find(name.substr(0, place) + ".linear_fc2.weight");
  const Shape& first_shape = model.at(name).view.shape;
  if (second == model.end() || second->second.view.shape.size() != 2 || first_shape.empty()) {
    return Error(Reason::kTensorShapeMismatch, "no second linear of the MLP tells whether this one is gated",
                 {.tensor = name, .file = rank.name});
  }
  const std::int64_t rows = first_shape[0];
  const std::int64_t columns = second->second.view.shape[1];
  if (rows != columns && (rows % 2 != 0 || rows / 2 != columns)) {
    return Error(Reason::kTensorShapeMismatch,
                 fmt::format("{} rows do not go with the {} columns of the MLP's second linear", rows, columns),
                 {.tensor = name, .file = rank.name});
  }
  return rows != columns;
}

// Ranks share the rows of a latent attention's down projection, or each has all of them (Transformer Engine's). The up
// projection sees the whole latent width.
absl::StatusOr<RankSharing> SharingOfLatent(const std::string& name, const LegacyRankFile& rank,
                                            const RankModel& model) {
  constexpr std::string_view kDown = "_down_proj.";
  std::string up = name;
  up.replace(name.rfind(kDown), kDown.size(), "_up_proj.");
  const auto found = model.find(up);
  const Shape& shape = model.at(name).view.shape;
  if (found == model.end() || found->second.view.shape.size() != 2 || shape.empty()) {
    return Error(Reason::kTensorShapeMismatch, "no up projection tells whether the ranks share this one",
                 {.tensor = name, .file = rank.name});
  }
  return shape[0] < found->second.view.shape[1] ? RankSharing::kRows : RankSharing::kReplicated;
}

absl::Status SetQkvOrder(const std::string& name, const LegacyRankFile& rank, std::int64_t tensor_ranks,
                         const nlohmann::json& arguments, Assembly& assembly) {
  const double version = rank.common.checkpoint_version.value_or(0);
  if (version >= kVersionWithKindsInside) {
    return absl::OkStatus();
  }
  const auto heads = IntegerArgument(arguments, "num_attention_heads");
  const bool grouped = BooleanArgument(arguments, "group_query_attention") == true &&
                       IntegerArgument(arguments, "num_query_groups") != heads;
  if (grouped || !heads || *heads <= 0 || *heads % tensor_ranks != 0) {
    return Error(Reason::kCheckpointUnsupported,
                 fmt::format("query_key_value of checkpoint_version {} needs num_attention_heads in the training "
                             "arguments, a multiple of the {} tensor parallel ranks, and no grouped queries",
                             version, tensor_ranks),
                 {.tensor = name, .file = rank.name});
  }
  assembly.heads = *heads / tensor_ranks;
  assembly.qkv_order = version >= kVersionWithHeadsFirst ? QkvOrder::kKindLast : QkvOrder::kKindFirst;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Assembly> DecideAssembly(const std::string& name, const LegacyRankFile& rank, const RankModel& model,
                                        std::int64_t tensor_ranks, const nlohmann::json& arguments) {
  Assembly assembly;
  if (const auto sharing = SharingOf(name)) {
    assembly.sharing = *sharing;
  } else if (tensor_ranks > 1) {
    return Error(Reason::kTensorUnknown, "how the tensor parallel ranks share this tensor is not known",
                 {.tensor = name, .file = rank.name});
  }
  if (assembly.sharing == RankSharing::kFirstLinear && tensor_ranks > 1) {
    SLIPWAY_ASSIGN_OR_RETURN(assembly.gated, IsGated(name, rank, model));
  }
  if (assembly.sharing == RankSharing::kLatent) {
    assembly.sharing = RankSharing::kReplicated;
    if (tensor_ranks > 1) {
      SLIPWAY_ASSIGN_OR_RETURN(assembly.sharing, SharingOfLatent(name, rank, model));
    }
  }
  if (model.at(name).versioned_qkv) {
    SLIPWAY_RETURN_IF_ERROR(SetQkvOrder(name, rank, tensor_ranks, arguments, assembly));
  }
  return assembly;
}

}  // namespace slipway::engine
