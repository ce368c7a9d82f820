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
#include "worker/engine/checkpoint/stored_names.h"
#include "worker/engine/model/architecture.h"
#include "worker/engine/model/identify.h"
#include "worker/engine/model/model.h"
#include "worker/engine/plan/configuration_json.h"
#include "worker/engine/plan/identity_config.h"
#include "worker/engine/plan/make_plan.h"
#include "worker/engine/plan/source_quantization.h"

namespace slipway::engine {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kExpertsModule = ".mlp.experts.";  // in canonical names
constexpr std::string_view kPredictionPrefix = "mtp.";

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

// What the stored tensors add up to.
void DescribeTensors(const Checkpoint& checkpoint, ordered_json& description) {
  std::map<std::string_view, std::int64_t> dtypes;
  std::int64_t bytes = 0;
  std::int64_t parameters = 0;
  std::size_t pieces = 0;
  std::size_t weights = 0;
  for (const StoredTensor& tensor : checkpoint.tensors) {
    if (ParseQuantizerTensorName(tensor.name)) {
      continue;
    }
    ++weights;
    pieces += tensor.pieces.size();
    ++dtypes[InfoOf(tensor.dtype).safetensors_name];
    bytes = CheckedAdd(bytes, Bytes(tensor)).value_or(bytes);
    parameters = CheckedAdd(parameters, Elements(tensor)).value_or(parameters);
  }
  description["parameters"] = parameters;
  description["dtypes"] = ordered_json::object();
  for (const auto& [name, count] : dtypes) {
    description["dtypes"][std::string(name)] = count;
  }
  description["tensor_count"] = weights;
  description["piece_count"] = pieces;
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
  SLIPWAY_ASSIGN_OR_RETURN(const auto plan, MakePlanOf(checkpoint, options));
  description["notes"] = plan->warnings;
  return absl::OkStatus();
}

// How many of `parameters` take part in one token: of the experts those that are chosen; no prediction layers. Null
// where all do, or where it is not known how many experts are chosen.
ordered_json ActiveParameters(const std::map<std::string, CanonicalTensor>& tensors, const ModelConfiguration& c,
                              std::int64_t parameters) {
  const std::int64_t count = c.experts.count.value_or(0);
  const std::int64_t active = c.experts.active.value_or(0);
  if (count <= 0 || active <= 0 || active > count) {
    return nullptr;
  }
  std::int64_t in_experts = 0;
  std::int64_t in_predictions = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::int64_t elements = CheckedVolume(tensor.shape).value_or(0);
    if (name.starts_with(kPredictionPrefix)) {
      in_predictions += elements;
    } else if (name.find(kExpertsModule) != std::string::npos) {
      in_experts += elements;
    }
  }
  return parameters - in_predictions - in_experts / count * (count - active);
}

void DescribeFamily(const Model& model, ordered_json& description) {
  description["architecture"] = model.architecture->name;
  description["model_type"] = model.architecture->model_type;
  description["summary"] = model.architecture->summary;
  for (const Architecture* family : FamiliesAsNear(*model.architecture, model.configuration)) {
    description["alternatives"].push_back(family->name);
  }
  description["configuration"] = ConfigurationToJson(model.configuration);
  description["notes"] = model.notes;
}

// Goes as far towards a plan as it can; the status is why it went no further.
absl::Status DescribeModel(const std::shared_ptr<const Checkpoint>& checkpoint, const InspectOptions& inspect,
                           ordered_json& description) {
  if (checkpoint->format == CheckpointFormat::kHuggingFace) {
    return DescribeHuggingFace(checkpoint, description);
  }
  SLIPWAY_ASSIGN_OR_RETURN(const auto tensors, Canonicalize(*checkpoint));
  SLIPWAY_ASSIGN_OR_RETURN(
      const Model model,
      LearnModel(*checkpoint, tensors, {.architecture = inspect.architecture, .hf_config = inspect.hf_config}));
  DescribeFamily(model, description);
  ExportOptions options;
  options.checkpoint = checkpoint->path;
  options.hf_config = inspect.hf_config;
  options.architecture = inspect.architecture;
  SLIPWAY_ASSIGN_OR_RETURN(const auto plan, MakePlanOf(checkpoint, tensors, model, options));
  description["parameters"] = plan->parameters;
  description["active_parameters"] = ActiveParameters(tensors, model.configuration, plan->parameters);
  description["notes"] = plan->warnings;
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
      {"summary", nullptr},
      {"alternatives", ordered_json::array()},
      {"configuration", ordered_json::object()},
      {"parameters", 0},
      {"active_parameters", nullptr},
      {"layout", LayoutToJson(checkpoint->layout)}};
  DescribeTensors(*checkpoint, description);
  DescribeFiles(*checkpoint, description);
  description["notes"] = ordered_json::array();
  description["problems"] = ordered_json::array();
  description["advice"] = ordered_json::array();
  if (const absl::Status status = DescribeModel(checkpoint, options, description); !status.ok()) {
    description["problems"].push_back(Describe(status));
    description["advice"].push_back(InfoOf(ReasonOf(status)).advice);
  }
  if (options.tensors) {
    description["tensors"] = ListTensors(*checkpoint);
  }
  return description;
}

}  // namespace slipway::engine
