#include "worker/engine/plan/adapter_builder.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "worker/engine/model/rule_instances.h"
#include "worker/engine/plan/output_size.h"
#include "worker/engine/plan/shard_layout.h"
#include "worker/engine/plan/transforms.h"

namespace slipway::engine {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kModel = "base_model.model.";  // how PEFT wraps the model
constexpr std::string_view kWeight = ".weight";

class Builder {
 public:
  Builder(const Adapter& adapter, const std::map<std::string, CanonicalTensor>& base, const Model& model,
          ExportPlan& plan)
      : adapter_(adapter), base_(base), model_(model), plan_(plan) {}

  absl::Status Build() {
    SLIPWAY_RETURN_IF_ERROR(adapter_.CheckBases(base_));
    std::size_t used = 0;
    for (const RuleInstance& instance : InstancesOf(*model_.architecture, model_.configuration)) {
      const TensorRule& rule = *instance.rule;
      const std::int64_t experts = IsPerExpert(rule.source) ? model_.configuration.experts.count.value_or(0) : 1;
      for (std::int64_t expert = 0; expert < experts; ++expert) {
        const std::string source = SourceName(instance, model_.configuration, expert);
        const AdapterFactors* const factors = adapter_.Find(source);
        used += factors == nullptr ? 0 : 1;
        SLIPWAY_RETURN_IF_ERROR(factors == nullptr ? absl::OkStatus() : Check(rule, source, *factors));
        for (std::size_t target = 0; target < rule.targets.size(); ++target) {
          const std::string name = TargetName(instance, target, model_.configuration, expert);
          SLIPWAY_RETURN_IF_ERROR(factors == nullptr ? NoteUnchanged(name) : Emit(rule, target, name, *factors));
        }
      }
    }
    if (used != adapter_.factors().size()) {
      return Error(Reason::kTensorUnknown,
                   fmt::format("the adapter changes weights that {} does not have", model_.architecture->name));
    }
    plan_.texts.push_back({.path = std::string(kAdapterConfig), .content = Config()});
    return LayOut();
  }

 private:
  absl::Status Check(const TensorRule& rule, const std::string& source, const AdapterFactors& factors) const {
    SLIPWAY_RETURN_IF_ERROR(CheckAdaptable(rule, source));
    const CanonicalTensor& base = base_.at(source);  // CheckBases has found it
    if (base.shape != SourceShape(rule, model_.configuration)) {
      return Error(Reason::kTensorShapeMismatch, "has not the shape that the configuration says", {.tensor = source});
    }
    return adapter_.CheckShapes(factors, base);
  }

  absl::Status NoteUnchanged(std::string_view name) {
    if (name.ends_with(kWeight)) {
      unchanged_.emplace(ModuleOf(name.substr(0, name.size() - kWeight.size())));
    }
    return absl::OkStatus();
  }

  absl::Status Emit(const TensorRule& rule, std::size_t target, std::string_view name, const AdapterFactors& factors) {
    if (!name.ends_with(kWeight)) {
      return Error(Reason::kOptionUnsupported, "has an adapter, but is no weight of a module",
                   {.tensor = std::string(name)});
    }
    const std::string module(name.substr(0, name.size() - kWeight.size()));
    modules_.push_back(module);
    OutputTensor lora_a;
    OutputTensor lora_b;
    const std::int64_t rank = adapter_.settings().rank;
    const std::int64_t rows = SelectedShape(rule, rule.targets[target], model_.configuration).front();
    SLIPWAY_ASSIGN_OR_RETURN(lora_a.regions.emplace_back(), adapter_.RegionOfA(factors, *plan_.checkpoint));
    SLIPWAY_ASSIGN_OR_RETURN(lora_b.regions,
                             RegionsOf(*factors.b, RowsOf(rule, target, model_.configuration), *plan_.checkpoint));
    lora_a.name = fmt::format("{}{}.lora_A.weight", kModel, module);
    lora_a.shape = {rank, factors.a->shape[1]};
    lora_a.shares_source = true;
    lora_b.name = fmt::format("{}{}.lora_B.weight", kModel, module);
    lora_b.shape = {rows, rank};
    SLIPWAY_RETURN_IF_ERROR(Add(std::move(lora_a), factors.a->dtype));
    return Add(std::move(lora_b), factors.b->dtype);
  }

  absl::Status Add(OutputTensor output, DType stored) {
    output.dtype = plan_.options.dtype.value_or(stored);
    output.transform = {.add_one = false, .from = stored, .to = output.dtype};
    SLIPWAY_RETURN_IF_ERROR(SetBytes(output.name, output));
    plan_.tensors.push_back(std::move(output));
    return absl::OkStatus();
  }

  // PEFT finds an adapter in one file only.
  absl::Status LayOut() {
    constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max() / 2;
    SLIPWAY_ASSIGN_OR_RETURN(plan_.shards, LayOutShards(plan_.tensors, kNoLimit));
    if (plan_.shards.size() != 1) {
      return Error(Reason::kLimitExceeded, "the adapter is too large for one file");
    }
    plan_.shards.front().file = kAdapterFile;
    return absl::OkStatus();
  }

  static std::string ModuleOf(std::string_view module) { return std::string(module.substr(module.rfind('.') + 1)); }

  // A module's own name stands for all modules of that name; where some of them have no adapter, each is named in full.
  [[nodiscard]] ordered_json TargetModules() const {
    std::set<std::string> names;
    for (const std::string& module : modules_) {
      const std::string own = ModuleOf(module);
      names.insert(unchanged_.contains(own) ? module : own);
    }
    return names;
  }

  [[nodiscard]] std::string Config() const {
    const AdapterSettings& settings = adapter_.settings();
    const bool whole = settings.alpha == std::floor(settings.alpha) && std::abs(settings.alpha) < 1e9;
    const ordered_json config = {
        {"peft_type", "LORA"},
        {"task_type", "CAUSAL_LM"},
        {"base_model_name_or_path",
         settings.base_model.empty() ? ordered_json(nullptr) : ordered_json(settings.base_model)},
        {"r", settings.rank},
        {"lora_alpha", whole ? ordered_json(static_cast<std::int64_t>(settings.alpha)) : ordered_json(settings.alpha)},
        {"lora_dropout", settings.dropout},
        {"target_modules", TargetModules()},
        {"bias", "none"},
        {"fan_in_fan_out", false},
        {"inference_mode", true},
        {"modules_to_save", nullptr},
        {"use_dora", false},
        {"use_rslora", false}};
    return config.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
  }

  const Adapter& adapter_;
  const std::map<std::string, CanonicalTensor>& base_;
  const Model& model_;
  ExportPlan& plan_;
  std::vector<std::string> modules_;  // with an adapter: "model.layers.0.self_attn.q_proj"
  std::set<std::string> unchanged_;   // own names of modules without: "q_proj"
};

}  // namespace

absl::Status BuildAdapter(const Adapter& adapter, const std::map<std::string, CanonicalTensor>& base,
                          const Model& model, ExportPlan& plan) {
  return Builder(adapter, base, model, plan).Build();
}

}  // namespace slipway::engine
