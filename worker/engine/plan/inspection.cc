#include "worker/engine/plan/inspection.h"

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
#include "worker/engine/plan/make_plan.h"

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

// Goes as far towards a plan as it can; the status is why it went no further.
absl::Status DescribeModel(const std::shared_ptr<const Checkpoint>& checkpoint, ordered_json& description) {
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
  ordered_json description = {{"path", checkpoint->path},
                              {"format", NameOf(checkpoint->format)},
                              {"writer", checkpoint->writer},
                              {"iteration", checkpoint->iteration},
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
