#include "worker/engine/plan/inspection.h"

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/model/model.h"
#include "worker/engine/plan/identity_config.h"
#include "worker/engine/plan/make_plan.h"
#include "worker/engine/plan/source_quantization.h"

namespace slipway::engine {
namespace {

using nlohmann::ordered_json;

std::int64_t Elements(const StoredTensor& tensor) { return CheckedVolume(tensor.shape).value_or(0); }
std::int64_t Bytes(const StoredTensor& tensor) {
  return CheckedMultiply(Elements(tensor), InfoOf(tensor.dtype).bytes).value_or(0);
}

ordered_json LayoutToJson(const ParallelLayout& layout) {
  return {{"tensor_parallel", layout.tensor},
          {"pipeline_parallel", layout.pipeline},
          {"virtual_pipeline_parallel", layout.virtual_pipeline},
          {"expert_parallel", layout.expert},
          {"expert_tensor_parallel", layout.expert_tensor},
          {"context_parallel", layout.context},
          {"data_parallel", layout.data}};
}

template <typename Value>
ordered_json OrNull(const std::optional<Value>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json ConfigurationToJson(const ModelConfiguration& c) {
  return {{"layers", c.layers},
          {"hidden_size", c.hidden_size},
          {"ffn_hidden_size", c.ffn_hidden_size},
          {"attention_heads", c.attention_heads},
          {"query_groups", c.query_groups},
          {"head_dimension", c.head_dimension},
          {"vocabulary_size", c.vocabulary_size},
          {"padded_vocabulary_size", c.padded_vocabulary_size},
          {"maximum_positions", c.maximum_positions},
          {"normalization", c.normalization},
          {"norm_epsilon", c.norm_epsilon},
          {"zero_centered_gamma", c.zero_centered_gamma},
          {"activation", c.activation},
          {"gated", c.gated},
          {"qkv_bias", c.qkv_bias},
          {"linear_bias", c.linear_bias},
          {"qk_norm", c.qk_norm},
          {"tied_embeddings", c.tied_embeddings},
          {"rotary_base", c.rotary_base},
          {"llama3_rope_factor", OrNull(c.llama3_rope_factor)},
          {"linear_rope_factor", OrNull(c.linear_rope_factor)},
          {"sliding_window", OrNull(c.sliding_window)},
          {"parameters_dtype", InfoOf(c.parameters_dtype).torch_name}};
}

// What the stored tensors add up to.
void DescribeTensors(const Checkpoint& checkpoint, ordered_json& description) {
  std::map<std::string_view, std::int64_t> dtypes;
  std::int64_t bytes = 0;
  std::int64_t parameters = 0;
  for (const StoredTensor& tensor : checkpoint.tensors) {
    ++dtypes[InfoOf(tensor.dtype).safetensors_name];
    bytes = CheckedAdd(bytes, Bytes(tensor)).value_or(bytes);
    parameters = CheckedAdd(parameters, Elements(tensor)).value_or(parameters);
  }
  description["parameters"] = parameters;
  description["dtypes"] = ordered_json::object();
  for (const auto& [name, count] : dtypes) {
    description["dtypes"][std::string(name)] = count;
  }
  description["tensor_count"] = checkpoint.tensors.size();
  description["weight_bytes"] = bytes;
}

ordered_json ListTensors(const Checkpoint& checkpoint) {
  ordered_json tensors = ordered_json::array();
  for (const StoredTensor& tensor : checkpoint.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"dtype", InfoOf(tensor.dtype).safetensors_name},
                       {"shape", std::vector<std::int64_t>(tensor.shape.begin(), tensor.shape.end())},
                       {"pieces", tensor.pieces.size()},
                       {"bytes", Bytes(tensor)}});
  }
  return tensors;
}

void DescribeFiles(const Checkpoint& checkpoint, ordered_json& description) {
  std::int64_t bytes = 0;
  for (const CheckpointFile& file : checkpoint.files) {
    bytes = CheckedAdd(bytes, file.identity.size).value_or(bytes);
  }
  description["files"] = {{"count", checkpoint.files.size()}, {"bytes", bytes}};
  description["ignored"] = ordered_json::array();
  for (const IgnoredEntries& entries : checkpoint.ignored) {
    description["ignored"].push_back({{"reason", entries.reason},
                                      {"count", entries.count},
                                      {"bytes", entries.bytes},
                                      {"examples", entries.examples}});
  }
}

// What a config.json says, in the words of ConfigurationToJson; null where it says nothing.
ordered_json StatedConfigurationToJson(const ordered_json& config) {
  const std::array<std::pair<const char*, const char*>, 13> fields = {
      {{"layers", "num_hidden_layers"},
       {"hidden_size", "hidden_size"},
       {"ffn_hidden_size", "intermediate_size"},
       {"attention_heads", "num_attention_heads"},
       {"query_groups", "num_key_value_heads"},
       {"head_dimension", "head_dim"},
       {"vocabulary_size", "vocab_size"},
       {"maximum_positions", "max_position_embeddings"},
       {"activation", "hidden_act"},
       {"tied_embeddings", "tie_word_embeddings"},
       {"rotary_base", "rope_theta"},
       {"sliding_window", "sliding_window"},
       {"parameters_dtype", config.contains("dtype") ? "dtype" : "torch_dtype"}}};
  ordered_json described = ordered_json::object();
  for (const auto& [name, field] : fields) {
    const auto found = config.find(field);
    described[name] = found != config.end() && found->is_primitive() ? *found : ordered_json(nullptr);
  }
  return described;
}

absl::Status DescribeHuggingFace(const std::shared_ptr<const Checkpoint>& checkpoint, ordered_json& description) {
  const ordered_json config = ordered_json::parse(checkpoint->hf_config, nullptr, /*allow_exceptions=*/false);
  if (config.is_object()) {
    const StatedFamily family = FamilyOf(config);
    description["architecture"] = family.architecture;
    description["model_type"] = family.model_type;
    description["configuration"] = StatedConfigurationToJson(config);
    SLIPWAY_ASSIGN_OR_RETURN(const SourceQuantization quantization, QuantizationOf(*checkpoint, config));
    description["configuration"]["quantization"] =
        quantization.method.empty() ? ordered_json(nullptr) : ordered_json(quantization.method);
  }
  ExportOptions options;
  options.checkpoint = checkpoint->path;
  return MakePlanOf(checkpoint, options).status();
}

// Goes as far towards a plan as it can; the status is why it went no further.
absl::Status DescribeModel(const std::shared_ptr<const Checkpoint>& checkpoint, ordered_json& description) {
  if (checkpoint->format == CheckpointFormat::kHuggingFace) {
    return DescribeHuggingFace(checkpoint, description);
  }
  SLIPWAY_ASSIGN_OR_RETURN(const auto tensors, Canonicalize(*checkpoint));
  SLIPWAY_ASSIGN_OR_RETURN(const Model model, LearnModel(*checkpoint, tensors, {.architecture = {}, .hf_config = {}}));
  description["architecture"] = model.architecture->name;
  description["model_type"] = model.architecture->model_type;
  description["configuration"] = ConfigurationToJson(model.configuration);
  ExportOptions options;
  options.checkpoint = checkpoint->path;
  SLIPWAY_ASSIGN_OR_RETURN(const auto plan, MakePlanOf(checkpoint, tensors, model, options));
  description["parameters"] = plan->parameters;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ordered_json> Inspect(const InspectOptions& options) {
  SLIPWAY_ASSIGN_OR_RETURN(const std::shared_ptr<const Checkpoint> checkpoint,
                           ReadCheckpoint(options.checkpoint, {.iteration = options.iteration}));
  ordered_json description = {
      {"path", checkpoint->path},
      {"format", NameOf(checkpoint->format)},
      {"writer", checkpoint->writer},
      {"iteration", checkpoint->format == CheckpointFormat::kHuggingFace ? ordered_json(nullptr)
                                                                         : ordered_json(checkpoint->iteration)},
      {"checkpoint_version", OrNull(checkpoint->checkpoint_version)},
      {"architecture", nullptr},
      {"model_type", nullptr},
      {"configuration", ordered_json::object()},
      {"parameters", 0},
      {"layout", LayoutToJson(checkpoint->layout)}};
  DescribeTensors(*checkpoint, description);
  DescribeFiles(*checkpoint, description);
  description["problems"] = ordered_json::array();
  if (const absl::Status status = DescribeModel(checkpoint, description); !status.ok()) {
    description["problems"].push_back(Describe(status));
  }
  if (options.tensors) {
    description["tensors"] = ListTensors(*checkpoint);
  }
  return description;
}

}  // namespace slipway::engine
