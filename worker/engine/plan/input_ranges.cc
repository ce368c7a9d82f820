#include "worker/engine/plan/input_ranges.h"

#include <algorithm>
#include <map>
#include <string>

#include <fmt/format.h>

#include "common/count_of.h"
#include "common/error.h"
#include "worker/engine/plan/linear_weights.h"

namespace slipway::engine {
namespace {

constexpr std::string_view kExperts = ".experts.";

// What an expert's module is called but for its number; empty: it is of no expert.
std::string ExpertKind(const std::string& module) {
  const std::size_t at = module.find(kExperts);
  if (at == std::string::npos) {
    return {};
  }
  const std::size_t end = module.find('.', at + kExperts.size());
  return end == std::string::npos ? std::string() : module.substr(0, at + kExperts.size()) + "*" + module.substr(end);
}

void Raise(std::map<std::string, float>& largest, const std::string& key, float value) {
  const auto [at, fresh] = largest.emplace(key, value);
  at->second = std::max(at->second, value);
}

class Stage {
 public:
  Stage(const Recipe& recipe, const Ranges* ranges, ExportPlan& plan) : recipe_(recipe), ranges_(ranges), plan_(plan) {}

  absl::Status Run() {
    for (QuantizedWeight& weight : plan_.quantized) {
      if (weight.layout->activations == Activations::kStatic && ranges_ != nullptr) {
        SLIPWAY_RETURN_IF_ERROR(TakeGiven(weight));
      }
    }
    for (QuantizedWeight& weight : plan_.quantized) {
      if (weight.layout->activations == Activations::kStatic) {
        SLIPWAY_RETURN_IF_ERROR(Complete(weight));
      }
    }
    Warn();
    return absl::OkStatus();
  }

 private:
  absl::Status TakeGiven(QuantizedWeight& weight) {
    const auto found = ranges_->modules.find(weight.module);
    if (found == ranges_->modules.end() || found->second.input_amax.empty()) {
      return absl::OkStatus();
    }
    const std::vector<float>& channels = found->second.input_amax;
    if (channels.size() != 1 && channels.size() != static_cast<std::size_t>(weight.columns)) {
      return Error(Reason::kTensorShapeMismatch,
                   fmt::format("{} gives ranges of {} channels, but its input has {}", ranges_->origin, channels.size(),
                               weight.columns),
                   {.tensor = weight.module});
    }
    const bool smooth = weight.pre_quant_scale != nullptr && channels.size() > 1;
    float amax = 0;
    for (std::size_t i = 0; i < channels.size(); ++i) {
      amax = std::max(amax, smooth ? channels[i] * (*weight.pre_quant_scale)[i] : channels[i]);
    }
    weight.input_amax = amax;
    Raise(fused_, FusedNameOf(weight.module), amax);
    Raise(experts_, ExpertKind(weight.module), amax);
    return absl::OkStatus();
  }

  absl::Status Complete(QuantizedWeight& weight) {
    const std::string kind = ExpertKind(weight.module);
    const auto fused = fused_.find(FusedNameOf(weight.module));
    // Fused siblings have one input; of experts engines refuse two scales of it.
    const bool shares = weight.format->shares_tensor_scale || !weight.input_amax || !kind.empty();
    if (fused != fused_.end() && shares) {
      weight.input_amax = fused->second;
    }
    const auto expert = kind.empty() ? experts_.end() : experts_.find(kind);
    if (!weight.input_amax && expert != experts_.end()) {
      weight.input_amax = expert->second;
      ++from_experts_;
      example_ = example_.empty() ? weight.module : example_;
    }
    if (!weight.input_amax && recipe_.default_input_amax) {
      weight.input_amax = recipe_.default_input_amax;
      ++by_default_;
    }
    if (!weight.input_amax || *weight.input_amax <= 0) {
      return Error(
          Reason::kOptionUnsupported,
          fmt::format("{} stores a scale of the layer's input, and {} a range of it: supply one with --ranges, "
                      "set activations or default_input_amax in --recipe, or leave the module out there",
                      weight.format->name, ranges_ == nullptr ? "nothing gives" : ranges_->origin + " lacks"),
          {.tensor = weight.module});
    }
    return absl::OkStatus();
  }

  void Warn() {
    if (from_experts_ > 0) {
      plan_.warnings.push_back(fmt::format(
          "{} of experts (such as {}) had no range of their input: they get the largest of their layer's experts",
          CountOf(from_experts_, "weight"), example_));
    }
    if (by_default_ > 0) {
      plan_.warnings.push_back(fmt::format("{} have the recipe's default_input_amax, {}, as the range of their input",
                                           CountOf(by_default_, "weight"), *recipe_.default_input_amax));
    }
  }

  const Recipe& recipe_;
  const Ranges* const ranges_;  // or null
  ExportPlan& plan_;
  std::map<std::string, float> fused_;    // largest by FusedNameOf
  std::map<std::string, float> experts_;  // largest by ExpertKind
  std::int64_t from_experts_ = 0;
  std::string example_;
  std::int64_t by_default_ = 0;
};

}  // namespace

absl::Status InputRanges(const Recipe& recipe, const Ranges* ranges, ExportPlan& plan) {
  return Stage(recipe, ranges, plan).Run();
}

}  // namespace slipway::engine
