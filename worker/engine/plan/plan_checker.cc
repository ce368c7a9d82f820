#include "worker/engine/plan/plan_checker.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/model/rule_instances.h"
#include "worker/engine/plan/directory_check.h"
#include "worker/engine/plan/source_coverage.h"
#include "worker/engine/quantize/quantizer.h"
#include "worker/engine/run/quantized_bands.h"
#include "worker/engine/transform/block_scales.h"
#include "worker/engine/write/safetensors.h"

namespace slipway::engine {
namespace {

// 1: what the target needs, against what the plan produces.
class OutputCheck {
 public:
  OutputCheck(const ExportPlan& plan, const Model& model) : plan_(plan), model_(model) {}

  absl::Status Run() {
    for (const OutputTensor& tensor : plan_.tensors) {
      if (!produced_.emplace(tensor.name, &tensor).second) {
        return Error(Reason::kTensorDuplicated, "the plan produces it twice", {.tensor = tensor.name});
      }
    }
    for (const RuleInstance& instance : InstancesOf(*model_.architecture, model_.configuration)) {
      SLIPWAY_RETURN_IF_ERROR(ExpectAll(instance));
    }
    return produced_.empty() ? absl::OkStatus()
                             : Error(Reason::kTensorUnknown,
                                     fmt::format("the plan produces it, but {} has no such tensor", plan_.architecture),
                                     {.tensor = std::string(produced_.begin()->first)});
  }

 private:
  absl::Status ExpectAll(const RuleInstance& instance) {
    for (std::size_t target = 0; target < instance.rule->targets.size(); ++target) {
      const TargetRule& rule = instance.rule->targets[target];
      const Shape shape = TargetShape(rule, model_.configuration);
      const std::int64_t times = IsPerExpert(rule.name) ? model_.configuration.experts.count.value_or(0) : 1;
      for (std::int64_t expert = 0; expert < times; ++expert) {
        SLIPWAY_RETURN_IF_ERROR(Expect(TargetName(instance, target, model_.configuration, expert), shape));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Expect(const std::string& name, const Shape& shape) {
    const auto found = produced_.find(name);
    if (found == produced_.end()) {
      return Error(Reason::kTensorMissing,
                   fmt::format("{} needs it, but the plan does not produce it", plan_.architecture), {.tensor = name});
    }
    const OutputTensor& tensor = *found->second;
    const auto elements = CheckedVolume(shape);
    const auto bytes = elements ? CheckedMultiply(*elements, InfoOf(tensor.dtype).bytes) : std::nullopt;
    if (tensor.shape != shape || bytes != tensor.bytes || tensor.transform.to != tensor.dtype) {
      return Error(Reason::kTensorShapeMismatch,
                   fmt::format("the plan makes it [{}] of {} bytes, {} needs [{}]", fmt::join(tensor.shape, ", "),
                               tensor.bytes, plan_.architecture, fmt::join(shape, ", ")),
                   {.tensor = name});
    }
    produced_.erase(found);
    return absl::OkStatus();
  }

  const ExportPlan& plan_;
  const Model& model_;
  std::unordered_map<std::string_view, const OutputTensor*> produced_;  // and not yet expected
};

// 1 of a plan that keeps names.
absl::Status CheckIdentity(const ExportPlan& plan) {
  std::unordered_map<std::string_view, const StoredTensor*> expected;
  for (const StoredTensor& stored : plan.checkpoint->tensors) {
    expected.emplace(stored.name, &stored);
  }
  const auto broken = [](Reason reason, std::string_view what, std::string_view tensor) {
    return Error(reason, fmt::format("the plan {}", what), {.tensor = std::string(tensor)});
  };
  for (const OutputTensor& tensor : plan.tensors) {
    for (const SourceRegion& region : ScaleRegionsOf(tensor)) {
      expected.erase(plan.checkpoint->tensors.at(static_cast<std::size_t>(region.tensor)).name);
    }
  }
  for (const OutputTensor& tensor : plan.tensors) {
    const auto found = expected.find(tensor.name);
    if (found == expected.end()) {
      return broken(Reason::kTensorUnknown, "produces it, but the checkpoint has no such tensor, or it is there twice",
                    tensor.name);
    }
    const auto elements = CheckedVolume(tensor.shape);
    const auto bytes = elements ? CheckedMultiply(*elements, InfoOf(tensor.dtype).bytes) : std::nullopt;
    if (found->second->shape != tensor.shape || bytes != tensor.bytes || tensor.transform.to != tensor.dtype ||
        tensor.transform.add_one || tensor.regions.size() != 1 ||
        found->second != &plan.checkpoint->tensors.at(static_cast<std::size_t>(tensor.regions[0].tensor))) {
      return broken(Reason::kTensorShapeMismatch, "changes more than its dtype", tensor.name);
    }
    expected.erase(found);
  }
  return expected.empty() ? absl::OkStatus()
                          : broken(Reason::kTensorMissing, "does not produce it", expected.begin()->first);
}

// 1 of a plan of an adapter.
absl::Status CheckAdapter(const ExportPlan& plan, const Model& model) {
  std::unordered_map<std::string_view, const OutputTensor*> produced;
  for (const OutputTensor& tensor : plan.tensors) {
    if (!produced.emplace(tensor.name, &tensor).second) {
      return Error(Reason::kTensorDuplicated, "the plan produces it twice", {.tensor = tensor.name});
    }
  }
  const auto take = [&produced](const std::string& name) {
    const auto found = produced.find(name);
    const OutputTensor* const tensor = found == produced.end() ? nullptr : found->second;
    produced.erase(name);
    return tensor;
  };
  for (const RuleInstance& instance : InstancesOf(*model.architecture, model.configuration)) {
    for (std::size_t target = 0; target < instance.rule->targets.size(); ++target) {
      const TargetRule& rule = instance.rule->targets[target];
      const std::int64_t times = IsPerExpert(rule.name) ? model.configuration.experts.count.value_or(0) : 1;
      for (std::int64_t expert = 0; expert < times; ++expert) {
        const std::string weight = TargetName(instance, target, model.configuration, expert);
        const std::string module = "base_model.model." + weight.substr(0, weight.rfind('.'));
        const OutputTensor* const a = take(module + ".lora_A.weight");
        const OutputTensor* const b = take(module + ".lora_B.weight");
        if (a == nullptr && b == nullptr) {
          continue;
        }
        if (a == nullptr || b == nullptr) {
          return Error(Reason::kTensorMissing, "the plan produces one factor of two", {.tensor = weight});
        }
        const Shape shape = TargetShape(rule, model.configuration);
        const auto has = [](const OutputTensor& tensor, std::int64_t rows, std::int64_t columns) {
          const auto bytes = CheckedMultiply(CheckedMultiply(rows, columns).value_or(-1), InfoOf(tensor.dtype).bytes);
          return tensor.shape == Shape{rows, columns} && tensor.bytes == bytes && tensor.transform.to == tensor.dtype &&
                 !tensor.transform.add_one && tensor.permutation.IsNone();
        };
        const bool matrices = shape.size() == 2 && a->shape.size() == 2;
        if (!matrices || !has(*a, a->shape[0], shape[1]) || !has(*b, shape[0], a->shape[0])) {
          return Error(Reason::kTensorShapeMismatch,
                       fmt::format("the plan makes factors [{}] and [{}] of [{}]", fmt::join(a->shape, ", "),
                                   fmt::join(b->shape, ", "), fmt::join(shape, ", ")),
                       {.tensor = weight});
        }
      }
    }
  }
  return produced.empty() ? absl::OkStatus()
                          : Error(Reason::kTensorUnknown,
                                  fmt::format("the plan produces it, but {} has no such module", plan.architecture),
                                  {.tensor = std::string(produced.begin()->first)});
}

// 4: one file, its tensors one after the other behind the header that describes them.
absl::Status CheckShard(const ExportPlan& plan, std::size_t number) {
  const Shard& shard = plan.shards[number];
  const auto broken = [&](std::string_view what, const std::string& tensor = {}) {
    return Error(Reason::kInternal, fmt::format("the plan contradicts itself: {}", what),
                 {.tensor = tensor, .file = shard.file});
  };
  const absl::StatusOr<SafetensorsHeader> parsed = ParseSafetensorsHeader(shard.header, shard.bytes, shard.file);
  if (!parsed.ok()) {
    return broken(std::string(parsed.status().message()), WhereOf(parsed.status()).tensor);
  }
  const SafetensorsHeader& header = *parsed;
  if (header.data_position != static_cast<std::int64_t>(shard.header.size()) ||
      header.entries.size() != static_cast<std::size_t>(shard.tensor_count)) {
    return broken("header and tensors are of different number");
  }
  std::int64_t position = header.data_position;
  for (std::size_t i = 0; i < header.entries.size(); ++i) {
    const SafetensorsEntry& entry = header.entries[i];
    const OutputTensor& tensor = plan.tensors[static_cast<std::size_t>(shard.first_tensor) + i];
    if (entry.name != tensor.name || entry.dtype != tensor.dtype || entry.shape != tensor.shape ||
        header.data_position + entry.begin != tensor.file_offset || tensor.file_offset != position ||
        std::cmp_not_equal(tensor.shard, number)) {
      return broken("the header says otherwise", tensor.name);
    }
    position += tensor.bytes;
  }
  return position == shard.bytes ? absl::OkStatus() : broken("bytes follow the last tensor");
}

absl::Status CheckShards(const ExportPlan& plan) {
  std::int64_t next = 0;
  for (std::size_t number = 0; number < plan.shards.size(); ++number) {
    const Shard& shard = plan.shards[number];
    if (shard.first_tensor != next || shard.tensor_count <= 0 ||
        next + shard.tensor_count > static_cast<std::int64_t>(plan.tensors.size())) {
      return Error(Reason::kInternal, "the plan's shards are not a partition of its tensors", {.file = shard.file});
    }
    SLIPWAY_RETURN_IF_ERROR(CheckShard(plan, number));
    next += shard.tensor_count;
  }
  return next == static_cast<std::int64_t>(plan.tensors.size())
             ? absl::OkStatus()
             : Error(Reason::kInternal, "the plan has tensors in no shard");
}

// Every quantized weight has its codes, and what is made of values has the size that they give it.
absl::Status CheckQuantized(const ExportPlan& plan) {
  std::vector<bool> coded(plan.quantized.size());
  for (const OutputTensor& tensor : plan.tensors) {
    if (!tensor.quantized || tensor.quantized->weight < 0) {
      continue;
    }
    const auto index = static_cast<std::size_t>(tensor.quantized->weight);
    const StoredRole role = tensor.quantized->role;
    const QuantizedWeight& weight = plan.quantized.at(index);
    if (!CanCode(weight.coding, BandsOf(weight).rows, BandsOf(weight).columns) ||
        (NeedsValues(role) && tensor.bytes != OutputBytesOf(weight, role, BandsOf(weight).total_rows))) {
      return Error(Reason::kInternal,
                   fmt::format("the plan gives it {} bytes, which its format does not", tensor.bytes),
                   {.tensor = tensor.name});
    }
    if (role == StoredRole::kCodes && coded[index]) {
      return Error(Reason::kTensorDuplicated, "the plan has its codes twice", {.tensor = weight.values.name});
    }
    coded[index] = coded[index] || role == StoredRole::kCodes;
  }
  const auto missing = std::ranges::find(coded, false);
  return missing == coded.end()
             ? absl::OkStatus()
             : Error(Reason::kTensorMissing, "the plan has no codes of it",
                     {.tensor = plan.quantized[static_cast<std::size_t>(missing - coded.begin())].values.name});
}

}  // namespace

absl::Status CheckTensors(const ExportPlan& plan, const Model& model) {
  SLIPWAY_RETURN_IF_ERROR(OutputCheck(plan, model).Run());
  return CheckSourceCoverage(plan);
}

absl::Status CheckIdentityTensors(const ExportPlan& plan) {
  SLIPWAY_RETURN_IF_ERROR(CheckSourceCoverage(plan));  // first: it checks that tensors are there
  return CheckIdentity(plan);
}

absl::Status CheckFiles(const ExportPlan& plan) {
  SLIPWAY_RETURN_IF_ERROR(CheckDirectories(plan));
  SLIPWAY_RETURN_IF_ERROR(CheckQuantized(plan));
  return CheckShards(plan);
}

absl::Status CheckAdapterPlan(const ExportPlan& plan, const Model& model) {
  SLIPWAY_RETURN_IF_ERROR(CheckAdapter(plan, model));
  SLIPWAY_RETURN_IF_ERROR(CheckSourceCoverage(plan));
  return CheckShards(plan);
}

}  // namespace slipway::engine
