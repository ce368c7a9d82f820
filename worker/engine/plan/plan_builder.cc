#include "worker/engine/plan/plan_builder.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/error.h"
#include "worker/engine/model/rule_instances.h"
#include "worker/engine/plan/compressed_weights.h"
#include "worker/engine/plan/output_size.h"
#include "worker/engine/plan/transforms.h"
#include "worker/engine/transform/low_rank_update.h"

namespace slipway::engine {
namespace {

using Tensors = std::map<std::string, CanonicalTensor>;

constexpr std::size_t kExamples = 3;

bool IsFloatingPoint(DType dtype) {
  return dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF32 || dtype == DType::kF64;
}

// Names of one kind of trouble: all are counted, the first few are kept.
class Offenders {
 public:
  void Add(const std::string& name) {
    if (examples_.size() < kExamples) {
      examples_.push_back(name);
    }
    ++count_;
  }
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] absl::Status Report(Reason reason, std::string_view what) const {
    const std::int64_t more = count_ - static_cast<std::int64_t>(examples_.size());
    return Error(
        reason,
        fmt::format("{}: {}{}", what, fmt::join(examples_, ", "), more > 0 ? fmt::format(" and {} more", more) : ""),
        {.tensor = examples_.front()});
  }

 private:
  std::vector<std::string> examples_;
  std::int64_t count_ = 0;
};

class Builder {
 public:
  Builder(const Checkpoint& checkpoint, const Tensors& tensors, const Model& model, DType dtype, const Adapter* adapter)
      : checkpoint_(checkpoint), tensors_(tensors), model_(model), dtype_(dtype), adapter_(adapter) {}

  absl::StatusOr<BuiltTensors> Build() {
    SLIPWAY_ASSIGN_OR_RETURN(compressed_, CompressedWeights::Of(checkpoint_, tensors_));
    for (const RuleInstance& instance : InstancesOf(*model_.architecture, model_.configuration)) {
      SLIPWAY_RETURN_IF_ERROR(IsStacked(*instance.rule) ? ApplyStacked(instance) : Apply(instance));
    }
    if (!missing_.empty()) {
      return missing_.Report(Reason::kTensorMissing,
                             fmt::format("{} needs tensors that the checkpoint lacks", model_.architecture->name));
    }
    SLIPWAY_RETURN_IF_ERROR(CheckAllUsed());
    SLIPWAY_RETURN_IF_ERROR(adapter_ == nullptr ? absl::OkStatus() : adapter_->CheckBases(tensors_));
    return std::move(built_);
  }

 private:
  [[nodiscard]] std::int64_t ExpertsOf(const TensorRule& rule) const {
    return IsPerExpert(rule.source) ? model_.configuration.experts.count.value_or(0) : 1;
  }

  // One source, its targets; or that for each expert.
  absl::Status Apply(const RuleInstance& instance) {
    const TensorRule& rule = *instance.rule;
    for (std::int64_t expert = 0; expert < ExpertsOf(rule); ++expert) {
      SLIPWAY_ASSIGN_OR_RETURN(const CanonicalTensor* source, Use(instance, expert));
      if (source == nullptr) {
        continue;
      }
      for (std::size_t target = 0; target < rule.targets.size(); ++target) {
        SLIPWAY_ASSIGN_OR_RETURN(auto regions,
                                 RegionsOf(*source, RowsOf(rule, target, model_.configuration), checkpoint_));
        SLIPWAY_RETURN_IF_ERROR(Emit(instance, target, expert, *source, std::move(regions)));
        SLIPWAY_RETURN_IF_ERROR(AddUpdate(rule, target, *source));
      }
      if (rule.transform == Transform::kVocabulary) {
        SLIPWAY_RETURN_IF_ERROR(NotePadding(*source));
      }
    }
    return absl::OkStatus();
  }

  // The experts' sources in one target (of each kind).
  absl::Status ApplyStacked(const RuleInstance& instance) {
    const TensorRule& rule = *instance.rule;
    std::vector<std::vector<SourceRegion>> regions(rule.targets.size());
    const CanonicalTensor* first = nullptr;
    for (std::int64_t expert = 0; expert < ExpertsOf(rule); ++expert) {
      SLIPWAY_ASSIGN_OR_RETURN(const CanonicalTensor* source, Use(instance, expert));
      if (source == nullptr) {
        continue;
      }
      first = first == nullptr ? source : first;
      if (FactorsOf(*source) != nullptr) {
        SLIPWAY_RETURN_IF_ERROR(CheckAdaptable(rule, source->name));
      }
      if (source->dtype != first->dtype) {
        return Error(Reason::kCheckpointUnsupported,
                     fmt::format("is of another dtype than {}, to which it is stacked", first->name),
                     {.tensor = source->name});
      }
      for (std::size_t target = 0; target < rule.targets.size(); ++target) {
        SLIPWAY_ASSIGN_OR_RETURN(auto more,
                                 RegionsOf(*source, RowsOf(rule, target, model_.configuration), checkpoint_));
        regions[target].insert(regions[target].end(), std::make_move_iterator(more.begin()),
                               std::make_move_iterator(more.end()));
      }
    }
    for (std::size_t target = 0; first != nullptr && target < rule.targets.size(); ++target) {
      SLIPWAY_RETURN_IF_ERROR(Emit(instance, target, 0, *first, std::move(regions[target])));
    }
    return absl::OkStatus();
  }

  // The rule's canonical tensor, checked and marked as used; null where it is missing, which is noted.
  absl::StatusOr<const CanonicalTensor*> Use(const RuleInstance& instance, std::int64_t expert) {
    const std::string name = SourceName(instance, model_.configuration, expert);
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      missing_.Add(name);
      return nullptr;
    }
    if (!used_.insert(&found->second).second) {
      return Error(Reason::kInternal, fmt::format("two rules of {} claim it", model_.architecture->name),
                   {.tensor = name});
    }
    SLIPWAY_RETURN_IF_ERROR(CheckSource(found->second, SourceShape(*instance.rule, model_.configuration)));
    return &found->second;
  }

  absl::Status CheckSource(const CanonicalTensor& source, const Shape& expected) const {
    if (source.shape != expected) {
      return Error(
          Reason::kTensorShapeMismatch,
          fmt::format("is [{}], but by the configuration it is [{}] (hidden {}, ffn {}, heads {}, KV heads {}, "
                      "head dimension {})",
                      fmt::join(source.shape, ", "), fmt::join(expected, ", "), model_.configuration.hidden_size,
                      model_.configuration.ffn_hidden_size, model_.configuration.attention_heads,
                      model_.configuration.query_groups, model_.configuration.head_dimension),
          {.tensor = source.name});
    }
    if (CompressedWeights::IsCompressed(source)) {
      return absl::OkStatus();  // its scales are looked at where they are taken
    }
    if (source.dtype == DType::kF64) {
      return Error(Reason::kCheckpointUnsupported,
                   "is stored as F64, which is not read: save the model in FP32 or BF16", {.tensor = source.name});
    }
    if (!IsFloatingPoint(source.dtype)) {
      return Error(
          Reason::kCheckpointUnsupported,
          fmt::format("is stored as {}; of quantized weights those are read that ModelOpt compressed to FP8 or "
                      "NVFP4. Export the checkpoint from before mtq.compress",
                      InfoOf(source.dtype).safetensors_name),
          {.tensor = source.name});
    }
    return absl::OkStatus();
  }

  [[nodiscard]] bool AddsOne(Transform transform) const {
    const bool stored_minus_one = model_.configuration.zero_centered_gamma;
    return stored_minus_one && ((transform == Transform::kNorm && !model_.architecture->zero_centered_norms) ||
                                transform == Transform::kPlainNorm);
  }

  absl::Status Emit(const RuleInstance& instance, std::size_t target, std::int64_t expert,
                    const CanonicalTensor& source, std::vector<SourceRegion> regions) {
    const TensorRule& rule = *instance.rule;
    OutputTensor output;
    output.name = TargetName(instance, target, model_.configuration, expert);
    output.dtype = rule.keeps_float32 && source.dtype == DType::kF32 ? DType::kF32 : dtype_;
    output.shape = TargetShape(rule.targets[target], model_.configuration);
    output.transform = {.add_one = AddsOne(rule.transform), .from = source.dtype, .to = output.dtype};
    output.regions = std::move(regions);
    output.permutation = PermutationOf(rule.axes, output.shape);
    SLIPWAY_RETURN_IF_ERROR(SetBytes(source.name, output));
    SLIPWAY_RETURN_IF_ERROR(CompressedWeights::IsCompressed(source) ? AddScales(rule, target, source, output)
                                                                    : absl::OkStatus());
    built_.tensors.push_back(std::move(output));
    return absl::OkStatus();
  }

  absl::Status AddScales(const TensorRule& rule, std::size_t target, const CanonicalTensor& source,
                         OutputTensor& output) const {
    if (IsStacked(rule) || rule.axes != Axes::kAsStored || output.shape.size() != 2 || output.transform.add_one) {
      return Error(Reason::kCheckpointUnsupported,
                   fmt::format("is compressed, but {} stacks or permutes it: export the checkpoint from before "
                               "mtq.compress",
                               model_.architecture->name),
                   {.tensor = source.name});
    }
    SLIPWAY_ASSIGN_OR_RETURN(output.scales, compressed_.ScalesOf(source, RowsOf(rule, target, model_.configuration),
                                                                 model_.configuration, checkpoint_));
    return absl::OkStatus();
  }

  [[nodiscard]] const AdapterFactors* FactorsOf(const CanonicalTensor& source) const {
    return adapter_ == nullptr ? nullptr : adapter_->Find(source.name);
  }

  // Adds the adapter of `source`, if it has one, to the output that was emitted last.
  absl::Status AddUpdate(const TensorRule& rule, std::size_t target, const CanonicalTensor& source) {
    const AdapterFactors* const factors = FactorsOf(source);
    if (factors == nullptr) {
      return absl::OkStatus();
    }
    SLIPWAY_RETURN_IF_ERROR(CheckAdaptable(rule, source.name));
    if (CompressedWeights::IsCompressed(source)) {
      return Error(Reason::kCheckpointUnsupported,
                   "is compressed (mtq.compress), so an adapter cannot be merged into it: give the adapter to the "
                   "checkpoint from before mtq.compress",
                   {.tensor = source.name});
    }
    SLIPWAY_RETURN_IF_ERROR(adapter_->CheckShapes(*factors, source));
    LowRankUpdate update;
    update.a_dtype = factors->a->dtype;
    update.b_dtype = factors->b->dtype;
    update.rank = adapter_->settings().rank;
    update.scale = adapter_->settings().Scale();
    SLIPWAY_ASSIGN_OR_RETURN(SourceRegion a, adapter_->RegionOfA(*factors, checkpoint_));
    update.a.push_back(std::move(a));
    SLIPWAY_ASSIGN_OR_RETURN(update.b, RegionsOf(*factors->b, RowsOf(rule, target, model_.configuration), checkpoint_));
    OutputTensor& output = built_.tensors.back();
    if (!CanMerge(update, output.transform, output.shape.back())) {
      return Error(Reason::kLimitExceeded,
                   fmt::format("its adapter of rank {} for {} columns is more than is merged: at most {} bytes",
                               update.rank, output.shape.back(), kMaximumFactorBytes),
                   {.tensor = source.name});
    }
    output.update = std::move(update);
    return absl::OkStatus();
  }

  absl::Status NotePadding(const CanonicalTensor& source) {
    const std::int64_t vocabulary = model_.configuration.vocabulary_size;
    const RowRange padding{vocabulary, source.shape[0] - vocabulary};
    if (padding.count > 0) {
      SLIPWAY_ASSIGN_OR_RETURN(auto regions, RegionsOf(source, {padding}, checkpoint_));
      for (SourceRegion& region : regions) {
        built_.unused.push_back({std::move(region), "vocabulary padding"});
      }
      if (CompressedWeights::IsCompressed(source)) {
        SLIPWAY_ASSIGN_OR_RETURN(auto scales,
                                 compressed_.ScalesOfUnused(source, padding, model_.configuration, checkpoint_));
        for (SourceRegion& region : scales) {
          built_.unused.push_back({std::move(region), "vocabulary padding"});
        }
      }
    }
    return absl::OkStatus();
  }

  // Every canonical tensor was asked for by a rule.
  [[nodiscard]] absl::Status CheckAllUsed() const {
    if (used_.size() == tensors_.size()) {
      return absl::OkStatus();
    }
    Offenders unknown;
    std::string why;
    for (const auto& [name, tensor] : tensors_) {
      if (used_.contains(&tensor)) {
        continue;
      }
      if (unknown.empty()) {
        why = WhyUnused(name);
      }
      unknown.Add(name);
    }
    return unknown.Report(Reason::kTensorUnknown,
                          fmt::format("the checkpoint has tensors that {} does not{}{}", model_.architecture->name,
                                      why.empty() ? "" : ", for ", why));
  }

  // Why a tensor that some rule speaks of is none of this model's; empty where no rule does.
  [[nodiscard]] std::string WhyUnused(const std::string& name) const {
    const std::string pattern = PatternOf(name);
    for (const RuleBlock& block : model_.architecture->blocks) {
      for (const TensorRule& rule : block.rules) {
        if (PatternOf(block, rule) != pattern) {
          continue;
        }
        if (!IsPresent(block, rule, model_.configuration)) {
          return std::string(rule.presence.absence);
        }
        return rule.layers == Layers::kAll ? "the configuration has fewer layers"
                                           : "the configuration has fewer layers or experts, or layers of another kind";
      }
    }
    return {};
  }

  const Checkpoint& checkpoint_;
  const Tensors& tensors_;
  const Model& model_;
  const DType dtype_;
  const Adapter* const adapter_;  // or null
  CompressedWeights compressed_;
  BuiltTensors built_;
  Offenders missing_;
  std::unordered_set<const CanonicalTensor*> used_;
};

}  // namespace

absl::StatusOr<BuiltTensors> BuildTensors(const Checkpoint& checkpoint, const Tensors& tensors, const Model& model,
                                          DType dtype, const Adapter* adapter) {
  return Builder(checkpoint, tensors, model, dtype, adapter).Build();
}

}  // namespace slipway::engine
