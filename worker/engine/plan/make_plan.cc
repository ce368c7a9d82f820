#include "worker/engine/plan/make_plan.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <limits>
#include <set>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "common/checked_math.h"
#include "common/count_of.h"
#include "common/error.h"
#include "common/parallel_size.h"
#include "worker/engine/checkpoint/adapter.h"
#include "worker/engine/plan/adapter.h"
#include "worker/engine/plan/adapter_builder.h"
#include "worker/engine/plan/checkpoint_ranges.h"
#include "worker/engine/plan/export_options.h"
#include "worker/engine/plan/export_recipe.h"
#include "worker/engine/plan/identity_builder.h"
#include "worker/engine/plan/join_plans.h"
#include "worker/engine/plan/linear_weights.h"
#include "worker/engine/plan/plan_builder.h"
#include "worker/engine/plan/plan_checker.h"
#include "worker/engine/plan/plan_hash.h"
#include "worker/engine/plan/quantize_plan.h"
#include "worker/engine/plan/quantize_ranks.h"
#include "worker/engine/plan/rank_plan.h"
#include "worker/engine/plan/shard_layout.h"
#include "worker/engine/plan/transform_warnings.h"
#include "worker/engine/run/memory_needs.h"
#include "worker/engine/target/huggingface.h"
#include "worker/engine/target/rank_targets.h"
#include "worker/engine/transform/block_scales.h"

namespace slipway::engine {
namespace {

std::int64_t Elements(std::span<const std::int64_t> shape) { return CheckedVolume(shape).value_or(0); }

std::int64_t BytesOf(const SourceRegion& region, const Checkpoint& checkpoint) {
  return Elements(region.sizes) * InfoOf(checkpoint.tensors[static_cast<std::size_t>(region.tensor)].dtype).bytes;
}

// Of the factors of an adapter or a product, which are inside their tensors.
std::int64_t BytesOfUpdate(const OutputTensor& tensor, const Checkpoint& checkpoint) {
  if (!tensor.update) {
    return 0;
  }
  std::int64_t bytes = 0;
  for (const std::vector<SourceRegion>* factor : {&tensor.update->a, &tensor.update->b}) {
    for (const SourceRegion& region : *factor) {
      bytes += BytesOf(region, checkpoint);
    }
  }
  return bytes;
}

std::int64_t BytesOfScales(const OutputTensor& tensor, const Checkpoint& checkpoint) {
  std::int64_t bytes = 0;
  for (const SourceRegion& region : ScaleRegionsOf(tensor)) {
    bytes += BytesOf(region, checkpoint);
  }
  return bytes;
}

// Sums over what is read. Each output's size is known to fit, their sum need not.
absl::Status AddUpInput(ExportPlan& plan) {
  for (const OutputTensor& tensor : plan.tensors) {
    const std::int64_t elements = Elements(tensor.shape);
    const auto read = CheckedMultiply(elements / ElementsPerStored(tensor), InfoOf(tensor.transform.from).bytes);
    const auto input = read ? CheckedAdd(plan.input_bytes, *read) : std::nullopt;
    if (!input) {
      return Error(Reason::kLimitExceeded, "the model has more than 2^63 bytes", {.tensor = tensor.name});
    }
    plan.input_bytes = *input + BytesOfScales(tensor, *plan.checkpoint) + BytesOfUpdate(tensor, *plan.checkpoint);
    plan.parameters += elements;
  }
  return absl::OkStatus();
}

absl::Status AddUpOutput(ExportPlan& plan) {
  for (const Shard& shard : plan.shards) {
    const auto output = CheckedAdd(plan.output_bytes, shard.bytes);
    if (!output) {
      return Error(Reason::kLimitExceeded, "the output has more than 2^63 bytes", {.file = shard.file});
    }
    plan.output_bytes = *output;
  }
  return absl::OkStatus();
}

void WarnOfAdapter(const Adapter& adapter, ExportPlan& plan) {
  const auto merged = std::ranges::count_if(plan.tensors, [](const auto& tensor) { return tensor.update.has_value(); });
  plan.warnings.push_back(fmt::format("an adapter of rank {} and alpha {} is merged into {}", adapter.settings().rank,
                                      adapter.settings().alpha, CountOf(merged, "tensor")));
}

void Report(const PlanProgress& progress) {
  if (progress) {
    progress();
  }
}

// How many layers the names of a plan's tensors count.
std::int64_t LayersOf(const ExportPlan& plan) {
  std::int64_t layers = 0;
  for (const OutputTensor& tensor : plan.tensors) {
    layers = std::max(layers, LayerOfModule(tensor.name).value_or(-1) + 1);
  }
  return layers;
}

// Supplied ranges are of inputs as they come; weights that were divided by scales of theirs take others.
absl::Status CheckRangesAreOfInputs(const Ranges& calibrated) {
  for (const auto& [module, given] : calibrated.modules) {
    if (given.pre_quant_scale != nullptr) {
      return Error(Reason::kOptionUnsupported,
                   "ModelOpt divided its weight by scales of its input (AWQ, SmoothQuant): --ranges does not go with "
                   "that; leave it out, the checkpoint has ranges of its own",
                   {.tensor = module});
    }
  }
  return absl::OkStatus();
}

// A recipe may name the form of a format that calibration makes; without calibration it is that form alone.
void WarnOfMissingCalibration(const Recipe& recipe, ExportPlan& plan) {
  std::set<std::string_view> formats;
  for (const RecipeRule& rule : recipe.rules) {
    if (rule.format != nullptr && rule.format->needs_calibration) {
      formats.insert(rule.format->name);
    }
  }
  for (const std::string_view format : formats) {
    plan.warnings.push_back(
        fmt::format("{} is written without calibration: values are rounded to the nearest, no scales of inputs are "
                    "taken into account",
                    format));
  }
}

// Cuts Hugging Face's tensors for the target's ranks, quantized by `recipe` unless it is null.
absl::Status LayOutRanks(const RankTarget& target, const Recipe* recipe, const Ranges* ranges, std::int64_t layers,
                         ExportPlan& plan) {
  const RankRequest request{.tensor_parallel = plan.options.tensor_parallel,
                            .pipeline_parallel = plan.options.pipeline_parallel,
                            .expert_parallel = plan.options.expert_parallel,
                            .version = plan.options.tensorrt_llm_version,
                            .quantized = recipe != nullptr};
  // First: what the target refuses, no other format would change.
  SLIPWAY_ASSIGN_OR_RETURN(const HuggingFaceModel model, HuggingFaceModelOf(plan));
  SLIPWAY_ASSIGN_OR_RETURN(const RankLayout layout, target.layout(model, request));
  WholeWeights whole;
  if (recipe != nullptr) {
    SLIPWAY_ASSIGN_OR_RETURN(whole, QuantizeWholeWeights(*recipe, ranges, layers, target, plan));
  }
  SLIPWAY_ASSIGN_OR_RETURN(std::vector<NamedFile> files, CutIntoRanks(layout, plan));
  WarnOfTransforms(plan);
  if (recipe != nullptr) {
    SLIPWAY_RETURN_IF_ERROR(QuantizeRanks(*recipe, ranges, target, request, layout, whole, files, plan));
  }
  SLIPWAY_ASSIGN_OR_RETURN(plan.shards, LayOutFiles(files, plan.tensors, ShardLimit(plan.options, recipe != nullptr)));
  return absl::OkStatus();
}

// Quantizes as the options ask for and lays the target's files out. `calibrated`: what the checkpoint was calibrated
// for, or null.
absl::Status QuantizeAndLayOut(const Ranges* calibrated, std::int64_t layers, ExportPlan& plan) {
  SLIPWAY_ASSIGN_OR_RETURN(const std::optional<Recipe> recipe, RecipeFor(plan.options, calibrated));
  std::optional<Ranges> supplied;
  if (recipe && !plan.options.ranges.empty()) {
    SLIPWAY_ASSIGN_OR_RETURN(supplied, ReadRanges(plan.options.ranges));
    if (calibrated != nullptr) {
      SLIPWAY_RETURN_IF_ERROR(CheckRangesAreOfInputs(*calibrated));
    }
  }
  if (recipe && calibrated == nullptr) {
    WarnOfMissingCalibration(*recipe, plan);
  }
  const Ranges* const ranges = supplied ? &*supplied : calibrated;
  if (const RankTarget* const target = FindRankTarget(plan.options.targets.front())) {
    return LayOutRanks(*target, recipe ? &*recipe : nullptr, ranges, layers, plan);
  }
  WarnOfTransforms(plan);
  if (recipe) {
    SLIPWAY_RETURN_IF_ERROR(QuantizePlan(*recipe, ranges, layers, plan));
  }
  SLIPWAY_ASSIGN_OR_RETURN(plan.shards, LayOutShards(plan.tensors, ShardLimit(plan.options, recipe.has_value())));
  return absl::OkStatus();
}

// The last steps of every plan whose files are laid out.
absl::Status Finish(ExportPlan& plan) {
  SLIPWAY_RETURN_IF_ERROR(AddUpOutput(plan));
  SLIPWAY_RETURN_IF_ERROR(CheckFiles(plan));
  plan.peak_memory_bytes = MinimumMemoryBudget(plan);
  HashPlan(plan);
  return absl::OkStatus();
}

// What an export of this target alone is asked for, without what only others of the targets take.
ExportOptions OptionsOfTarget(const ExportOptions& options, const std::string& target) {
  ExportOptions alone = options;
  alone.targets = {target};
  for (std::int64_t* const size : {&alone.tensor_parallel, &alone.pipeline_parallel, &alone.expert_parallel}) {
    *size = CheckParallelSize("", *size, alone.targets).ok() ? *size : 1;
  }
  if (!CheckTensorRtLlmVersion("", alone.tensorrt_llm_version, alone.targets).ok()) {
    alone.tensorrt_llm_version.clear();
  }
  return alone;
}

// Of a Hugging Face directory: names stay as they are, and no family has to be known.
absl::StatusOr<std::shared_ptr<ExportPlan>> MakeIdentityPlan(std::shared_ptr<const Checkpoint> checkpoint,
                                                             const ExportOptions& options) {
  auto plan = std::make_shared<ExportPlan>();
  plan->options = options;
  plan->checkpoint = std::move(checkpoint);
  SLIPWAY_RETURN_IF_ERROR(BuildIdentity(*plan));
  SLIPWAY_RETURN_IF_ERROR(CheckIdentityTensors(*plan));
  SLIPWAY_RETURN_IF_ERROR(AddUpInput(*plan));
  SLIPWAY_RETURN_IF_ERROR(QuantizeAndLayOut(nullptr, LayersOf(*plan), *plan));
  SLIPWAY_RETURN_IF_ERROR(Finish(*plan));
  return plan;
}

// `plan_target` makes the plan of options with one target; those of several are joined.
template <class PlanTarget>
absl::StatusOr<std::shared_ptr<const ExportPlan>> PlanTargets(const ExportOptions& options,
                                                              const PlanTarget& plan_target) {
  if (options.targets.size() == 1) {
    return plan_target(options);
  }
  std::vector<ExportPlan> plans;
  for (const std::string& target : options.targets) {
    SLIPWAY_ASSIGN_OR_RETURN(const std::shared_ptr<ExportPlan> plan, plan_target(OptionsOfTarget(options, target)));
    plans.push_back(std::move(*plan));
  }
  SLIPWAY_ASSIGN_OR_RETURN(ExportPlan joined, JoinPlans(std::move(plans)));
  joined.options = options;
  return std::make_shared<const ExportPlan>(std::move(joined));
}

}  // namespace

absl::StatusOr<std::shared_ptr<ExportPlan>> MakeAdapterPlan(const Adapter& adapter,
                                                            std::shared_ptr<const Checkpoint> checkpoint,
                                                            const std::map<std::string, CanonicalTensor>& base,
                                                            const Model& model, const ExportOptions& options) {
  auto plan = std::make_shared<ExportPlan>();
  plan->options = options;
  plan->checkpoint = std::move(checkpoint);
  plan->architecture = model.architecture->name;
  plan->model_type = model.architecture->model_type;
  SLIPWAY_RETURN_IF_ERROR(BuildAdapter(adapter, base, model, *plan));
  WarnOfTransforms(*plan);
  SLIPWAY_RETURN_IF_ERROR(AddUpInput(*plan));
  SLIPWAY_RETURN_IF_ERROR(AddUpOutput(*plan));
  SLIPWAY_RETURN_IF_ERROR(CheckAdapterPlan(*plan, model));
  plan->peak_memory_bytes = MinimumMemoryBudget(*plan);
  HashPlan(*plan);
  return plan;
}

absl::StatusOr<std::shared_ptr<ExportPlan>> MakePlanOf(std::shared_ptr<const Checkpoint> checkpoint,
                                                       const std::map<std::string, CanonicalTensor>& tensors,
                                                       const Model& model, const ExportOptions& options,
                                                       const PlanProgress& progress, const Adapter* adapter) {
  auto plan = std::make_shared<ExportPlan>();
  plan->options = options;
  plan->checkpoint = std::move(checkpoint);
  plan->architecture = model.architecture->name;
  plan->model_type = model.architecture->model_type;
  plan->warnings = model.notes;
  const DType dtype = options.dtype.value_or(model.configuration.parameters_dtype);

  SLIPWAY_ASSIGN_OR_RETURN(BuiltTensors built, BuildTensors(*plan->checkpoint, tensors, model, dtype, adapter));
  if (built.tensors.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
    return Error(Reason::kLimitExceeded, "the model has more than 2^31 tensors");
  }
  plan->tensors = std::move(built.tensors);
  plan->unused = std::move(built.unused);
  std::optional<Ranges> calibrated;
  if (IsCalibrated(*plan->checkpoint)) {
    SLIPWAY_ASSIGN_OR_RETURN(calibrated, RangesOfCheckpoint(*plan->checkpoint, tensors, model));
    if (options.recipe.empty() && options.quantization == "none") {
      SLIPWAY_RETURN_IF_ERROR(CheckNotScaled(*plan->checkpoint));
    }
  }
  Report(progress);
  AddUnusedQuantizers(*plan);
  SLIPWAY_RETURN_IF_ERROR(CheckTensors(*plan, model));
  Report(progress);
  SLIPWAY_ASSIGN_OR_RETURN(HuggingFaceFiles files, MakeHuggingFaceFiles(model, *plan->checkpoint, options, dtype));
  plan->texts = std::move(files.texts);
  plan->sidecars = std::move(files.sidecars);
  plan->warnings.insert(plan->warnings.end(), std::make_move_iterator(files.warnings.begin()),
                        std::make_move_iterator(files.warnings.end()));
  if (adapter != nullptr) {
    WarnOfAdapter(*adapter, *plan);
  }
  SLIPWAY_RETURN_IF_ERROR(AddUpInput(*plan));
  Report(progress);
  SLIPWAY_RETURN_IF_ERROR(QuantizeAndLayOut(calibrated ? &*calibrated : nullptr, model.configuration.layers, *plan));
  Report(progress);
  SLIPWAY_RETURN_IF_ERROR(Finish(*plan));
  Report(progress);
  return plan;
}

absl::StatusOr<std::shared_ptr<const ExportPlan>> MakePlanOf(std::shared_ptr<const Checkpoint> checkpoint,
                                                             const ExportOptions& options,
                                                             const PlanProgress& progress) {
  SLIPWAY_RETURN_IF_ERROR(CheckOptions(options));
  if (checkpoint->format == CheckpointFormat::kHuggingFace) {
    if (!options.adapter.empty()) {
      return Error(Reason::kOptionUnsupported,
                   "--adapter goes with Megatron checkpoints, not with Hugging Face ones yet",
                   {.file = checkpoint->path});
    }
    return PlanTargets(options,
                       [&](const ExportOptions& of_target) { return MakeIdentityPlan(checkpoint, of_target); });
  }
  SLIPWAY_ASSIGN_OR_RETURN(const auto tensors, Canonicalize(*checkpoint));
  Report(progress);
  SLIPWAY_ASSIGN_OR_RETURN(
      const Model model,
      LearnModel(*checkpoint, tensors, {.architecture = options.architecture, .hf_config = options.hf_config}));
  Report(progress);
  if (options.adapter.empty()) {
    return PlanTargets(options, [&](const ExportOptions& of_target) {
      return MakePlanOf(checkpoint, tensors, model, of_target, progress);
    });
  }
  SLIPWAY_ASSIGN_OR_RETURN(const AdaptedCheckpoint adapted,
                           JoinAdapter(*checkpoint, options.adapter, options.adapter_only));
  SLIPWAY_ASSIGN_OR_RETURN(const Adapter adapter, Adapter::Make(adapted, model.configuration.layers));
  Report(progress);
  return PlanTargets(options, [&](const ExportOptions& of_target) {
    return of_target.adapter_only ? MakeAdapterPlan(adapter, adapted.checkpoint, tensors, model, of_target)
                                  : MakePlanOf(adapted.checkpoint, tensors, model, of_target, progress, &adapter);
  });
}

absl::StatusOr<std::shared_ptr<const ExportPlan>> MakePlan(const ExportOptions& options, const PlanProgress& progress) {
  SLIPWAY_RETURN_IF_ERROR(CheckOptions(options));
  SLIPWAY_ASSIGN_OR_RETURN(std::shared_ptr<const Checkpoint> checkpoint,
                           ReadCheckpoint(options.checkpoint, {.iteration = options.iteration}));
  Report(progress);
  return MakePlanOf(std::move(checkpoint), options, progress);
}

absl::StatusOr<std::shared_ptr<const ExportPlan>> MakePlan(const ExportOptions& options) {
  return MakePlan(options, {});
}

}  // namespace slipway::engine
