#include "worker/engine/plan/quantized_weight.h"

#include <string>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/plan/output_size.h"
#include "worker/engine/plan/refusal.h"
#include "worker/engine/quantize/quantizer.h"

namespace slipway::engine {
namespace {

absl::Status CheckFits(const LinearWeight& weight, const RecipeRule& rule, const Layout& layout,
                       std::string_view architecture) {
  if (const auto why = WhyNot(*rule.format, layout, weight.rows, weight.columns, rule.group.value_or(0))) {
    return Refused(weight.values.name, fmt::format("cannot be stored as {}: {}; leave the module out with a rule of "
                                                   "--recipe, or choose another format",
                                                   rule.format->name, *why));
  }
  if (weight.transposed && layout.coding.sharing != Sharing::kTensor) {
    return Refused(weight.values.name,
                   fmt::format("cannot be stored as {}: {} keeps it as [in, out], where only formats with one scale "
                               "a tensor fit (fp8)",
                               rule.format->name, architecture));
  }
  return absl::OkStatus();
}

Coding CodingOf(const LinearWeight& weight, const RecipeRule& rule, const Layout& layout, ScaleSearch search) {
  Coding coding = layout.coding;
  coding.search = search;
  if (rule.group.value_or(0) > 0 && !rule.format->groups.empty()) {
    coding.group = *rule.group;
  }
  for (const LayoutTensor& stored : layout.tensors) {
    if ((stored.role == StoredRole::kScales || stored.role == StoredRole::kTensorScale) && stored.model_dtype) {
      coding.scale_dtype = weight.values.dtype;
    }
  }
  return coding;
}

// Where codes are packed along columns, groups of columns are coded one after the other.
absl::Status PermuteStrips(QuantizedWeight& weight) {
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

// A weight that was divided by scales of its input is nothing without them.
absl::Status CheckPreQuantScale(const QuantizedWeight& weight) {
  if (weight.pre_quant_scale == nullptr || Stores(*weight.layout, StoredRole::kPreQuantScale)) {
    return absl::OkStatus();
  }
  return Refused(weight.module,
                 fmt::format("was divided by scales of its input (AWQ, SmoothQuant), which {} in config form {} does "
                             "not store: give {}a format with pre_quant_scale, such as int4-awq",
                             weight.format->name, NameOf(weight.layout->form),
                             weight.layout->form == ConfigForm::kTensorRtLlm
                                 ? ""
                                 : "--target huggingface with --config-form modelopt and "));
}

// Given amaxes count where the weight has a scale for each of them. They do not say where a range begins and ends:
// with zero points, the values do.
absl::Status TakeAmaxes(const ModuleRanges& given, QuantizedWeight& weight) {
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

// What the checkpoint says of a weight, unless it is no longer what it says that of.
absl::Status TakeGiven(const ModuleRanges& given, const AbsorbedScales& absorbed, QuantizedWeight& weight) {
  if (!absorbed.by_weights.contains(weight.module)) {
    weight.pre_quant_scale = absorbed.by_norms.contains(weight.module) ? nullptr : given.pre_quant_scale;
    return TakeAmaxes(given, weight);
  }
  return weight.layout->activations != Activations::kStatic
             ? absl::OkStatus()
             : Refused(weight.module,
                       fmt::format("was divided by scales of its input (AWQ, SmoothQuant), which {} in config form {} "
                                   "does not store, and the range of the input is of what they make of it: give "
                                   "--quantization checkpoint, or a recipe with activations: dynamic",
                                   weight.format->name, NameOf(weight.layout->form)));
}

// How many experts are in a packed matrix.
std::int64_t StackOf(const QuantizedWeight& weight) {
  const Shape& view = weight.values.permutation.view;
  return view.empty() ? 1 : view.front();
}

Shape ShapeOf(const QuantizedWeight& weight, const LayoutTensor& stored) {
  if (!weight.layout->stacked_experts) {
    return stored.shape(weight.rows, weight.columns, weight.coding);
  }
  const std::int64_t experts = StackOf(weight);
  Shape shape = stored.shape(weight.rows / experts, weight.columns, weight.coding);
  shape.insert(shape.begin(), experts);
  return shape;
}

}  // namespace

absl::StatusOr<QuantizedWeight> MakeQuantizedWeight(LinearWeight weight, const RecipeRule& rule, const Layout& layout,
                                                    ScaleSearch search, std::string_view architecture) {
  SLIPWAY_RETURN_IF_ERROR(CheckFits(weight, rule, layout, architecture));
  QuantizedWeight quantized;
  quantized.coding = CodingOf(weight, rule, layout, search);
  quantized.module = std::move(weight.module);
  quantized.values = std::move(weight.values);
  quantized.rows = weight.rows;
  quantized.columns = weight.columns;
  quantized.format = rule.format;
  quantized.layout = &layout;
  SLIPWAY_RETURN_IF_ERROR(PermuteStrips(quantized));
  return quantized;
}

absl::Status TakeRanges(const Ranges* ranges, const AbsorbedScales& absorbed, QuantizedWeight& weight) {
  if (ranges != nullptr) {
    if (const auto given = ranges->modules.find(weight.module); given != ranges->modules.end()) {
      SLIPWAY_RETURN_IF_ERROR(TakeGiven(given->second, absorbed, weight));
    }
  }
  return CheckPreQuantScale(weight);
}

absl::StatusOr<OutputTensor> StoredTensorOf(const QuantizedWeight& weight, std::int32_t index,
                                            const LayoutTensor& stored, const std::string& name, Shape shape) {
  OutputTensor output;
  output.name = name;
  output.dtype = stored.model_dtype                   ? weight.values.dtype
                 : stored.role == StoredRole::kScales ? weight.coding.scale_dtype
                                                      : stored.dtype;
  output.shape = std::move(shape);
  output.transform = {.add_one = false, .from = output.dtype, .to = output.dtype};
  output.quantized = QuantizedPart{.weight = index, .role = stored.role, .word = stored.word};
  SLIPWAY_RETURN_IF_ERROR(SetBytes(name, output));
  return output;
}

absl::Status AppendStored(const QuantizedWeight& weight, std::int32_t index, std::vector<OutputTensor>& tensors) {
  for (const LayoutTensor& stored : weight.layout->tensors) {
    if (stored.role != StoredRole::kPreQuantScale || weight.pre_quant_scale != nullptr) {
      const std::string name =
          fmt::format("{}{}{}", weight.module, weight.layout->stacked_experts ? "_" : ".", stored.suffix);
      SLIPWAY_ASSIGN_OR_RETURN(OutputTensor output,
                               StoredTensorOf(weight, index, stored, name, ShapeOf(weight, stored)));
      tensors.push_back(std::move(output));
    }
  }
  return absl::OkStatus();
}

}  // namespace slipway::engine
