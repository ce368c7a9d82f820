// How many ranks there are, and what each of them has: layers, heads, experts.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "worker/engine/target/rank_layout.h"
#include "worker/engine/target/tensorrt_llm/dialect.h"
#include "worker/engine/target/tensorrt_llm/engine_model.h"
#include "worker/engine/target/tensorrt_llm/family.h"

namespace slipway::engine::tensorrt_llm {

struct Range {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

// The index-th of `parts` equal ranges of `whole`, which they divide.
constexpr Range Share(std::int64_t whole, std::int64_t index, std::int64_t parts) {
  return {index * (whole / parts), whole / parts};
}

struct Parallel {
  std::int64_t tensor = 1;         // ranks a stage
  std::int64_t pipeline = 1;       // stages
  std::int64_t expert = 1;         // groups of experts, a stage
  std::int64_t expert_tensor = 1;  // ranks that share an expert: tensor / expert

  // The layers of a stage, where all have the same number or the first stages one more.
  [[nodiscard]] Range LayersOf(std::int64_t stage, std::int64_t layers) const;
  // Of the rank-th rank of a stage: its heads of keys and values, of which there may be fewer than ranks.
  [[nodiscard]] Range KeyValueHeadsOf(std::int64_t rank, std::int64_t heads) const;
  [[nodiscard]] Range ExpertsOf(std::int64_t rank, std::int64_t experts) const {
    return Share(experts, rank % expert, expert);
  }
  // Which share of an expert it has.
  [[nodiscard]] std::int64_t ExpertShareOf(std::int64_t rank) const { return rank / expert; }
};

// OPTION_UNSUPPORTED for what does not divide, with what would.
absl::StatusOr<Parallel> MakeParallel(const EngineModel& model, const Family& family, const Dialect& dialect,
                                      const RankRequest& request);

}  // namespace slipway::engine::tensorrt_llm
