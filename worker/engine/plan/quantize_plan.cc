#include "worker/engine/plan/quantize_plan.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "common/checked_math.h"
#include "common/count_of.h"
#include "common/error.h"
#include "worker/engine/plan/input_ranges.h"
#include "worker/engine/plan/input_scales.h"
#include "worker/engine/plan/kv_cache_scales.h"
#include "worker/engine/plan/linear_weights.h"
#include "worker/engine/plan/matrix_slice.h"
#include "worker/engine/plan/quantization_candidates.h"
#include "worker/engine/plan/refusal.h"
#include "worker/engine/quantize/quantizer.h"
#include "worker/engine/target/quantization_config.h"

namespace slipway::engine {
namespace {

using nlohmann::ordered_json;

class Stage {
 public:
  Stage(const Recipe& recipe, const Ranges* ranges, std::int64_t layers, ExportPlan& plan)
      : recipe_(recipe), ranges_(ranges), layers_(layers), plan_(plan) {}

  absl::Status Run() {
    candidates_ = CandidatesOf(recipe_, layers_, plan_);
    has_experts_ = std::ranges::any_of(
        candidates_, [](const auto& candidate) { return candidate.module.find(".experts") != std::string::npos; });
    if (!plan_.options.recipe.empty()) {
      SLIPWAY_RETURN_IF_ERROR(CheckRules(recipe_, candidates_, layers_, plan_));
    }
    SLIPWAY_RETURN_IF_ERROR(CheckCandidates(candidates_, plan_));
    SLIPWAY_RETURN_IF_ERROR(ChooseForm());
    if (HasPreQuantScales()) {
      const auto stores = [this](const QuantizationCandidate& candidate) {
        return candidate.rule != nullptr && Stores(*layouts_.at(candidate.rule->choice()), StoredRole::kPreQuantScale);
      };
      SLIPWAY_ASSIGN_OR_RETURN(absorbed_, AbsorbInputScales(candidates_, *ranges_, stores, plan_));
    }
    SLIPWAY_RETURN_IF_ERROR(Replace());
    SLIPWAY_RETURN_IF_ERROR(InputRanges(recipe_, ranges_, plan_));
    MakeScaleGroups();
    SLIPWAY_RETURN_IF_ERROR(AddKvCacheScales(recipe_.kv_cache, form_, ranges_, plan_));
    return DescribeInConfig();
  }

  absl::StatusOr<std::map<std::string, PlannedModule, std::less<>>> PlanModules(
      const std::function<absl::StatusOr<const Layout*>(const RecipeRule&)>& layout_of) {
    candidates_ = CandidatesOf(recipe_, layers_, plan_);
    if (!plan_.options.recipe.empty()) {
      SLIPWAY_RETURN_IF_ERROR(CheckRules(recipe_, candidates_, layers_, plan_));
    }
    SLIPWAY_RETURN_IF_ERROR(CheckCandidates(candidates_, plan_));
    if (std::ranges::none_of(candidates_, [](const auto& candidate) { return candidate.rule != nullptr; })) {
      return Refused("", "the recipe quantizes nothing of this model");
    }
    std::map<std::string, PlannedModule, std::less<>> planned;
    for (const QuantizationCandidate& candidate : candidates_) {
      PlannedModule& module = planned[plan_.tensors[candidate.tensor].name];
      module.module = candidate.module;
      if (candidate.rule != nullptr) {
        module.format = candidate.rule->format;
        module.group = candidate.rule->group.value_or(0);
        SLIPWAY_ASSIGN_OR_RETURN(module.layout, layout_of(*candidate.rule));
        SLIPWAY_RETURN_IF_ERROR(QuantizeWhole(candidate, module));
      }
    }
    SLIPWAY_RETURN_IF_ERROR(InputRanges(recipe_, ranges_, plan_));
    return planned;
  }

 private:
  absl::Status QuantizeWhole(const QuantizationCandidate& candidate, PlannedModule& module) {
    if (module.layout->tensors.empty()) {
      return absl::OkStatus();
    }
    SLIPWAY_ASSIGN_OR_RETURN(std::vector<LinearWeight> weights,
                             LinearWeightsOf(plan_, plan_.tensors[candidate.tensor], /*packed=*/false));
    LinearWeight& weight = weights.front();
    if (weights.size() != 1 || weight.values.shape.size() != 2) {
      return Refused(candidate.module,
                     "holds experts in one tensor, which is not quantized for ranks: choose --target "
                     "huggingface");
    }
    SLIPWAY_RETURN_IF_ERROR(MoveToTargetAxes(plan_, weight.values));
    weight.rows = weight.values.shape[0];
    weight.columns = weight.values.shape[1];
    weight.transposed = false;
    module.weight = static_cast<std::int32_t>(plan_.quantized.size());
    std::vector<OutputTensor> stored;  // the target's are others
    return Quantize(std::move(weight), *candidate.rule, *module.layout, stored);
  }

  [[nodiscard]] LayoutWish Wish() const {
    return {.form = recipe_.form,
            .activations = recipe_.activations,
            .has_ranges = ranges_ != nullptr || recipe_.default_input_amax,
            .has_experts = has_experts_};
  }

  [[nodiscard]] bool HasPreQuantScales() const {
    return ranges_ != nullptr && std::ranges::any_of(ranges_->modules, [](const auto& entry) {
             return entry.second.pre_quant_scale != nullptr;
           });
  }

  absl::Status ChooseForm() {
    std::vector<FormatChoice> formats;
    for (const QuantizationCandidate& candidate : candidates_) {
      if (candidate.rule != nullptr && std::ranges::find(formats, candidate.rule->choice()) == formats.end()) {
        formats.push_back(candidate.rule->choice());
      }
    }
    if (formats.empty()) {
      return Refused("", "the recipe quantizes nothing of this model");
    }
    LayoutWish wish = Wish();
    if (!wish.form && HasPreQuantScales()) {
      wish.form = ConfigForm::kModelOpt;  // the only one that stores them
    }
    if (!wish.form) {
      wish.form = engine::ChooseForm(formats, wish);
      if (!wish.form) {
        LayoutWish alone = Wish();
        alone.symmetric = formats.front().symmetric;
        return Refused("", formats.size() == 1 ? WhyNoLayout(*formats.front().format, alone)
                                               : "no form of config.json has all the recipe's formats");
      }
    }
    form_ = *wish.form;
    for (const FormatChoice& choice : formats) {
      wish.symmetric = choice.symmetric;
      const Layout* const layout = ChooseLayout(*choice.format, wish);
      if (layout == nullptr) {
        return Refused("", WhyNoLayout(*choice.format, wish));
      }
      layouts_.emplace(choice, layout);
    }
    return absl::OkStatus();
  }

  absl::Status Replace() {
    std::vector<OutputTensor> tensors;
    auto next = candidates_.begin();
    for (std::size_t i = 0; i < plan_.tensors.size(); ++i) {
      const QuantizationCandidate* const candidate =
          next != candidates_.end() && next->tensor == i ? &*next++ : nullptr;
      if (candidate == nullptr || candidate->rule == nullptr || !Takes(*candidate->rule, plan_.tensors[i])) {
        if (candidate != nullptr) {
          modules_.push_back({.name = candidate->module});
        }
        tensors.push_back(std::move(plan_.tensors[i]));
        continue;
      }
      const Layout& layout = *layouts_.at(candidate->rule->choice());
      SLIPWAY_ASSIGN_OR_RETURN(std::vector<LinearWeight> weights,
                               LinearWeightsOf(plan_, plan_.tensors[i], layout.stacked_experts));
      for (LinearWeight& weight : weights) {
        SLIPWAY_RETURN_IF_ERROR(Quantize(std::move(weight), *candidate->rule, layout, tensors));
      }
    }
    plan_.tensors = std::move(tensors);
    return plan_.quantized.empty()
               ? Refused("",
                         fmt::format("config form {} is for experts of a layer in one tensor alone, and the model has "
                                     "none of them: choose another --config-form",
                                     NameOf(form_)))
               : absl::OkStatus();
  }

  // What a layout for stacked experts does not take stays as it is: that is what the form means.
  [[nodiscard]] bool Takes(const RecipeRule& rule, const OutputTensor& tensor) const {
    return !layouts_.at(rule.choice())->stacked_experts || IsStackedExperts(tensor);
  }

  absl::Status Quantize(LinearWeight weight, const RecipeRule& rule, const Layout& layout,
                        std::vector<OutputTensor>& tensors) {
    const std::int32_t group = rule.group.value_or(0);
    if (const auto why = WhyNot(*rule.format, layout, weight.rows, weight.columns, group)) {
      return Refused(weight.values.name, fmt::format("cannot be stored as {}: {}; leave the module out with a rule of "
                                                     "--recipe, or choose another format",
                                                     rule.format->name, *why));
    }
    if (weight.transposed && layout.coding.sharing != Sharing::kTensor) {
      return Refused(weight.values.name,
                     fmt::format("cannot be stored as {}: {} keeps it as [in, out], where only formats with one scale "
                                 "a tensor fit (fp8)",
                                 rule.format->name, plan_.architecture));
    }
    QuantizedWeight quantized;
    quantized.module = weight.module;
    quantized.values = std::move(weight.values);
    quantized.rows = weight.rows;
    quantized.columns = weight.columns;
    quantized.format = rule.format;
    quantized.layout = &layout;
    quantized.coding = layout.coding;
    quantized.coding.search = recipe_.search;
    if (group > 0 && !rule.format->groups.empty()) {
      quantized.coding.group = group;
    }
    for (const LayoutTensor& stored : layout.tensors) {
      if ((stored.role == StoredRole::kScales || stored.role == StoredRole::kTensorScale) && stored.model_dtype) {
        quantized.coding.scale_dtype = quantized.values.dtype;
      }
    }
    SLIPWAY_RETURN_IF_ERROR(PermuteStrips(quantized));
    if (ranges_ != nullptr) {
      if (const auto given = ranges_->modules.find(quantized.module); given != ranges_->modules.end()) {
        SLIPWAY_RETURN_IF_ERROR(TakeRanges(given->second, quantized));
      }
    }
    SLIPWAY_RETURN_IF_ERROR(CheckPreQuantScale(quantized));
    const auto index = static_cast<std::int32_t>(plan_.quantized.size());
    for (const LayoutTensor& stored : layout.tensors) {
      if (stored.role != StoredRole::kPreQuantScale || quantized.pre_quant_scale != nullptr) {
        SLIPWAY_RETURN_IF_ERROR(Emit(quantized, index, stored, tensors));
      }
    }
    modules_.push_back(
        {.name = quantized.module, .format = rule.format, .layout = &layout, .group = quantized.coding.group});
    plan_.quantized.push_back(std::move(quantized));
    return absl::OkStatus();
  }

  // A weight that was divided by scales of its input is nothing without them.
  static absl::Status CheckPreQuantScale(const QuantizedWeight& weight) {
    if (weight.pre_quant_scale == nullptr || Stores(*weight.layout, StoredRole::kPreQuantScale)) {
      return absl::OkStatus();
    }
    return Refused(weight.module,
                   fmt::format("was divided by scales of its input (AWQ, SmoothQuant), which {} in config form {} does "
                               "not store: give {}a format with pre_quant_scale, such as int4-awq",
                               weight.format->name, NameOf(weight.layout->form),
                               weight.layout->form == ConfigForm::kTensorRtLlm ? "" : "--config-form modelopt and "));
  }

  // What the checkpoint says of a weight, unless it is no longer what it says that of.
  [[nodiscard]] absl::Status TakeRanges(const ModuleRanges& given, QuantizedWeight& weight) const {
    if (!absorbed_.by_weights.contains(weight.module)) {
      weight.pre_quant_scale = absorbed_.by_norms.contains(weight.module) ? nullptr : given.pre_quant_scale;
      return TakeAmaxes(given, weight);
    }
    return weight.layout->activations != Activations::kStatic
               ? absl::OkStatus()
               : Refused(
                     weight.module,
                     fmt::format("was divided by scales of its input (AWQ, SmoothQuant), which {} in config form {} "
                                 "does not store, and the range of the input is of what they make of it: give "
                                 "--quantization checkpoint, or a recipe with activations: dynamic",
                                 weight.format->name, NameOf(weight.layout->form)));
  }

  // Given amaxes count where the weight has a scale for each of them. They do not say where a range begins and ends:
  // with zero points, the values do.
  static absl::Status TakeAmaxes(const ModuleRanges& given, QuantizedWeight& weight) {
    const Coding& coding = weight.coding;
    if (!given.weight_amaxes || HasZeroPoints(coding.rule)) {
      return absl::OkStatus();
    }
    const std::int64_t columns = coding.sharing == Sharing::kRow     ? 1
                                 : coding.sharing == Sharing::kGroup ? weight.columns / coding.group
                                                                     : -1;
    if (PacksColumns(coding.packing) && !weight.values.permutation.IsNone() && columns > 1) {
      return Refused(weight.module,
                     "was calibrated with a range for each group, which the form that packs along "
                     "columns does not take: give --config-form modelopt or compressed-tensors");
    }
    if (given.weight_amaxes->rows == weight.rows && given.weight_amaxes->columns == columns) {
      weight.amaxes = given.weight_amaxes;
    }
    return absl::OkStatus();
  }

  // Where codes are packed along columns, groups of columns are coded one after the other.
  static absl::Status PermuteStrips(QuantizedWeight& weight) {
    if (!PacksColumns(weight.coding.packing)) {
      return absl::OkStatus();
    }
    if (!weight.values.permutation.IsNone() || weight.values.scales || weight.values.update) {
      return Refused(weight.values.name, fmt::format("cannot be packed along its columns for {}: its elements come in "
                                                     "another order; choose another --config-form",
                                                     weight.layout->algorithm));
    }
    weight.values.permutation = {.view = {weight.rows, weight.columns / weight.coding.group, weight.coding.group},
                                 .order = {1, 0, 2}};
    return absl::OkStatus();
  }

  absl::Status Emit(const QuantizedWeight& weight, std::int32_t index, const LayoutTensor& stored,
                    std::vector<OutputTensor>& tensors) {
    OutputTensor output;
    output.name = fmt::format("{}{}{}", weight.module, weight.layout->stacked_experts ? "_" : ".", stored.suffix);
    output.dtype = stored.model_dtype                   ? weight.values.dtype
                   : stored.role == StoredRole::kScales ? weight.coding.scale_dtype
                                                        : stored.dtype;
    if (weight.layout->stacked_experts) {
      const std::int64_t experts = StackOf(weight);
      output.shape = stored.shape(weight.rows / experts, weight.columns, weight.coding);
      output.shape.insert(output.shape.begin(), experts);
    } else {
      output.shape = stored.shape(weight.rows, weight.columns, weight.coding);
    }
    output.transform = {.add_one = false, .from = output.dtype, .to = output.dtype};
    output.quantized = QuantizedPart{.weight = index, .role = stored.role, .word = stored.word};
    const auto elements = CheckedVolume(output.shape);
    const auto bytes = elements ? CheckedMultiply(*elements, InfoOf(output.dtype).bytes) : std::nullopt;
    if (!bytes) {
      return Error(Reason::kLimitExceeded, "has more than 2^63 bytes", {.tensor = output.name});
    }
    output.bytes = *bytes;
    tensors.push_back(std::move(output));
    return absl::OkStatus();
  }

  // How many experts are in a packed matrix.
  static std::int64_t StackOf(const QuantizedWeight& weight) {
    const Shape& view = weight.values.permutation.view;
    return view.empty() ? 1 : view.front();
  }

  void MakeScaleGroups() {
    std::map<std::string, std::int32_t> groups;
    for (std::size_t i = 0; i < plan_.quantized.size(); ++i) {
      QuantizedWeight& weight = plan_.quantized[i];
      if (weight.coding.sharing != Sharing::kTensor && !IsTwoLevel(weight.coding.rule) &&
          !Stores(*weight.layout, StoredRole::kFloat8Scale)) {
        continue;
      }
      // Engines keep one scale for the gate and the up projection of an expert, whatever the format.
      const bool is_expert = weight.module.find(".experts.") != std::string::npos;
      const bool shared = weight.format->shares_tensor_scale || is_expert;
      const std::string name = shared ? FusedNameOf(weight.module) : weight.module;
      const auto [at, fresh] = groups.emplace(name, static_cast<std::int32_t>(plan_.scale_groups.size()));
      if (fresh) {
        plan_.scale_groups.emplace_back();
      }
      weight.scale_group = at->second;
      ScaleGroup& group = plan_.scale_groups[static_cast<std::size_t>(at->second)];
      group.weights.push_back(static_cast<std::int32_t>(i));
    }
    for (ScaleGroup& group : plan_.scale_groups) {
      group.amax = GivenAmax(group);
    }
  }

  // Of a group all of whose weights have a given one, the largest.
  [[nodiscard]] std::optional<float> GivenAmax(const ScaleGroup& group) const {
    std::optional<float> largest;
    for (const std::int32_t index : group.weights) {
      const auto given = ranges_ == nullptr
                             ? decltype(ranges_->modules.end())()
                             : ranges_->modules.find(plan_.quantized[static_cast<std::size_t>(index)].module);
      if (ranges_ == nullptr || given == ranges_->modules.end() || !given->second.weight_amax ||
          absorbed_.by_weights.contains(given->first)) {
        return std::nullopt;
      }
      largest = std::max(largest.value_or(0), *given->second.weight_amax);
    }
    return largest;
  }

  // Native forms describe one layout with one size of groups, for all modules.
  [[nodiscard]] absl::Status CheckOneLayout() const {
    const QuantizedModule* first = nullptr;
    for (const QuantizedModule& module : modules_) {
      first = first == nullptr && module.layout != nullptr ? &module : first;
      if (module.layout != nullptr && (module.layout != first->layout || module.group != first->group)) {
        return Refused(module.name, fmt::format("is quantized otherwise than {}, which config form {} cannot say: give "
                                                "--config-form modelopt or compressed-tensors, or one rule",
                                                first->name, NameOf(form_)));
      }
    }
    return absl::OkStatus();
  }

  absl::Status DescribeInConfig() {
    if (form_ == ConfigForm::kNative) {
      SLIPWAY_RETURN_IF_ERROR(CheckOneLayout());
    }
    // A tied output layer is a linear layer all the same, to engines that look for those.
    if (std::ranges::none_of(modules_, [](const QuantizedModule& module) {
          return module.name == "lm_head" || module.name.ends_with(".lm_head") || module.name == "embed_out";
        })) {
      modules_.push_back({.name = "lm_head"});
    }
    QuantizationFiles files = MakeQuantizationConfig(form_, modules_, recipe_.kv_cache);
    const auto config = std::ranges::find(plan_.texts, "config.json", &TextFile::path);
    ordered_json json = config == plan_.texts.end()
                            ? ordered_json()
                            : ordered_json::parse(config->content, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) {
      return Error(Reason::kInternal, "the plan has no config.json");
    }
    json["quantization_config"] = std::move(files.config);
    const auto print = [](const ordered_json& value, int indent) {
      return value.dump(indent, ' ', false, ordered_json::error_handler_t::replace) + "\n";
    };
    config->content = print(json, 2);
    if (files.sidecar) {
      plan_.texts.push_back({.path = "hf_quant_config.json", .content = print(*files.sidecar, 4)});
    }
    return absl::OkStatus();
  }

  const Recipe& recipe_;
  const Ranges* const ranges_;  // or null
  const std::int64_t layers_;
  ExportPlan& plan_;
  std::vector<QuantizationCandidate> candidates_;  // in the order of tensors
  bool has_experts_ = false;
  ConfigForm form_ = ConfigForm::kModelOpt;
  std::map<FormatChoice, const Layout*> layouts_;
  std::vector<QuantizedModule> modules_;
  AbsorbedScales absorbed_;
};

}  // namespace

absl::StatusOr<std::map<std::string, PlannedModule, std::less<>>> QuantizeModules(
    const Recipe& recipe, const Ranges* ranges, std::int64_t layers,
    const std::function<absl::StatusOr<const Layout*>(const RecipeRule&)>& layout_of, ExportPlan& plan) {
  return Stage(recipe, ranges, layers, plan).PlanModules(layout_of);
}

absl::Status QuantizePlan(const Recipe& recipe, const Ranges* ranges, std::int64_t layers, ExportPlan& plan) {
  return Stage(recipe, ranges, layers, plan).Run();
}

}  // namespace slipway::engine
