#include "worker/engine/plan/plan_builder.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/plan/transforms.h"

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
  Builder(const Checkpoint& checkpoint, const Tensors& tensors, const Model& model, DType dtype)
      : checkpoint_(checkpoint), tensors_(tensors), model_(model), dtype_(dtype) {}

  absl::StatusOr<BuiltTensors> Build() {
    const auto rules = model_.architecture->rules;
    for (std::size_t begin = 0; begin < rules.size();) {
      std::size_t end = begin + 1;
      while (end < rules.size() && IsPerLayer(rules[begin].source) == IsPerLayer(rules[end].source)) {
        ++end;
      }
      SLIPWAY_RETURN_IF_ERROR(ApplyGroup(rules.subspan(begin, end - begin)));
      begin = end;
    }
    if (!missing_.empty()) {
      return missing_.Report(Reason::kTensorMissing,
                             fmt::format("{} needs tensors that the checkpoint lacks", model_.architecture->name));
    }
    SLIPWAY_RETURN_IF_ERROR(CheckAllUsed());
    return std::move(built_);
  }

 private:
  // Rules next to each other that all stand for layers, or all do not.
  absl::Status ApplyGroup(std::span<const TensorRule> rules) {
    const std::int64_t times = IsPerLayer(rules.front().source) ? model_.configuration.layers : 1;
    for (std::int64_t layer = 0; layer < times; ++layer) {
      for (const TensorRule& rule : rules) {
        if (IsPresent(rule.presence, model_.configuration)) {
          SLIPWAY_RETURN_IF_ERROR(Apply(rule, layer));
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status Apply(const TensorRule& rule, std::int64_t layer) {
    const std::string name = ForLayer(rule.source, layer);
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      missing_.Add(name);
      return absl::OkStatus();
    }
    ++used_;
    const CanonicalTensor& source = found->second;
    SLIPWAY_RETURN_IF_ERROR(CheckSource(source, SourceShape(rule, model_.configuration)));
    for (std::size_t target = 0; target < rule.targets.size(); ++target) {
      SLIPWAY_RETURN_IF_ERROR(Emit(rule, target, source, layer));
    }
    return rule.transform == Transform::kVocabulary ? NotePadding(source) : absl::OkStatus();
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
    if (!IsFloatingPoint(source.dtype)) {
      return Error(
          Reason::kCheckpointUnsupported,
          fmt::format("is stored as {}; quantized checkpoints are not read yet", InfoOf(source.dtype).safetensors_name),
          {.tensor = source.name});
    }
    return absl::OkStatus();
  }

  absl::Status Emit(const TensorRule& rule, std::size_t target, const CanonicalTensor& source, std::int64_t layer) {
    OutputTensor output;
    output.name = ForLayer(rule.targets[target].name, layer);
    output.dtype = dtype_;
    output.shape = TargetShape(rule.targets[target], model_.configuration);
    const bool add_one = rule.transform == Transform::kNorm && model_.configuration.zero_centered_gamma &&
                         !model_.architecture->zero_centered_norms;
    output.transform = {.add_one = add_one, .from = source.dtype, .to = dtype_};
    SLIPWAY_ASSIGN_OR_RETURN(output.regions,
                             RegionsOf(source, RowsOf(rule, target, model_.configuration), checkpoint_));
    const auto elements = CheckedVolume(output.shape);
    const auto bytes = elements ? CheckedMultiply(*elements, InfoOf(dtype_).bytes) : std::nullopt;
    if (!bytes) {
      return Error(Reason::kLimitExceeded, "has more than 2^63 bytes", {.tensor = source.name});
    }
    output.bytes = *bytes;
    built_.tensors.push_back(std::move(output));
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
    }
    return absl::OkStatus();
  }

  // Every canonical tensor was asked for by a rule.
  [[nodiscard]] absl::Status CheckAllUsed() const {
    if (used_ == static_cast<std::int64_t>(tensors_.size())) {
      return absl::OkStatus();
    }
    Offenders unknown;
    std::string_view why;
    for (const auto& [name, tensor] : tensors_) {
      const std::string pattern = PatternOf(name);
      const auto rule = std::ranges::find(model_.architecture->rules, std::string_view(pattern), &TensorRule::source);
      const bool known = rule != model_.architecture->rules.end();
      if (known && IsPresent(rule->presence, model_.configuration) && IsLayerOfModel(*rule, name)) {
        continue;
      }
      if (unknown.empty() && known) {
        why = IsPresent(rule->presence, model_.configuration) ? "the configuration has fewer layers"
                                                              : AbsenceOf(rule->presence);
      }
      unknown.Add(name);
    }
    return unknown.Report(Reason::kTensorUnknown,
                          fmt::format("the checkpoint has tensors that {} does not{}{}", model_.architecture->name,
                                      why.empty() ? "" : ", for ", why));
  }

  [[nodiscard]] bool IsLayerOfModel(const TensorRule& rule, const std::string& name) const {
    if (!IsPerLayer(rule.source)) {
      return true;
    }
    const std::size_t at = rule.source.find(kLayerPlaceholder);
    const std::string number = name.substr(at, name.find('.', at) - at);
    // A number that is not in its shortest spelling is another name ("07").
    return number.size() <= 9 && std::to_string(std::stoll(number)) == number &&
           std::stoll(number) < model_.configuration.layers;
  }

  const Checkpoint& checkpoint_;
  const Tensors& tensors_;
  const Model& model_;
  const DType dtype_;
  BuiltTensors built_;
  Offenders missing_;
  std::int64_t used_ = 0;
};

}  // namespace

absl::StatusOr<BuiltTensors> BuildTensors(const Checkpoint& checkpoint, const Tensors& tensors, const Model& model,
                                          DType dtype) {
  return Builder(checkpoint, tensors, model, dtype).Build();
}

}  // namespace slipway::engine
