#include "worker/engine/plan/quantize_ranks.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/plan/kv_cache_scales.h"
#include "worker/engine/plan/quantized_weight.h"
#include "worker/engine/plan/rank_layout_choice.h"
#include "worker/engine/plan/rank_weights.h"
#include "worker/engine/plan/refusal.h"

namespace slipway::engine {
namespace {

// A matrix's name without "weight", but with the dot or, as stacked experts may have it, the "_" before: the names of
// what is stored for it begin so. Empty: it has no name of a weight's.
std::string StemOf(const RankTensor& tensor) {
  constexpr std::string_view kWeight = "weight";
  const std::string_view name = tensor.name;
  if (tensor.shape.size() < 2 || !name.ends_with(kWeight)) {
    return {};
  }
  const std::string_view stem = name.substr(0, name.size() - kWeight.size());
  return std::string(stem.ends_with('.') || (tensor.shape.size() > 2 && stem.ends_with('_')) ? stem : "");
}

std::string WithoutLast(std::string stem) {
  stem.pop_back();
  return stem;
}

std::string ParentOf(std::string_view name) {
  const std::size_t dot = name.rfind('.');
  return std::string(name.substr(0, dot == std::string_view::npos ? 0 : dot));
}

class Stage {
 public:
  Stage(const Recipe& recipe, const Ranges* ranges, const RankTarget& target, const WholeWeights& whole,
        ExportPlan& plan)
      : recipe_(recipe),
        ranges_(ranges),
        target_(target),
        whole_(whole),
        plan_(plan),
        weights_(ranges, target.name, whole.weights, plan) {}

  absl::Status Run(const RankLayout& layout, std::vector<NamedFile>& files) {
    std::vector<OutputTensor> cut = std::move(plan_.tensors);
    plan_.tensors.clear();
    auto next = cut.begin();
    for (std::size_t number = 0; number < layout.files.size(); ++number) {
      const RankFile& file = layout.files[number];
      rank_ = ParentOf(file.file);
      const std::size_t first = plan_.tensors.size();
      for (const RankTensor& wanted : file.tensors) {
        SLIPWAY_RETURN_IF_ERROR(Take(wanted, std::move(*next++)));
      }
      files[number].tensor_count = static_cast<std::int32_t>(plan_.tensors.size() - first);
    }
    if (recipe_.kv_cache != KvCache::kNone && !has_kv_cache_) {
      return Refused("", fmt::format("--kv-cache: --target {} knows no attention in this model", target_.name));
    }
    weights_.Warn();
    return absl::OkStatus();
  }

  [[nodiscard]] const std::vector<RankModule>& modules() const { return modules_; }

 private:
  // A part of a tensor that is of a module with a matrix.
  struct Piece {
    const MatrixPart* part = nullptr;
    const PlannedModule* module = nullptr;
    const QuantizedWeight* weight = nullptr;  // null: values are written
  };

  absl::Status Take(const RankTensor& wanted, OutputTensor cut) {
    SLIPWAY_ASSIGN_OR_RETURN(const std::vector<Piece> pieces, PiecesOf(wanted));
    if (pieces.empty()) {
      SLIPWAY_RETURN_IF_ERROR(CheckNotQuantized(wanted));
      SLIPWAY_RETURN_IF_ERROR(SetKvCacheScale(wanted, cut));
      plan_.tensors.push_back(std::move(cut));
      return absl::OkStatus();
    }
    SLIPWAY_RETURN_IF_ERROR(AddModule(wanted, pieces));
    if (pieces.front().weight == nullptr) {
      SLIPWAY_RETURN_IF_ERROR(CheckValues(pieces));
      plan_.tensors.push_back(std::move(cut));
    } else {
      SLIPWAY_RETURN_IF_ERROR(Quantize(wanted, pieces, std::move(cut)));
    }
    return AddKvCacheScale(wanted, *pieces.front().module);
  }

  absl::StatusOr<std::vector<Piece>> PiecesOf(const RankTensor& wanted) const {
    std::vector<Piece> pieces;
    for (const MatrixPart& part : wanted.parts) {
      const auto found = whole_.modules.find(part.tensor);
      if (found == whole_.modules.end() || StemOf(wanted).empty()) {
        continue;
      }
      const PlannedModule& module = found->second;
      pieces.push_back(
          {.part = &part,
           .module = &module,
           .weight = module.weight < 0 ? nullptr : &whole_.weights[static_cast<std::size_t>(module.weight)]});
      const PlannedModule& first = *pieces.front().module;
      if (module.format != first.format || module.group != first.group) {
        return Refused(module.module, fmt::format("is joined with {} in {}, so both are quantized alike or not at all: "
                                                  "change the recipe's rules",
                                                  first.module, wanted.name));
      }
    }
    return pieces;
  }

  // What has no name of a weight's cannot have those of codes and scales either.
  [[nodiscard]] absl::Status CheckNotQuantized(const RankTensor& wanted) const {
    for (const MatrixPart& part : wanted.parts) {
      const auto found = whole_.modules.find(part.tensor);
      if (wanted.shape.size() >= 2 && found != whole_.modules.end() && found->second.weight >= 0) {
        return Refused(found->second.module,
                       fmt::format("--target {} does not quantize {}: leave it out with a rule of "
                                   "--recipe, or choose --target huggingface",
                                   target_.name, wanted.name));
      }
    }
    return absl::OkStatus();
  }

  absl::Status AddModule(const RankTensor& wanted, const std::vector<Piece>& pieces) {
    const PlannedModule& source = *pieces.front().module;
    const bool stacked = wanted.shape.size() > 2;
    RankModule module{.name = WithoutLast(StemOf(wanted)),
                      .source = source.module,
                      .sources = {},
                      .rows = wanted.shape[wanted.shape.size() - 2],
                      .columns = wanted.shape.back(),
                      .experts = stacked ? wanted.shape.front() : 0,
                      .cut_columns = pieces.front().part->columns != ColumnsOf(source, *pieces.front().part),
                      .format = FindRankFormat(*target_.quantization, source.layout),
                      .group = 0};
    for (const Piece& piece : pieces) {
      module.sources.push_back(piece.module->module);
    }
    if (module.format != nullptr) {
      const Coding& coding = module.format->layout.coding;
      module.group = coding.sharing != Sharing::kGroup || module.format->layout.tensors.empty() ? 0
                     : source.group != 0                                                        ? source.group
                                                                                                : coding.group;
    }
    if (stacked && module.format != nullptr && !module.format->takes_experts) {
      return Refused(source.module, fmt::format("--target {} does not take experts in {} with activations {}: leave "
                                                "them out with a rule of --recipe, or choose another format, or "
                                                "--target huggingface{}",
                                                target_.name, source.format->name,
                                                NameOf(module.format->layout.activations), WithRanges(*source.format)));
    }
    const auto& kept = target_.quantization->never_quantized;
    if (module.format != nullptr &&
        std::ranges::any_of(kept, [&](std::string_view name) { return module.name.ends_with(name); })) {
      return Refused(source.module, fmt::format("--target {} does not quantize {}: leave it out with a rule of "
                                                "--recipe, or choose --target huggingface",
                                                target_.name, module.name));
    }
    const auto [at, fresh] = by_name_.emplace(module.name, modules_.size());
    if (fresh) {
      modules_.push_back(std::move(module));
      return absl::OkStatus();
    }
    const RankModule& other = modules_[at->second];
    return other.format == module.format && other.group == module.group
               ? absl::OkStatus()
               : Refused(source.module, fmt::format("is {} on its stage, as {} is on another, so both are quantized "
                                                    "alike or not at all: change the recipe's rules, or "
                                                    "--pipeline-parallel",
                                                    module.name, other.source));
  }

  // What else there is to do, where the format takes experts once the ranges of their inputs are known.
  [[nodiscard]] std::string WithRanges(const Format& format) const {
    const bool helps = std::ranges::any_of(target_.quantization->formats, [&](const RankFormat& row) {
      return row.format == &format && row.takes_experts && row.layout.activations == Activations::kStatic;
    });
    return helps ? "; with ranges of inputs it takes them: give --ranges, or default_input_amax in the recipe" : "";
  }

  // Of the whole module.
  [[nodiscard]] std::int64_t ColumnsOf(const PlannedModule& module, const MatrixPart& part) const {
    return module.weight < 0 ? part.first_column + part.columns
                             : whole_.weights[static_cast<std::size_t>(module.weight)].columns;
  }

  // Values that were divided by scales of the input are nothing on their own.
  absl::Status CheckValues(const std::vector<Piece>& pieces) const {
    for (const Piece& piece : pieces) {
      const auto given =
          ranges_ == nullptr ? decltype(ranges_->modules.end())() : ranges_->modules.find(piece.module->module);
      if (ranges_ != nullptr && given != ranges_->modules.end() && given->second.pre_quant_scale != nullptr) {
        return Refused(piece.module->module,
                       "was divided by scales of its input (AWQ, SmoothQuant), which have no place beside values: "
                       "choose a format with pre_quant_scale, such as int4-awq");
      }
    }
    return absl::OkStatus();
  }

  absl::Status Quantize(const RankTensor& wanted, const std::vector<Piece>& pieces, OutputTensor cut) {
    std::vector<RankPiece> of_weights;
    of_weights.reserve(pieces.size());
    for (const Piece& piece : pieces) {
      of_weights.push_back({.part = piece.part, .weight = piece.weight});
    }
    SLIPWAY_ASSIGN_OR_RETURN(QuantizedWeight weight, weights_.Make(wanted, of_weights, std::move(cut)));
    const std::string stem = StemOf(wanted);
    weight.module = fmt::format("{}.{}", rank_, WithoutLast(stem));
    const auto index = static_cast<std::int32_t>(plan_.quantized.size());
    for (const LayoutTensor& stored : weight.layout->tensors) {
      SLIPWAY_ASSIGN_OR_RETURN(OutputTensor output,
                               StoredTensorOf(weight, index, stored, fmt::format("{}{}", stem, stored.suffix),
                                              ShapeOf(weight, stored, wanted)));
      plan_.tensors.push_back(std::move(output));
    }
    plan_.quantized.push_back(std::move(weight));
    return absl::OkStatus();
  }

  [[nodiscard]] static Shape ShapeOf(const QuantizedWeight& weight, const LayoutTensor& stored,
                                     const RankTensor& wanted) {
    const bool stacked = wanted.shape.size() > 2;
    if (stored.joined == JoinedScales::kOne) {
      Shape shape = stored.shape(weight.rows / weight.stack, wanted.shape.back(), weight.coding);
      if (stacked && stored.role != StoredRole::kInputScale) {
        shape.insert(shape.begin(), weight.stack);
      }
      return shape;
    }
    const std::int64_t modules = std::ssize(wanted.parts) / weight.stack;
    if (!stacked) {
      return {modules};
    }
    return modules == 1 || stored.joined == JoinedScales::kEachButOne ? Shape{weight.stack}
                                                                      : Shape{weight.stack, modules};
  }

  // Of keys or of values, where the target has a constant for it.
  absl::Status SetKvCacheScale(const RankTensor& wanted, OutputTensor& cut) {
    const RankQuantization& quantization = *target_.quantization;
    if (recipe_.kv_cache == KvCache::kNone || quantization.key_scale.empty() || !wanted.constant) {
      return absl::OkStatus();
    }
    const bool of_keys = wanted.name.ends_with(quantization.key_scale);
    if (!of_keys && !wanted.name.ends_with(quantization.value_scale)) {
      return absl::OkStatus();
    }
    const std::size_t suffix = of_keys ? quantization.key_scale.size() : quantization.value_scale.size();
    SLIPWAY_ASSIGN_OR_RETURN(const AttentionRanges* const given,
                             KvCacheRangesOf(ranges_, wanted.name.substr(0, wanted.name.size() - suffix)));
    cut.quantized->constant = (of_keys ? *given->key_amax : *given->value_amax) / kKvCacheBound;
    has_kv_cache_ = true;
    return absl::OkStatus();
  }

  // Of keys and values alike, the larger one's; the same on each rank.
  absl::Status AddKvCacheScale(const RankTensor& wanted, const PlannedModule& module) {
    const RankQuantization& quantization = *target_.quantization;
    if (recipe_.kv_cache == KvCache::kNone || quantization.kv_cache_scale.empty() ||
        !wanted.name.ends_with(quantization.attention_weight)) {
      return absl::OkStatus();
    }
    SLIPWAY_ASSIGN_OR_RETURN(const AttentionRanges* const given, KvCacheRangesOf(ranges_, ParentOf(module.module)));
    const float amax = std::max(*given->key_amax, *given->value_amax);
    OutputTensor output;
    output.name = fmt::format("{}.{}", ParentOf(ParentOf(wanted.name)), quantization.kv_cache_scale);
    output.dtype = DType::kF32;
    output.shape = {1};
    output.transform = {.add_one = false, .from = DType::kF32, .to = DType::kF32};
    output.quantized = QuantizedPart{.weight = -1,
                                     .role = StoredRole::kTensorScale,
                                     .constant = std::max(amax / kKvCacheBound, quantization.least_kv_cache_scale)};
    output.bytes = sizeof(float);
    plan_.tensors.push_back(std::move(output));
    has_kv_cache_ = true;
    return absl::OkStatus();
  }

  const Recipe& recipe_;
  const Ranges* const ranges_;  // or null
  const RankTarget& target_;
  const WholeWeights& whole_;
  ExportPlan& plan_;
  std::string rank_;  // "rank0": whose tensors are taken
  RankWeights weights_;
  std::vector<RankModule> modules_;
  std::map<std::string, std::size_t> by_name_;  // of modules_
  bool has_kv_cache_ = false;
};

}  // namespace

absl::StatusOr<WholeWeights> QuantizeWholeWeights(const Recipe& recipe, const Ranges* ranges, std::int64_t layers,
                                                  const RankTarget& target, ExportPlan& plan) {
  if (target.quantization == nullptr) {
    return Refused("", fmt::format("--target {} takes no quantization: leave it out, or choose --target huggingface",
                                   target.name));
  }
  if (recipe.kv_cache != KvCache::kNone && target.quantization->kv_cache_scale.empty() &&
      target.quantization->key_scale.empty()) {
    return Refused("",
                   fmt::format("--kv-cache: --target {} keeps no scales of keys and values: leave it out, or choose "
                               "--target huggingface",
                               target.name));
  }
  if (recipe.form) {
    return Refused("",
                   fmt::format("--config-form is of --target huggingface: --target {} has its own form", target.name));
  }
  ExportPlan whole = plan;
  WholeWeights result;
  SLIPWAY_ASSIGN_OR_RETURN(
      result.modules,
      QuantizeModules(
          recipe, ranges, layers,
          [&](const RecipeRule& rule) { return ChooseRankLayout(recipe, ranges, rule, target); }, whole));
  result.weights = std::move(whole.quantized);
  plan.warnings = std::move(whole.warnings);
  return result;
}

absl::Status QuantizeRanks(const Recipe& recipe, const Ranges* ranges, const RankTarget& target,
                           const RankRequest& request, const RankLayout& layout, const WholeWeights& whole,
                           std::vector<NamedFile>& files, ExportPlan& plan) {
  Stage stage(recipe, ranges, target, whole, plan);
  SLIPWAY_RETURN_IF_ERROR(stage.Run(layout, files));
  const auto config = std::ranges::find(plan.texts, "config.json", &TextFile::path);
  SLIPWAY_ASSIGN_OR_RETURN(
      RankQuantizationText text,
      target.quantization->describe(stage.modules(), recipe.kv_cache, request,
                                    config == plan.texts.end() ? std::string_view() : config->content));
  for (TextFile& file : text.texts) {
    std::erase_if(plan.texts, [&](const TextFile& old) { return old.path == file.path; });
    plan.texts.push_back(std::move(file));
  }
  plan.warnings.insert(plan.warnings.end(), text.warnings.begin(), text.warnings.end());
  return absl::OkStatus();
}

}  // namespace slipway::engine
