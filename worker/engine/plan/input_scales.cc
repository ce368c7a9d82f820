#include "worker/engine/plan/input_scales.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "common/count_of.h"
#include "common/error.h"
#include "worker/engine/plan/linear_weights.h"
#include "worker/engine/transform/column_factors.h"

namespace slipway::engine {
namespace {

using Factors = std::shared_ptr<const std::vector<float>>;

// A norm whose output goes into these linear layers of its block and nowhere else.
struct NormedInput {
  std::string_view norm;
  std::vector<std::string_view> linears;
};

// Of models whose norms are products with a weight and nothing else. In a mixture of experts, the second norm feeds
// routers, too.
std::vector<NormedInput> NormedInputsOf(std::string_view architecture) {
  constexpr std::array<std::string_view, 4> kDense = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM",
                                                      "Qwen3ForCausalLM"};
  constexpr std::array<std::string_view, 3> kExperts = {"MixtralForCausalLM", "Qwen2MoeForCausalLM",
                                                        "Qwen3MoeForCausalLM"};
  const bool dense = std::ranges::find(kDense, architecture) != kDense.end();
  std::vector<NormedInput> inputs;
  if (dense || std::ranges::find(kExperts, architecture) != kExperts.end()) {
    inputs.push_back({"input_layernorm", {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}});
  }
  if (dense) {
    inputs.push_back({"post_attention_layernorm", {"mlp.gate_proj", "mlp.up_proj"}});
  }
  return inputs;
}

class Absorption {
 public:
  Absorption(const std::vector<QuantizationCandidate>& candidates, const Ranges& ranges,
             const std::function<bool(const QuantizationCandidate&)>& stores, ExportPlan& plan)
      : ranges_(ranges), plan_(plan) {
    for (const QuantizationCandidate& candidate : candidates) {
      if (ScaleOf(candidate.module) != nullptr && !stores(candidate)) {
        scaled_.emplace(candidate.module, &candidate);
      }
    }
    for (std::size_t i = 0; i < plan_.tensors.size(); ++i) {
      tensors_.emplace(plan_.tensors[i].name, i);
    }
    for (const QuantizationCandidate& candidate : candidates) {
      if (candidate.rule == nullptr && IsStackedExperts(plan_.tensors[candidate.tensor])) {
        stacked_.push_back(candidate.module.substr(0, candidate.module.rfind('.') + 1));
      }
    }
  }

  absl::StatusOr<AbsorbedScales> Run() {
    for (const NormedInput& input : NormedInputsOf(plan_.architecture)) {
      GiveToNorms(input);
    }
    for (const auto& [module, candidate] : scaled_) {
      if (!absorbed_.by_norms.contains(module)) {
        SLIPWAY_RETURN_IF_ERROR(GiveBack(module, plan_.tensors[candidate->tensor]));
      }
    }
    SLIPWAY_RETURN_IF_ERROR(CheckStacked());
    Warn();
    return std::move(absorbed_);
  }

 private:
  [[nodiscard]] const std::vector<float>* ScaleOf(std::string_view module) const {
    const auto found = ranges_.modules.find(module);
    return found == ranges_.modules.end() ? nullptr : found->second.pre_quant_scale.get();
  }

  // Of every block that has the norm.
  void GiveToNorms(const NormedInput& input) {
    const std::string first = fmt::format(".{}", input.linears.front());
    for (const auto& [module, candidate] : scaled_) {
      if (!module.ends_with(first)) {
        continue;
      }
      const std::string block = module.substr(0, module.size() - first.size());
      const auto norm = tensors_.find(fmt::format("{}.{}.weight", block, input.norm));
      std::vector<std::string> members;
      for (const std::string_view linear : input.linears) {
        members.push_back(fmt::format("{}.{}", block, linear));
      }
      const std::vector<float>& scale = *ScaleOf(module);
      const bool alike = std::ranges::all_of(members, [&](const std::string& member) {
        const auto found = scaled_.find(member);
        return found != scaled_.end() && found->second->rule != nullptr && *ScaleOf(member) == scale;
      });
      if (norm == tensors_.end() || !alike) {
        continue;
      }
      OutputTensor& tensor = plan_.tensors[norm->second];
      if (tensor.shape != Shape({static_cast<std::int64_t>(scale.size())}) || !IsFloat(tensor.transform.to)) {
        continue;
      }
      tensor.column_factors = ranges_.modules.find(module)->second.pre_quant_scale;
      absorbed_.by_norms.insert(members.begin(), members.end());
      ++norms_;
    }
  }

  absl::Status GiveBack(const std::string& module, OutputTensor& tensor) {
    tensor.column_factors = ranges_.modules.find(module)->second.pre_quant_scale;
    if (tensor.shape.size() != 2 || !CanScaleColumns(tensor)) {
      return Refused(module, "as its columns are not where they could get it back");
    }
    absorbed_.by_weights.insert(module);
    return absl::OkStatus();
  }

  // Experts in one tensor that stay as they are: each would have its own.
  [[nodiscard]] absl::Status CheckStacked() const {
    for (const std::string& experts : stacked_) {
      for (auto given = ranges_.modules.lower_bound(experts);
           given != ranges_.modules.end() && given->first.starts_with(experts); ++given) {
        if (given->second.pre_quant_scale != nullptr) {
          return Refused(given->first, "as its layer's experts are in one tensor");
        }
      }
    }
    return absl::OkStatus();
  }

  static absl::Status Refused(const std::string& module, std::string_view why) {
    return Error(
        Reason::kOptionUnsupported,
        fmt::format("was divided by scales of its input (AWQ, SmoothQuant), which cannot be taken back, {}: give "
                    "--config-form modelopt and a format with pre_quant_scale, such as int4-awq",
                    why),
        {.tensor = module});
  }

  void Warn() const {
    if (norms_ > 0) {
      plan_.warnings.push_back(fmt::format("{} multiplied by the scales of inputs by which ModelOpt divided {}",
                                           norms_ == 1 ? std::string("1 norm is") : fmt::format("{} norms are", norms_),
                                           CountOf(static_cast<std::int64_t>(absorbed_.by_norms.size()), "weight")));
    }
    if (!absorbed_.by_weights.empty()) {
      plan_.warnings.push_back(
          fmt::format("{} multiplied by the scales of inputs by which ModelOpt divided them, as nothing that is "
                      "written stores these",
                      absorbed_.by_weights.size() == 1 ? std::string("1 weight is")
                                                       : fmt::format("{} weights are", absorbed_.by_weights.size())));
    }
  }

  const Ranges& ranges_;
  ExportPlan& plan_;
  std::map<std::string, const QuantizationCandidate*, std::less<>> scaled_;  // what is to be absorbed, by module
  std::map<std::string, std::size_t, std::less<>> tensors_;                  // of the plan, by name
  std::vector<std::string> stacked_;  // "model.layers.0.mlp.experts.": what is not quantized
  std::int64_t norms_ = 0;
  AbsorbedScales absorbed_;
};

}  // namespace

absl::StatusOr<AbsorbedScales> AbsorbInputScales(const std::vector<QuantizationCandidate>& candidates,
                                                 const Ranges& ranges,
                                                 const std::function<bool(const QuantizationCandidate&)>& stores,
                                                 ExportPlan& plan) {
  return Absorption(candidates, ranges, stores, plan).Run();
}

}  // namespace slipway::engine
