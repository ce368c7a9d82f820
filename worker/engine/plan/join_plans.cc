#include "worker/engine/plan/join_plans.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>
#include <memory>
#include <set>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/plan/plan_checker.h"
#include "worker/engine/plan/plan_hash.h"
#include "worker/engine/plan/shard_order.h"
#include "worker/engine/run/memory_needs.h"

namespace slipway::engine {
namespace {

absl::Status CheckTogether(const std::vector<ExportPlan>& plans) {
  std::set<std::string> targets;
  for (const ExportPlan& plan : plans) {
    const std::vector<std::string>& own = plan.options.targets;
    if (own.size() != 1 || own.front().empty() || own.front().find_first_of("./") != std::string::npos ||
        !targets.insert(own.front()).second || !plan.directories.empty() ||
        plan.checkpoint != plans.front().checkpoint) {
      return Error(Reason::kInternal, fmt::format("plans that do not belong together: {} of them, {} different targets",
                                                  plans.size(), targets.size()));
    }
  }
  return plans.empty() ? Error(Reason::kInternal, "no plan is to be joined") : absl::OkStatus();
}

template <class Item>
void MoveAll(std::vector<Item>& from, std::vector<Item>& to) {
  to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
  from.clear();
}

class Joiner {
 public:
  explicit Joiner(std::vector<ExportPlan> plans) : plans_(std::move(plans)) {}

  absl::StatusOr<ExportPlan> Join() {
    joined_.options = plans_.front().options;
    joined_.options.targets.clear();
    joined_.checkpoint = plans_.front().checkpoint;
    joined_.architecture = plans_.front().architecture;
    joined_.model_type = plans_.front().model_type;
    joined_.parameters = plans_.front().parameters;
    SLIPWAY_RETURN_IF_ERROR(AddUp());
    for (std::size_t i = 0; i < plans_.size(); ++i) {
      AddDirectory(plans_[i]);
      AddTexts(static_cast<std::int32_t>(i));
      AddWarnings(plans_[i]);
      AddUnused(plans_[i]);
    }
    for (const ShardPlace& place : OrderShards(plans_)) {
      AddShard(place);
    }
    for (std::size_t i = 0; i < plans_.size(); ++i) {
      AddWeights(plans_[i]);
      plans_[i].tensors = {};
      plans_[i].shards = {};
      joined_.directories[i].alone = std::make_shared<const ExportPlan>(std::move(plans_[i]));
    }
    SLIPWAY_RETURN_IF_ERROR(CheckFiles(joined_));
    joined_.peak_memory_bytes = MinimumMemoryBudget(joined_);
    HashPlan(joined_);
    return std::move(joined_);
  }

 private:
  absl::Status AddUp() {
    std::size_t tensors = 0;
    for (const ExportPlan& plan : plans_) {
      const auto output = CheckedAdd(joined_.output_bytes, plan.output_bytes);
      if (!output) {
        return Error(Reason::kLimitExceeded, "the outputs have more than 2^63 bytes");
      }
      joined_.output_bytes = *output;
      joined_.input_bytes = std::max(joined_.input_bytes, plan.input_bytes);
      tensors += plan.tensors.size();
    }
    return tensors <= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())
               ? absl::OkStatus()
               : Error(Reason::kLimitExceeded, "the targets have more than 2^31 tensors");
  }

  void AddDirectory(const ExportPlan& plan) {
    const std::string& target = plan.options.targets.front();
    joined_.options.targets.push_back(target);
    joined_.directories.push_back({.path = target,
                                   .alone = nullptr,
                                   .shards = std::vector<std::int32_t>(plan.shards.size()),
                                   .first_weight = weights_,
                                   .weight_count = static_cast<std::int32_t>(plan.quantized.size()),
                                   .first_group = groups_,
                                   .group_count = static_cast<std::int32_t>(plan.scale_groups.size())});
    weights_ += joined_.directories.back().weight_count;
    groups_ += joined_.directories.back().group_count;
  }

  // What lies around the weights.
  void AddTexts(std::int32_t directory) {
    ExportPlan& plan = plans_[static_cast<std::size_t>(directory)];
    for (TextFile& text : plan.texts) {
      text.path = Below(directory, text.path);
      text.directory = directory;
    }
    for (SidecarFile& sidecar : plan.sidecars) {
      sidecar.path = Below(directory, sidecar.path);
      sidecar.directory = directory;
    }
    MoveAll(plan.texts, joined_.texts);
    MoveAll(plan.sidecars, joined_.sidecars);
  }

  // What is said of every target is said once; of others, of which.
  void AddWarnings(const ExportPlan& plan) {
    for (const std::string& warning : plan.warnings) {
      const bool is_of_all = std::ranges::all_of(plans_, [&warning](const ExportPlan& other) {
        return std::ranges::find(other.warnings, warning) != other.warnings.end();
      });
      std::string said = is_of_all ? warning : fmt::format("{}: {}", plan.options.targets.front(), warning);
      if (std::ranges::find(joined_.warnings, said) == joined_.warnings.end()) {
        joined_.warnings.push_back(std::move(said));
      }
    }
  }

  // What is left out of the checkpoint: once, whichever target leaves it out.
  void AddUnused(const ExportPlan& plan) {
    for (const UnusedRegion& unused : plan.unused) {
      const SourceRegion& region = unused.region;
      if (known_unused_.emplace(region.tensor, region.offsets, region.sizes, unused.reason).second) {
        joined_.unused.push_back(unused);
      }
    }
  }

  void AddShard(const ShardPlace& place) {
    const auto directory = static_cast<std::int32_t>(place.plan);
    std::vector<OutputTensor>& from = plans_[place.plan].tensors;
    Shard shard = std::move(plans_[place.plan].shards[place.shard]);
    const auto first = from.begin() + shard.first_tensor;
    shard.file = Below(directory, shard.file);
    shard.directory = directory;
    shard.first_tensor = static_cast<std::int32_t>(joined_.tensors.size());
    for (auto tensor = first; tensor != first + shard.tensor_count; ++tensor) {
      tensor->shard = static_cast<std::int32_t>(joined_.shards.size());
      if (tensor->quantized && tensor->quantized->weight >= 0) {
        tensor->quantized->weight += joined_.directories[place.plan].first_weight;
      }
      joined_.tensors.push_back(std::move(*tensor));
    }
    joined_.directories[place.plan].shards[place.shard] = static_cast<std::int32_t>(joined_.shards.size());
    joined_.shards.push_back(std::move(shard));
  }

  // In the order of the directories, which count them in the same order.
  void AddWeights(ExportPlan& plan) {
    const auto first_weight = static_cast<std::int32_t>(joined_.quantized.size());
    const auto first_group = static_cast<std::int32_t>(joined_.scale_groups.size());
    for (QuantizedWeight& weight : plan.quantized) {
      weight.scale_group += weight.scale_group >= 0 ? first_group : 0;
    }
    for (ScaleGroup& group : plan.scale_groups) {
      for (std::int32_t& weight : group.weights) {
        weight += first_weight;
      }
    }
    MoveAll(plan.quantized, joined_.quantized);
    MoveAll(plan.scale_groups, joined_.scale_groups);
  }

  [[nodiscard]] std::string Below(std::int32_t directory, const std::string& path) const {
    return fmt::format("{}/{}", joined_.directories[static_cast<std::size_t>(directory)].path, path);
  }

  std::vector<ExportPlan> plans_;
  ExportPlan joined_;
  std::int32_t weights_ = 0;
  std::int32_t groups_ = 0;
  std::set<std::tuple<std::int32_t, Shape, Shape, std::string>> known_unused_;
};

}  // namespace

absl::StatusOr<ExportPlan> JoinPlans(std::vector<ExportPlan> plans) {
  SLIPWAY_RETURN_IF_ERROR(CheckTogether(plans));
  return plans.size() == 1 ? std::move(plans.front()) : Joiner(std::move(plans)).Join();
}

std::string PathInDirectory(const TargetDirectory& directory, const std::string& path) {
  return path.substr(directory.path.size() + 1);
}

ExportPlan PlanOfDirectory(const ExportPlan& joined, std::size_t directory) {
  const TargetDirectory& own = joined.directories[directory];
  const auto is_own = [directory](const auto& file) { return std::cmp_equal(file.directory, directory); };
  ExportPlan plan = *own.alone;
  for (const std::int32_t number : own.shards) {
    const Shard& shard = joined.shards[static_cast<std::size_t>(number)];
    const auto first = joined.tensors.begin() + shard.first_tensor;
    for (auto tensor = first; tensor != first + shard.tensor_count; ++tensor) {
      OutputTensor& copy = plan.tensors.emplace_back(*tensor);
      copy.shard = static_cast<std::int32_t>(plan.shards.size());
      if (copy.quantized && copy.quantized->weight >= 0) {
        copy.quantized->weight -= own.first_weight;
      }
    }
    Shard& copy = plan.shards.emplace_back(shard);
    copy.file = PathInDirectory(own, shard.file);
    copy.first_tensor = static_cast<std::int32_t>(plan.tensors.size()) - shard.tensor_count;
    copy.directory = 0;
  }
  const auto weights = joined.quantized.begin() + own.first_weight;
  plan.quantized.assign(weights, weights + own.weight_count);
  for (QuantizedWeight& weight : plan.quantized) {
    weight.scale_group -= weight.scale_group >= 0 ? own.first_group : 0;
  }
  const auto groups = joined.scale_groups.begin() + own.first_group;
  plan.scale_groups.assign(groups, groups + own.group_count);
  for (ScaleGroup& group : plan.scale_groups) {
    for (std::int32_t& weight : group.weights) {
      weight -= own.first_weight;
    }
  }
  for (const TextFile& text : joined.texts) {
    if (is_own(text)) {
      plan.texts.push_back({.path = PathInDirectory(own, text.path), .content = text.content});
    }
  }
  for (const SidecarFile& sidecar : joined.sidecars) {
    if (is_own(sidecar)) {
      plan.sidecars.push_back(
          {.path = PathInDirectory(own, sidecar.path), .source = sidecar.source, .identity = sidecar.identity});
    }
  }
  return plan;
}

}  // namespace slipway::engine
