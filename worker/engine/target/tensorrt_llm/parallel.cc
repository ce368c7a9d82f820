#include "worker/engine/target/tensorrt_llm/parallel.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "common/error.h"
#include "common/parallel_size.h"

namespace slipway::engine::tensorrt_llm {
namespace {

constexpr std::int64_t kMaximumSuggestion = 64;

// What of the model `tensor` ranks a stage do not divide, or nothing.
std::string WhyNotTensor(const EngineModel& m, const Family& family, std::int64_t tensor, std::int64_t expert) {
  if (m.heads % tensor != 0) {
    return fmt::format("the {} attention heads", m.heads);
  }
  if (m.key_value_heads % tensor != 0 && tensor % m.key_value_heads != 0) {
    return fmt::format("the {} heads of keys and values", m.key_value_heads);
  }
  for (const ModuleRule& rule : family.rules) {
    const bool is_expert = rule.split == Split::kExpertRows || rule.split == Split::kExpertColumns;
    const std::int64_t ranks = is_expert ? tensor / expert : tensor;
    const bool by_rows = rule.split == Split::kRows || rule.split == Split::kExpertRows;
    const bool by_columns = rule.split == Split::kColumns || rule.split == Split::kExpertColumns;
    const std::int64_t extent = by_rows ? rule.rows(m) : by_columns ? rule.columns(m) : 0;
    if (extent % ranks != 0) {
      return fmt::format("the {} {} of {}", extent, by_rows ? "rows" : "columns", rule.sources[0].module);
    }
  }
  return {};
}

std::string Listed(std::int64_t maximum, auto&& works) {
  std::string list;
  for (std::int64_t number = 1; number <= std::min(maximum, kMaximumSuggestion); ++number) {
    if (works(number)) {
      fmt::format_to(std::back_inserter(list), "{}{}", list.empty() ? "" : ", ", number);
    }
  }
  return list;
}

absl::Status CheckTensor(const EngineModel& m, const Family& family, const Parallel& parallel) {
  const std::string why = WhyNotTensor(m, family, parallel.tensor, parallel.expert);
  if (why.empty()) {
    return absl::OkStatus();
  }
  const std::string works = Listed(m.heads, [&](std::int64_t tensor) {
    return tensor % parallel.expert == 0 && WhyNotTensor(m, family, tensor, parallel.expert).empty();
  });
  return Error(Reason::kOptionUnsupported, fmt::format("--tensor-parallel {} does not divide {}{}{}", parallel.tensor,
                                                       why, works.empty() ? "" : "; what would work: ", works));
}

absl::Status CheckPipeline(const EngineModel& m, const Family& family, const Dialect& dialect,
                           const Parallel& parallel) {
  if (parallel.pipeline > 1 && !family.has_stages) {
    return Error(Reason::kOptionUnsupported,
                 fmt::format("TensorRT-LLM's class of {} cannot be split into stages; --pipeline-parallel 1 would work",
                             family.architecture));
  }
  const bool fits = dialect.balanced_stages ? parallel.pipeline <= m.layers : m.layers % parallel.pipeline == 0;
  if (fits) {
    return absl::OkStatus();
  }
  const std::string works = Listed(m.layers, [&](std::int64_t stages) { return m.layers % stages == 0; });
  return Error(Reason::kOptionUnsupported,
               fmt::format("--pipeline-parallel {} does not divide the {} layers; what would work: {}{}",
                           parallel.pipeline, m.layers, works,
                           parallel.pipeline <= m.layers && !family.only
                               ? ", or --tensorrt-llm-version 1.0 or later, which takes it"
                               : ""));
}

absl::Status CheckExperts(const EngineModel& m, const Parallel& parallel) {
  if (parallel.expert == 1) {
    return absl::OkStatus();
  }
  if (m.experts == 0) {
    return Error(Reason::kOptionUnsupported,
                 fmt::format("--expert-parallel {}: the model has no experts; 1 would work", parallel.expert));
  }
  if (m.experts % parallel.expert != 0 || parallel.tensor % parallel.expert != 0) {
    const std::string works = Listed(
        m.experts, [&](std::int64_t groups) { return m.experts % groups == 0 && parallel.tensor % groups == 0; });
    return Error(Reason::kOptionUnsupported,
                 fmt::format("--expert-parallel {} has to divide the {} experts and --tensor-parallel {}, whose ranks "
                             "it groups; what would work: {}",
                             parallel.expert, m.experts, parallel.tensor, works));
  }
  return absl::OkStatus();
}

}  // namespace

Range Parallel::LayersOf(std::int64_t stage, std::int64_t layers) const {
  const std::int64_t least = layers / pipeline;
  const std::int64_t longer = layers % pipeline;
  return {stage * least + std::min(stage, longer), least + (stage < longer ? 1 : 0)};
}

Range Parallel::KeyValueHeadsOf(std::int64_t rank, std::int64_t heads) const {
  return heads >= tensor ? Share(heads, rank, tensor) : Range{rank / (tensor / heads), 1};
}

absl::StatusOr<Parallel> MakeParallel(const EngineModel& model, const Family& family, const Dialect& dialect,
                                      const RankRequest& request) {
  for (const std::int64_t ranks : {request.tensor_parallel, request.pipeline_parallel, request.expert_parallel}) {
    if (ranks < 1 || ranks > kMaximumParallelSize) {
      return Error(Reason::kOptionUnsupported,
                   fmt::format("{} ranks: there may be 1 to {} of each kind", ranks, kMaximumParallelSize));
    }
  }
  if (request.tensor_parallel * request.pipeline_parallel > kMaximumParallelSize) {
    return Error(Reason::kOptionUnsupported,
                 fmt::format("{} x {} ranks: there may be {} together", request.tensor_parallel,
                             request.pipeline_parallel, kMaximumParallelSize));
  }
  Parallel parallel{
      .tensor = request.tensor_parallel, .pipeline = request.pipeline_parallel, .expert = request.expert_parallel};
  SLIPWAY_RETURN_IF_ERROR(CheckExperts(model, parallel));
  parallel.expert_tensor = parallel.tensor / parallel.expert;
  SLIPWAY_RETURN_IF_ERROR(CheckTensor(model, family, parallel));
  SLIPWAY_RETURN_IF_ERROR(CheckPipeline(model, family, dialect, parallel));
  return parallel;
}

}  // namespace slipway::engine::tensorrt_llm
