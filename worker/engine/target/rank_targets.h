// The targets whose files belong to ranks of a server, one row each.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "worker/engine/target/rank_layout.h"
#include "worker/engine/target/rank_quantization.h"

namespace slipway::engine {

struct RankTarget {
  std::string_view name;  // of common/vocabulary.h
  // OPTION_UNSUPPORTED, naming the module or the size and what would work, where the server cannot take the model so.
  absl::StatusOr<RankLayout> (*layout)(const HuggingFaceModel& model, const RankRequest& request) = nullptr;
  const RankQuantization* quantization = nullptr;  // null: its ranks take no quantized weights
};

// Null where the target has no ranks.
const RankTarget* FindRankTarget(std::string_view name);

}  // namespace slipway::engine
