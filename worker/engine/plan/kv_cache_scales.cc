#include "worker/engine/plan/kv_cache_scales.h"

#include <array>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/plan/refusal.h"
#include "worker/engine/target/quantization_config.h"

namespace slipway::engine {
namespace {

constexpr std::string_view kKeyWeight = ".k_proj.weight";

OutputTensor ScaleOf(std::string name, float amax) {
  OutputTensor output;
  output.name = std::move(name);
  output.dtype = DType::kF32;
  output.transform = {.add_one = false, .from = DType::kF32, .to = DType::kF32};
  output.quantized = QuantizedPart{.weight = -1, .role = StoredRole::kTensorScale, .constant = amax / kKvCacheBound};
  output.bytes = sizeof(float);
  return output;
}

// In order; of those that are quantized the codes' modules, of others the weights.
std::vector<std::string> AttentionsOf(const ExportPlan& plan) {
  std::set<std::string> names;
  const auto add = [&names](std::string_view weight) {
    if (weight.ends_with(kKeyWeight) && weight.find("visual") == std::string_view::npos &&
        weight.find("vision") == std::string_view::npos) {
      names.emplace(weight.substr(0, weight.size() - kKeyWeight.size()));
    }
  };
  for (const OutputTensor& tensor : plan.tensors) {
    add(tensor.quantized ? std::string_view() : std::string_view(tensor.name));
  }
  for (const QuantizedWeight& weight : plan.quantized) {
    add(weight.values.name);
  }
  return {names.begin(), names.end()};
}

}  // namespace

absl::StatusOr<const AttentionRanges*> KvCacheRangesOf(const Ranges* ranges, const std::string& attention) {
  const auto found = ranges == nullptr ? decltype(ranges->attention.end())() : ranges->attention.find(attention);
  if (ranges == nullptr || found == ranges->attention.end() || !found->second.key_amax || !found->second.value_amax) {
    return Refused(attention, fmt::format("--kv-cache stores scales of its keys and values, and {} ranges of "
                                          "them: supply {}.k_amax and .v_amax with --ranges",
                                          ranges == nullptr ? "nothing gives" : ranges->origin + " lacks", attention));
  }
  return &found->second;
}

absl::Status AddKvCacheScales(KvCache kv_cache, ConfigForm form, const Ranges* ranges, ExportPlan& plan) {
  if (kv_cache == KvCache::kNone) {
    return absl::OkStatus();
  }
  if (const auto why = WhyNotKvCache(form, kv_cache)) {
    return Refused("", fmt::format("--kv-cache {}: {}", kv_cache == KvCache::kFp8 ? "fp8" : "nvfp4", *why));
  }
  const std::vector<std::string> attentions = AttentionsOf(plan);
  if (attentions.empty()) {
    return Refused("", "--kv-cache: the model has no attention with a k_proj and a v_proj");
  }
  for (const std::string& attention : attentions) {
    SLIPWAY_ASSIGN_OR_RETURN(const AttentionRanges* const given, KvCacheRangesOf(ranges, attention));
    const bool modelopt = form == ConfigForm::kModelOpt;
    plan.tensors.push_back(ScaleOf(attention + (modelopt ? ".k_proj.k_scale" : ".k_scale"), *given->key_amax));
    plan.tensors.push_back(ScaleOf(attention + (modelopt ? ".v_proj.v_scale" : ".v_scale"), *given->value_amax));
  }
  return absl::OkStatus();
}

}  // namespace slipway::engine
