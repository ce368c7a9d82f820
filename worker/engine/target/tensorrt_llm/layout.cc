#include "worker/engine/target/tensorrt_llm/layout.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/target/tensorrt_llm/dialect.h"
#include "worker/engine/target/tensorrt_llm/engine_config.h"
#include "worker/engine/target/tensorrt_llm/engine_model.h"
#include "worker/engine/target/tensorrt_llm/families.h"
#include "worker/engine/target/tensorrt_llm/module_tensors.h"
#include "worker/engine/target/tensorrt_llm/parallel.h"

namespace slipway::engine {
namespace {

using tensorrt_llm::Dialect;
using tensorrt_llm::EngineModel;
using tensorrt_llm::Family;
using tensorrt_llm::Layers;
using tensorrt_llm::ModuleRule;
using tensorrt_llm::ModuleTensors;
using tensorrt_llm::Parallel;
using tensorrt_llm::Range;

// What some Hugging Face directories hold although it can be computed.
constexpr std::string_view kBuffers[] = {".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias",
                                         ".attention.masked_bias"};

absl::StatusOr<const Family*> FamilyOf(const HuggingFaceModel& source, const Dialect& dialect, bool quantized) {
  const Family* family = tensorrt_llm::FindFamily(source.architecture);
  if (family == nullptr) {
    return Error(Reason::kOptionUnsupported, tensorrt_llm::WhyNoFamily(source.architecture));
  }
  if (family->only && dialect.named && (dialect.version < *family->only || *family->only < dialect.version)) {
    return Error(
        Reason::kOptionUnsupported,
        fmt::format("what TensorRT-LLM {} wants of {} is not known: {} is (--tensorrt-llm-version {}); later "
                    "versions' PyTorch back end loads what --target huggingface writes",
                    ToString(dialect.version), family->architecture, ToString(*family->only), ToString(*family->only)));
  }
  if (dialect.named && dialect.version < family->since) {
    return Error(Reason::kOptionUnsupported,
                 fmt::format("TensorRT-LLM {} does not load {} so; {} and later do", ToString(dialect.version),
                             family->architecture, ToString(family->since)));
  }
  if (quantized && !family->is_quantized) {
    return Error(Reason::kOptionUnsupported,
                 fmt::format("--target tensorrt-llm quantizes no {}, whose attention is made of products of its "
                             "matrices; --target huggingface does, and TensorRT-LLM's PyTorch back end loads that",
                             family->architecture));
  }
  return family;
}

// What one layout is made from; its functions fill the files of one.
struct Maker {
  const EngineModel& model;
  const Family& family;
  const Parallel& parallel;
  ModuleTensors& tensors;

  absl::Status AppendBeginning(std::int64_t rank, RankFile& file) const {
    SLIPWAY_RETURN_IF_ERROR(tensors.AppendVocabulary("transformer.vocab_embedding.weight",
                                                     fmt::format("{}{}", model.prefix, family.embedding),
                                                     family.shards_embedding, rank, file));
    if (family.position_embedding.empty()) {
      return absl::OkStatus();
    }
    const ModuleRule positions{.name = "position_embedding",
                               .sources = {tensorrt_llm::Source{family.position_embedding}},
                               .rows = [](const EngineModel& m) { return m.positions; },
                               .columns = [](const EngineModel& m) { return m.hidden; }};
    return tensors.AppendModule(positions, "transformer.", model.prefix, rank, file);
  }

  absl::Status AppendLayer(std::int64_t local, std::int64_t layer, std::int64_t rank, RankFile& file) const {
    const std::string name_prefix = fmt::format("transformer.layers.{}.", local);
    const std::string source_prefix = fmt::format("{}{}.{}.", model.prefix, family.layers, layer);
    if (family.latent_attention) {
      SLIPWAY_RETURN_IF_ERROR(tensors.AppendLatentAttention(name_prefix, source_prefix, rank, file));
    }
    const Layers other = layer < model.dense_layers ? Layers::kOfExperts : Layers::kDense;
    for (const ModuleRule& rule : family.rules) {
      if (rule.layers != other && (rule.when == nullptr || rule.when(model))) {
        SLIPWAY_RETURN_IF_ERROR(tensors.AppendModule(rule, name_prefix, source_prefix, rank, file));
      }
    }
    return absl::OkStatus();
  }

  absl::Status AppendEnd(std::int64_t rank, RankFile& file) const {
    const ModuleRule norm{.name = "ln_f",
                          .sources = {tensorrt_llm::Source{family.final_norm}},
                          .rows = [](const EngineModel& m) { return m.hidden; },
                          .bias = family.layer_norm ? tensorrt_llm::Bias::kAlways : tensorrt_llm::Bias::kNone,
                          .is_norm = true};
    SLIPWAY_RETURN_IF_ERROR(tensors.AppendModule(norm, "transformer.", model.prefix, rank, file));
    const std::string head =
        model.tied ? fmt::format("{}{}", model.prefix, family.embedding) : std::string(family.head);
    return tensors.AppendVocabulary("lm_head.weight", head, true, rank, file);
  }

  absl::StatusOr<RankFile> MakeFile(std::int64_t stage, std::int64_t rank) const {
    RankFile file;
    file.file = fmt::format("rank{}.safetensors", stage * parallel.tensor + rank);
    if (stage == 0) {
      SLIPWAY_RETURN_IF_ERROR(AppendBeginning(rank, file));
    }
    const Range layers = parallel.LayersOf(stage, model.layers);
    for (std::int64_t local = 0; local < layers.count; ++local) {
      SLIPWAY_RETURN_IF_ERROR(AppendLayer(local, layers.first + local, rank, file));
    }
    if (stage == parallel.pipeline - 1) {
      SLIPWAY_RETURN_IF_ERROR(AppendEnd(rank, file));
    }
    return file;
  }
};

std::vector<LeftOut> LeftOutOf(const HuggingFaceModel& source) {
  std::vector<LeftOut> left_out;
  for (const auto& entry : source.tensors) {
    const std::string& name = entry.first;
    if (std::ranges::any_of(kBuffers,
                            [&](std::string_view suffix) { return std::string_view(name).ends_with(suffix); })) {
      left_out.push_back({name, "the engine computes it"});
    }
  }
  return left_out;
}

std::vector<std::string> WarningsOf(const EngineModel& model, const Family& family, const Dialect& dialect,
                                    const std::string& rounded) {
  std::vector<std::string> warnings;
  if (!dialect.named && family.only) {
    warnings.push_back(fmt::format("{} is written as TensorRT-LLM {} loads it: other versions' tensors differ",
                                   family.architecture, ToString(*family.only)));
  } else if (!dialect.named && tensorrt_llm::kOldest < family.since) {
    warnings.push_back(
        fmt::format("TensorRT-LLM loads {} so from version {} on", family.architecture, ToString(family.since)));
  }
  if (!family.has_window && model.window && *model.window < model.positions) {
    warnings.push_back(
        fmt::format("The checkpoint does not tell TensorRT-LLM of the attention window of {}: name it "
                    "when the engine runs (max_attention_window_size)",
                    *model.window));
  }
  if (model.has_head_of_its_own) {
    warnings.push_back(fmt::format(
        "config.json says that embeddings are tied, but {}.weight is stored: it is written as the output layer",
        family.head));
  }
  if (!rounded.empty()) {
    warnings.push_back(fmt::format("{} and perhaps others become {}, the dtype of the embeddings: an engine has one",
                                   rounded, InfoOf(model.dtype).torch_name));
  }
  return warnings;
}

}  // namespace

absl::StatusOr<RankLayout> TensorRtLlmLayout(const HuggingFaceModel& source, const RankRequest& request) {
  SLIPWAY_ASSIGN_OR_RETURN(const Dialect dialect, tensorrt_llm::FindDialect(request.version));
  SLIPWAY_ASSIGN_OR_RETURN(const Family* const family, FamilyOf(source, dialect, request.quantized));
  const nlohmann::json config = source.config;
  if (!config.is_object()) {
    return Error(Reason::kConfigurationInvalid, "config.json is not an object");
  }
  SLIPWAY_ASSIGN_OR_RETURN(const EngineModel model, LearnEngineModel(source, config, *family));
  SLIPWAY_ASSIGN_OR_RETURN(const Parallel parallel, MakeParallel(model, *family, dialect, request));

  RankLayout layout;
  ModuleTensors tensors(source, model, *family, parallel);
  const Maker maker{model, *family, parallel, tensors};
  for (std::int64_t stage = 0; stage < parallel.pipeline; ++stage) {
    for (std::int64_t rank = 0; rank < parallel.tensor; ++rank) {
      SLIPWAY_ASSIGN_OR_RETURN(RankFile file, maker.MakeFile(stage, rank));
      layout.files.push_back(std::move(file));
    }
  }
  const nlohmann::ordered_json engine = MakeEngineConfig(model, *family, parallel, config);
  if (model.rope.fraction != 1 && !engine.contains("rotary_pct")) {
    return Error(Reason::kOptionUnsupported,
                 fmt::format("TensorRT-LLM's {} rotates whole heads, not {} of each (partial_rotary_factor); --target "
                             "huggingface keeps it",
                             family->engine, model.rope.fraction));
  }
  layout.texts.push_back({"config.json", engine.dump(2) + "\n"});
  layout.left_out = LeftOutOf(source);
  layout.warnings = WarningsOf(model, *family, dialect, tensors.rounded());
  return layout;
}

}  // namespace slipway::engine
