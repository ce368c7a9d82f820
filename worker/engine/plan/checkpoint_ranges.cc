#include "worker/engine/plan/checkpoint_ranges.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/checkpoint/quantizer_state.h"
#include "worker/engine/checkpoint/stored_names.h"
#include "worker/engine/model/rule_instances.h"
#include "worker/engine/plan/calibrated_format.h"
#include "worker/engine/plan/compressed_weights.h"
#include "worker/engine/plan/quantizer_rows.h"
#include "worker/engine/plan/stored_values.h"
#include "worker/engine/plan/transforms.h"
#include "worker/engine/transform/block_scales.h"

namespace slipway::engine {
namespace {

using Tensors = std::map<std::string, CanonicalTensor>;

constexpr std::string_view kWeight = ".weight";
constexpr std::string_view kAttentionOutput = "self_attention.linear_proj.weight";
constexpr std::string_view kExperts = ".mlp.experts.";
constexpr std::int64_t kMaximumScales = std::int64_t{1} << 28;  // values: 1 GiB

bool IsRange(float value) { return std::isfinite(value) && value > 0; }

// "a.b.c" without the last `count` of its parts.
std::string Parent(std::string_view name, int count) {
  for (; count > 0; --count) {
    const std::size_t dot = name.rfind('.');
    name = name.substr(0, dot == std::string_view::npos ? 0 : dot);
  }
  return std::string(name);
}

// The module of an expert without the expert's number: what all experts share has its name.
std::string WithoutExpert(const std::string& module) {
  const std::size_t begin = module.find(kExperts);
  const std::size_t end = begin == std::string::npos ? begin : module.find('.', begin + kExperts.size());
  return end == std::string::npos ? std::string()
                                  : module.substr(0, begin + kExperts.size() - 1).append(module.substr(end));
}

// An expert's module as it is called while a model runs: rules are written for these names.
std::string LiveName(const std::string& module) {
  const std::size_t begin = module.find(kExperts);
  std::string name = module;
  return begin == std::string::npos ? name : name.insert(begin + kExperts.size(), "local_experts.");
}

class RangesReader {
 public:
  RangesReader(const Checkpoint& checkpoint, const Tensors& tensors, const Model& model)
      : checkpoint_(checkpoint), tensors_(tensors), model_(model) {}

  absl::StatusOr<Ranges> Read() {
    SLIPWAY_ASSIGN_OR_RETURN(quantizers_, CanonicalizeQuantizers(checkpoint_));
    SLIPWAY_ASSIGN_OR_RETURN(rules_, ReadModelOptState(checkpoint_));
    SLIPWAY_RETURN_IF_ERROR(FindStates());
    ranges_.origin = rules_.version.empty() ? std::string("the checkpoint")
                                            : fmt::format("the checkpoint (ModelOpt {})", rules_.version);
    for (const RuleInstance& instance : InstancesOf(*model_.architecture, model_.configuration)) {
      if (!instance.rule->source.ends_with(kWeight)) {
        continue;
      }
      const bool per_expert = IsPerExpert(instance.rule->source);
      const std::int64_t experts = per_expert ? model_.configuration.experts.count.value_or(0) : 1;
      for (std::int64_t expert = 0; expert < experts; ++expert) {
        SLIPWAY_RETURN_IF_ERROR(AddModule(instance, expert));
      }
      if (instance.rule->source.ends_with(kAttentionOutput)) {
        SLIPWAY_RETURN_IF_ERROR(AddAttention(instance));
      }
    }
    return std::move(ranges_);
  }

 private:
  absl::Status FindStates() {
    for (const ModuleState& state : checkpoint_.module_states) {
      const absl::StatusOr<std::string> module = ModuleOfState(state.name);
      if (module.ok()) {
        states_.try_emplace(*module, &state);
      }
    }
    return absl::OkStatus();
  }

  [[nodiscard]] const CanonicalTensor* Find(const std::string& module, std::string_view buffer) const {
    const auto found = quantizers_.find(fmt::format("{}.{}", module, buffer));
    return found == quantizers_.end() ? nullptr : &found->second;
  }

  // Of an input: the module's own, or the one that all experts share.
  [[nodiscard]] const CanonicalTensor* FindOfInput(const std::string& module, std::string_view buffer) const {
    const CanonicalTensor* const own = Find(module, buffer);
    return own != nullptr ? own : Find(WithoutExpert(module), buffer);
  }

  // The module's own state where it can be read, otherwise what the rules say; a state in which something is wrong is
  // no reason to stop where there are rules.
  [[nodiscard]] ModuleQuantizers SettingsOf(const std::string& module) const {
    for (const std::string& name : {module, WithoutExpert(module)}) {
      const auto state = states_.find(name);
      absl::StatusOr<ModuleQuantizers> read =
          state == states_.end() ? ModuleQuantizers() : ReadModuleState(checkpoint_, *state->second);
      if (read.ok() && !read->empty()) {
        return *std::move(read);
      }
    }
    return QuantizersByRules(rules_, LiveName(module));
  }

  [[nodiscard]] bool HasQuantizers(const std::string& module) const {
    const std::string prefix = module + ".";
    const auto first = quantizers_.lower_bound(prefix);
    return states_.contains(module) || states_.contains(WithoutExpert(module)) ||
           (first != quantizers_.end() && first->first.starts_with(prefix));
  }

  // One value, of any rank.
  absl::StatusOr<float> ReadOne(const CanonicalTensor& tensor) const {
    SLIPWAY_ASSIGN_OR_RETURN(const std::vector<float> values, ReadStoredValues(tensor, checkpoint_));
    return values.size() == 1
               ? absl::StatusOr<float>(values[0])
               : Error(Reason::kTensorShapeMismatch,
                       fmt::format("has shape [{}], where one value is expected", fmt::join(tensor.shape, ", ")),
                       {.tensor = tensor.name});
  }

  absl::StatusOr<float> ReadWeightRange(const CanonicalTensor& tensor) const {
    SLIPWAY_ASSIGN_OR_RETURN(const float value, ReadOne(tensor));
    return std::isfinite(value) && value >= 0
               ? absl::StatusOr<float>(value)
               : Error(Reason::kCheckpointCorrupt, fmt::format("the range of a weight is {}", value),
                       {.tensor = tensor.name});
  }

  // What its targets have in common, and its ranges of rows.
  absl::Status AddModule(const RuleInstance& instance, std::int64_t expert) {
    const TensorRule& rule = *instance.rule;
    const std::string source = SourceName(instance, model_.configuration, expert);
    const auto weight = tensors_.find(source);
    const std::string module = source.substr(0, source.size() - kWeight.size());
    if (weight == tensors_.end() || !HasQuantizers(module)) {
      return absl::OkStatus();
    }
    if (IsStacked(rule)) {
      return Error(Reason::kCheckpointUnsupported,
                   fmt::format("{} stacks experts, whose quantizers are of one each: such a checkpoint can be exported "
                               "with --quantization none only",
                               model_.architecture->name),
                   {.tensor = source});
    }
    ModuleRanges common;
    SLIPWAY_RETURN_IF_ERROR(ReadInput(module, weight->second, common));
    const ModuleQuantizers settings = SettingsOf(module);
    CalibratedFormat format = FormatOf(settings, common.pre_quant_scale != nullptr);
    common.format = std::move(format.name);
    common.group = format.group;
    common.input = format.input;
    common.stated = std::move(format.stated);
    for (std::size_t target = 0; target < rule.targets.size(); ++target) {
      ModuleRanges ranges = common;
      SLIPWAY_RETURN_IF_ERROR(ReadWeight(module, weight->second, settings, rule, target, ranges));
      const std::string name = TargetName(instance, target, model_.configuration, expert);
      ranges_.modules[name.ends_with(kWeight) ? name.substr(0, name.size() - kWeight.size()) : name] =
          std::move(ranges);
    }
    return absl::OkStatus();
  }

  absl::Status ReadInput(const std::string& module, const CanonicalTensor& weight, ModuleRanges& ranges) {
    const std::int64_t columns = weight.shape.size() == 2 ? weight.shape[1] : 0;
    if (const CanonicalTensor* const amax = FindOfInput(module, "input_quantizer._amax")) {
      SLIPWAY_ASSIGN_OR_RETURN(std::vector<float> values, ReadStoredValues(*amax, checkpoint_));
      if (values.size() != 1 && std::cmp_not_equal(values.size(), columns)) {
        return Error(Reason::kTensorShapeMismatch,
                     fmt::format("has shape [{}]: neither one value nor one an input channel, of which {} has {}",
                                 fmt::join(amax->shape, ", "), weight.name, columns),
                     {.tensor = amax->name});
      }
      if (std::ranges::all_of(values, IsRange)) {
        ranges.input_amax = std::move(values);
      }
    }
    if (const CanonicalTensor* const scale = FindOfInput(module, "input_quantizer._pre_quant_scale")) {
      SLIPWAY_ASSIGN_OR_RETURN(ranges.pre_quant_scale, ReadScale(*scale, weight, columns));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::shared_ptr<const std::vector<float>>> ReadScale(const CanonicalTensor& scale,
                                                                      const CanonicalTensor& weight,
                                                                      std::int64_t columns) {
    if (CheckedVolume(scale.shape) != columns) {
      return Error(Reason::kTensorShapeMismatch,
                   fmt::format("has shape [{}]: not one value an input channel, of which {} has {}",
                               fmt::join(scale.shape, ", "), weight.name, columns),
                   {.tensor = scale.name});
    }
    if (columns > kMaximumScales - scales_) {
      return Error(Reason::kLimitExceeded, fmt::format("more than {} scales of inputs", kMaximumScales),
                   {.tensor = scale.name});
    }
    scales_ += columns;
    SLIPWAY_ASSIGN_OR_RETURN(std::vector<float> values, ReadStoredValues(scale, checkpoint_));
    if (!std::ranges::all_of(values, IsRange)) {
      return Error(Reason::kCheckpointCorrupt, "a scale of inputs is not finite and above 0", {.tensor = scale.name});
    }
    return std::make_shared<const std::vector<float>>(std::move(values));
  }

  // One range, or one a row or a block; of W4A8 the blocks', then the weight's.
  absl::Status ReadWeight(const std::string& module, const CanonicalTensor& weight, const ModuleQuantizers& settings,
                          const TensorRule& rule, std::size_t target, ModuleRanges& ranges) const {
    if (weight.nibbles) {
      return ReadCompressed(module, weight, rule, target, ranges);
    }
    for (const std::string_view quantizer : {"weight_quantizer", "weight_quantizer.0", "weight_quantizer.1"}) {
      const CanonicalTensor* const amax = Find(module, fmt::format("{}._amax", quantizer));
      if (amax == nullptr) {
        continue;
      }
      if (CheckedVolume(amax->shape) == 1) {
        SLIPWAY_ASSIGN_OR_RETURN(ranges.weight_amax, ReadWeightRange(*amax));
        continue;
      }
      if (rule.axes != Axes::kAsStored) {
        return Error(
            Reason::kCheckpointUnsupported,
            fmt::format("are ranges of rows of {}, whose axes {} exchanges", weight.name, model_.architecture->name),
            {.tensor = amax->name});
      }
      SLIPWAY_ASSIGN_OR_RETURN(
          ranges.weight_amaxes,
          AmaxesOf(*amax, weight, BlockOf(settings, quantizer, *amax, weight), IsGated(weight, model_.configuration),
                   RowsOf(rule, target, model_.configuration), checkpoint_));
    }
    if (const CanonicalTensor* const whole = Find(module, "weight_quantizer._global_amax")) {
      SLIPWAY_ASSIGN_OR_RETURN(ranges.weight_amax, ReadWeightRange(*whole));
    }
    return absl::OkStatus();
  }

  // What compressed codes are scaled by, and not what was measured before: so that they and their scales stay.
  absl::Status ReadCompressed(const std::string& module, const CanonicalTensor& weight, const TensorRule& rule,
                              std::size_t target, ModuleRanges& ranges) const {
    const CanonicalTensor* const scale = Find(module, "weight_quantizer._scale");
    const CanonicalTensor* const whole = Find(module, "weight_quantizer._double_scale");
    const CanonicalTensor* const amax = Find(module, "weight_quantizer._amax");
    if (scale == nullptr || whole == nullptr) {
      return Error(Reason::kInternal, "has no scales", {.tensor = weight.name});
    }
    SLIPWAY_ASSIGN_OR_RETURN(const float factor, ReadDoubleScale(*whole, checkpoint_));
    ranges.weight_amax = RangeOfScale(factor);
    if (amax != nullptr && CheckedVolume(amax->shape) == 1) {
      SLIPWAY_ASSIGN_OR_RETURN(const float measured, ReadWeightRange(*amax));
      ranges.weight_amax = measured / kNvfp4Range == factor ? measured : *ranges.weight_amax;
    }
    if (rule.axes == Axes::kAsStored) {
      SLIPWAY_ASSIGN_OR_RETURN(ranges.weight_amaxes, AmaxesOf(*scale, weight, {.rows = 1, .columns = kNvfp4Block},
                                                              IsGated(weight, model_.configuration),
                                                              RowsOf(rule, target, model_.configuration), checkpoint_));
      ranges.weight_amaxes->factor = kNvfp4Code * factor;
    }
    return absl::OkStatus();
  }

  // The range that has that scale, or, as not every number is the quotient of another, the nearest there is.
  static float RangeOfScale(float scale) {
    const float range = scale * kNvfp4Range;
    for (const float candidate : {range, std::nextafter(range, 0.0F), std::nextafter(range, INFINITY)}) {
      if (candidate / kNvfp4Range == scale) {
        return candidate;
      }
    }
    return range;
  }

  // By the settings, or else by the shapes.
  static AmaxBlock BlockOf(const ModuleQuantizers& settings, std::string_view quantizer, const CanonicalTensor& amax,
                           const CanonicalTensor& weight) {
    AmaxBlock block;
    const auto found = settings.find(quantizer);
    if (found != settings.end() && (found->second.block_columns > 0 || found->second.by_row)) {
      block.rows = std::max<std::int64_t>(1, found->second.block_rows);
      block.columns = found->second.block_columns;
    } else if (amax.shape.size() == 2 && weight.shape.size() == 2 && amax.shape[1] > 1 &&
               weight.shape[1] % amax.shape[1] == 0) {
      block.columns = weight.shape[1] / amax.shape[1];
    }
    return block;
  }

  // The attention whose output projection the rule is of.
  absl::Status AddAttention(const RuleInstance& instance) {
    const std::string source = SourceName(instance, model_.configuration, 0);
    const std::string module = Parent(source, 2) + ".core_attention";
    if (!HasQuantizers(module)) {
      return absl::OkStatus();
    }
    AttentionRanges ranges;
    for (const auto& [name, range] : {std::pair("k_bmm_quantizer._amax", &ranges.key_amax),
                                      std::pair("v_bmm_quantizer._amax", &ranges.value_amax)}) {
      if (const CanonicalTensor* const amax = Find(module, name)) {
        SLIPWAY_ASSIGN_OR_RETURN(const float value, ReadOne(*amax));
        *range = IsRange(value) ? std::optional(value) : std::nullopt;
      }
    }
    ranges.format = CacheFormatOf(SettingsOf(module));
    ranges_.attention[Parent(TargetName(instance, 0, model_.configuration, 0), 2)] = std::move(ranges);
    return absl::OkStatus();
  }

  const Checkpoint& checkpoint_;
  const Tensors& tensors_;
  const Model& model_;
  Tensors quantizers_;
  ModelOptState rules_;
  std::map<std::string, const ModuleState*> states_;  // by canonical module
  std::int64_t scales_ = 0;                           // values of pre_quant_scale so far
  Ranges ranges_;
};

}  // namespace

bool IsCalibrated(const Checkpoint& checkpoint) {
  return !checkpoint.module_states.empty() || std::ranges::any_of(checkpoint.tensors, [](const StoredTensor& tensor) {
    return ParseQuantizerTensorName(tensor.name).has_value();
  });
}

absl::StatusOr<Ranges> RangesOfCheckpoint(const Checkpoint& checkpoint, const Tensors& tensors, const Model& model) {
  return RangesReader(checkpoint, tensors, model).Read();
}

absl::Status CheckNotScaled(const Checkpoint& checkpoint) {
  for (const StoredTensor& tensor : checkpoint.tensors) {
    const auto name = ParseQuantizerTensorName(tensor.name);
    if (name && name->buffer == "_pre_quant_scale") {
      return Error(Reason::kOptionUnsupported,
                   fmt::format("ModelOpt divided the weight of {} by scales of its input (AWQ, SmoothQuant): exported "
                               "without quantization it would not be the trained one. Export it with --quantization "
                               "checkpoint, or export the checkpoint from before calibration",
                               name->module),
                   {.tensor = tensor.name});
    }
  }
  return absl::OkStatus();
}

void AddUnusedQuantizers(ExportPlan& plan) {
  const std::vector<StoredTensor>& stored = plan.checkpoint->tensors;
  std::vector<bool> used(stored.size());
  for (const OutputTensor& tensor : plan.tensors) {
    for (const SourceRegion& region : tensor.regions) {
      used[static_cast<std::size_t>(region.tensor)] = true;
    }
    for (const SourceRegion& region : ScaleRegionsOf(tensor)) {
      used[static_cast<std::size_t>(region.tensor)] = true;
    }
  }
  for (const UnusedRegion& unused : plan.unused) {
    used[static_cast<std::size_t>(unused.region.tensor)] = true;
  }
  for (std::size_t i = 0; i < stored.size(); ++i) {
    if (used[i] || !ParseQuantizerTensorName(stored[i].name)) {
      continue;
    }
    plan.unused.push_back({.region = {.tensor = static_cast<std::int32_t>(i),
                                      .offsets = Shape(stored[i].shape.size(), 0),
                                      .sizes = stored[i].shape},
                           .reason = std::string(kQuantizerState)});
  }
}

}  // namespace slipway::engine
