#include "worker/engine/target/sharded_state/sharded_state.h"

#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "common/parallel_size.h"
#include "worker/engine/target/sharded_state/dimensions.h"
#include "worker/engine/target/sharded_state/families.h"
#include "worker/engine/target/sharded_state/note.h"
#include "worker/engine/target/sharded_state/rank_builder.h"
#include "worker/engine/target/sharded_state/source_tensors.h"

namespace slipway::engine {
namespace {

using namespace sharded_state;  // NOLINT(google-build-using-namespace)

absl::Status CheckRequest(const Engine& engine, const HuggingFaceModel& model, const RankRequest& request) {
  const auto refuse = [&engine](std::string_view message) {
    return Error(Reason::kOptionUnsupported, fmt::format("{}: {}", engine.target, message));
  };
  for (const std::int64_t size : {request.tensor_parallel, request.pipeline_parallel, request.expert_parallel}) {
    if (size < 1 || size > kMaximumParallelSize) {
      return Error(Reason::kInvalidArgument,
                   fmt::format("{}: {} ranks are not from 1 to {}", engine.target, size, kMaximumParallelSize));
    }
  }
  if (request.expert_parallel > 1) {
    return refuse(
        "experts are divided over ranks, not spread: leave out --expert-parallel, or use --target huggingface");
  }
  if (request.pipeline_parallel > 1 && !engine.pipeline_parallel) {
    return refuse(fmt::format("{} keeps no stages apart: leave out --pipeline-parallel, or use --target huggingface",
                              engine.name));
  }
  if (const auto quantization = model.config.find("quantization_config");
      quantization != model.config.end() && !quantization->is_null()) {
    return refuse(fmt::format("quantized weights are stored otherwise than {} loads them: use --target huggingface",
                              engine.name));
  }
  return absl::OkStatus();
}

std::string FileOf(const RankRequest& request, std::int64_t stage, std::int64_t rank) {
  return request.pipeline_parallel > 1 ? fmt::format("model-pp-{}-tp-{}-part-{{part}}.safetensors", stage, rank)
                                       : fmt::format("model-rank-{}-part-{{part}}.safetensors", rank);
}

// An output layer that is stored is written even where config.json says that it is the embedding: what they hold is not
// known here, and the engines take config.json at its word.
void Untie(const HuggingFaceModel& model, Dimensions& sizes, RankLayout& layout) {
  if (!sizes.tied || !model.tensors.contains("lm_head.weight")) {
    return;
  }
  sizes.tied = false;
  nlohmann::ordered_json config = model.config;
  config["tie_word_embeddings"] = false;
  layout.texts.push_back({"config.json", config.dump(2) + "\n"});
  layout.warnings.emplace_back(
      "config.json says that embeddings are tied, but lm_head.weight is stored: both are written, and "
      "tie_word_embeddings is set to false");
}

absl::StatusOr<RankLayout> MakeLayout(const Engine& engine, const HuggingFaceModel& model, const RankRequest& request) {
  SLIPWAY_RETURN_IF_ERROR(CheckRequest(engine, model, request));
  const Family* family = FindFamily(model.architecture);
  if (family == nullptr) {
    return Error(Reason::kArchitectureUnsupported,
                 fmt::format("{}: the names of {} in {} {} are not known, only those of {}: use --target huggingface",
                             engine.target, model.architecture, engine.name, engine.version, FamilyNames()));
  }
  SLIPWAY_ASSIGN_OR_RETURN(Dimensions sizes, ReadDimensions(engine, *family, model, request));
  RankLayout layout;
  Untie(model, sizes, layout);

  SourceTensors sources(model, engine);
  RankBuilder builder(engine, *family, sizes, request.tensor_parallel, request.quantized, sources);
  const std::vector<std::int64_t> stages = LayersOfStages(sizes.layers, request.pipeline_parallel);
  std::int64_t first_layer = 0;
  for (std::size_t stage = 0; stage < stages.size(); ++stage) {
    const bool both_ends = family->ends_on_every_stage;
    const Stage layers{first_layer, stages[stage], both_ends || stage == 0, both_ends || stage + 1 == stages.size()};
    for (std::int64_t rank = 0; rank < request.tensor_parallel; ++rank) {
      SLIPWAY_ASSIGN_OR_RETURN(RankFile file,
                               builder.Build(layers, rank, FileOf(request, static_cast<std::int64_t>(stage), rank)));
      layout.files.push_back(std::move(file));
    }
    first_layer += stages[stage];
  }
  SLIPWAY_RETURN_IF_ERROR(sources.CheckRest(layout.left_out));
  layout.texts.push_back(MakeNote(engine, request, stages));
  layout.warnings.push_back(fmt::format(
      "the directory belongs to {} {} and this command, other numbers of ranks may load and answer nonsense: {}",
      engine.name, engine.version, ServeCommand(engine, request)));
  return layout;
}

}  // namespace

absl::StatusOr<RankLayout> VllmShardedLayout(const HuggingFaceModel& model, const RankRequest& request) {
  return MakeLayout(kVllm, model, request);
}

absl::StatusOr<RankLayout> SglangShardedLayout(const HuggingFaceModel& model, const RankRequest& request) {
  return MakeLayout(kSglang, model, request);
}

}  // namespace slipway::engine
