#include "worker/conversion.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/error.h"

namespace slipway::worker {
namespace {

constexpr std::string_view kDefaultTarget = "huggingface";

struct DTypeOption {
  std::string_view name;
  engine::DType dtype;
};
constexpr std::array kDTypes = std::to_array<DTypeOption>({
    {"bf16", engine::DType::kBF16},
    {"fp16", engine::DType::kF16},
    {"fp32", engine::DType::kF32},
});

absl::StatusOr<std::optional<engine::DType>> ParametersDType(const v1::ExportSpec& spec) {
  if (spec.dtype().empty()) {
    return std::optional<engine::DType>();
  }
  const auto* option = std::ranges::find(kDTypes, spec.dtype(), &DTypeOption::name);
  if (option == kDTypes.end()) {
    return Error(Reason::kInvalidArgument, fmt::format("dtype: '{}' is none of bf16, fp16, fp32", spec.dtype()));
  }
  return std::optional(option->dtype);
}

absl::StatusOr<DigestAlgorithm> DigestOf(const v1::ExportSpec& spec) {
  if (spec.digest().empty()) {
    return DigestAlgorithm::kSha256;
  }
  const auto algorithm = DigestAlgorithmFromName(spec.digest());
  if (!algorithm) {
    return Error(Reason::kInvalidArgument, fmt::format("digest: '{}' is none of sha256, xxh3, none", spec.digest()));
  }
  return *algorithm;
}

absl::Status CheckCheckpoint(const std::string& checkpoint, bool has_iteration, std::int64_t iteration) {
  if (checkpoint.empty()) {
    return Error(Reason::kInvalidArgument, "checkpoint: must not be empty");
  }
  if (has_iteration && iteration < 0) {
    return Error(Reason::kInvalidArgument, fmt::format("iteration: {} is negative", iteration));
  }
  return absl::OkStatus();
}

// Strings of messages must be UTF-8; names come from checkpoints and may hold any bytes.
std::string Repaired(const std::string& text) {
  return nlohmann::json::parse(nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace))
      .get<std::string>();
}

// Whether the checkpoint's tracker file, which training moves on, led to its iteration. False for no checkpoint.
bool ChosenByTracker(const engine::Checkpoint* checkpoint) {
  return checkpoint != nullptr && checkpoint->root != nullptr && checkpoint->directory != nullptr &&
         !checkpoint->release && checkpoint->root->path() != checkpoint->directory->path();
}

}  // namespace

absl::StatusOr<engine::ExportOptions> ToExportOptions(const v1::ExportSpec& spec) {
  SLIPWAY_RETURN_IF_ERROR(CheckCheckpoint(spec.checkpoint(), spec.has_iteration(), spec.iteration()));
  if (spec.max_shard_bytes() < 0) {
    return Error(Reason::kInvalidArgument, fmt::format("max_shard_bytes: {} is negative", spec.max_shard_bytes()));
  }
  engine::ExportOptions options;
  options.checkpoint = spec.checkpoint();
  // The plan decides what can be done of what is asked for.
  options.targets.assign(spec.targets().begin(), spec.targets().end());
  if (options.targets.empty()) {
    options.targets.emplace_back(kDefaultTarget);
  }
  options.quantization = spec.quantization();
  options.hf_config = spec.hf_config();
  options.architecture = spec.architecture();
  if (spec.has_iteration()) {
    options.iteration = spec.iteration();
  }
  SLIPWAY_ASSIGN_OR_RETURN(options.dtype, ParametersDType(spec));
  SLIPWAY_ASSIGN_OR_RETURN(options.digest, DigestOf(spec));
  options.maximum_shard_bytes = spec.max_shard_bytes();
  options.allow_custom_code = spec.allow_custom_code();
  options.adapter = spec.adapter();
  options.adapter_only = spec.adapter_only();
  options.recipe = spec.recipe();
  options.kv_cache = spec.kv_cache();
  options.config_form = spec.config_form();
  options.scale_search = spec.scale_search();
  options.ranges = spec.ranges();
  const auto size = [](std::int32_t given) { return given == 0 ? 1 : given; };
  options.tensor_parallel = size(spec.tensor_parallel());
  options.pipeline_parallel = size(spec.pipeline_parallel());
  options.expert_parallel = size(spec.expert_parallel());
  options.tensorrt_llm_version = spec.tensorrt_llm_version();
  return options;
}

absl::StatusOr<engine::InspectOptions> ToInspectOptions(const v1::Assignment& assignment) {
  SLIPWAY_RETURN_IF_ERROR(CheckCheckpoint(assignment.checkpoint(), assignment.has_iteration(), assignment.iteration()));
  engine::InspectOptions options;
  options.checkpoint = assignment.checkpoint();
  if (assignment.has_iteration()) {
    options.iteration = assignment.iteration();
  }
  options.tensors = assignment.inspect_tensors();
  options.hf_config = assignment.spec().hf_config();
  options.architecture = assignment.spec().architecture();
  return options;
}

v1::PlanSummary ToPlanSummary(const engine::ExportPlan& plan) {
  v1::PlanSummary summary;
  summary.set_plan_hash(plan.hash);
  summary.set_architecture(plan.architecture);
  summary.set_tensors(static_cast<std::int64_t>(plan.tensors.size()));
  summary.set_output_bytes(plan.output_bytes);
  summary.set_input_bytes(plan.input_bytes);
  for (const engine::Shard& shard : plan.shards) {
    summary.add_shard_bytes(shard.bytes);
  }
  summary.set_peak_memory_bytes(plan.peak_memory_bytes);
  summary.set_parameters(plan.parameters);
  for (const std::string& warning : plan.warnings) {
    summary.add_warnings(Repaired(warning));
  }
  if (ChosenByTracker(plan.checkpoint.get())) {
    summary.set_iteration(plan.checkpoint->iteration);
  }
  return summary;
}

absl::StatusOr<std::string> Sendable(std::string json, std::string_view what) {
  constexpr std::size_t kMaximumJson = std::size_t{60} << 20;  // the coordinator takes messages of 64 MiB
  if (json.size() > kMaximumJson) {
    return Error(
        Reason::kLimitExceeded,
        fmt::format("{} with its tensors has {} bytes of JSON, more than a message holds: ask without tensors, "
                    "or without --server where the checkpoint is",
                    what, json.size()));
  }
  return json;
}

v1::ShardResult ToShardResult(const engine::ShardResult& result) {
  v1::ShardResult message;
  message.set_file(result.file);
  message.set_size(result.bytes);
  message.set_digest(result.digest);
  message.set_bytes_written(result.bytes_written);
  return message;
}

v1::PublishResult ToPublishResult(const engine::Publication& publication) {
  v1::PublishResult message;
  message.set_path(publication.path);
  message.set_manifest_digest(publication.manifest_digest);
  return message;
}

}  // namespace slipway::worker
