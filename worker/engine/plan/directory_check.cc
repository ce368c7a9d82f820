#include "worker/engine/plan/directory_check.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::engine {
namespace {

class DirectoryCheck {
 public:
  explicit DirectoryCheck(const ExportPlan& plan)
      : plan_(plan), directories_(std::max<std::size_t>(1, plan.directories.size())) {}

  absl::Status Run() {
    SLIPWAY_RETURN_IF_ERROR(CheckRanges());
    SLIPWAY_RETURN_IF_ERROR(CheckShardsOfDirectories());
    for (const Shard& shard : plan_.shards) {
      SLIPWAY_RETURN_IF_ERROR(CheckPath(shard.file, shard.directory));
    }
    for (const OutputTensor& tensor : plan_.tensors) {
      SLIPWAY_RETURN_IF_ERROR(CheckTensor(tensor));
    }
    for (const TextFile& text : plan_.texts) {
      SLIPWAY_RETURN_IF_ERROR(CheckPath(text.path, text.directory));
    }
    for (const SidecarFile& sidecar : plan_.sidecars) {
      SLIPWAY_RETURN_IF_ERROR(CheckPath(sidecar.path, sidecar.directory));
    }
    return absl::OkStatus();
  }

 private:
  static absl::Status Broken(std::string_view what, const std::string& file) {
    return Error(Reason::kInternal, fmt::format("the plan contradicts itself: {}", what), {.file = file});
  }

  // The directories' weights and groups are a partition of the plan's.
  absl::Status CheckRanges() {
    std::int64_t weights = 0;
    std::int64_t groups = 0;
    for (const TargetDirectory& directory : plan_.directories) {
      if (directory.first_weight != weights || directory.first_group != groups || directory.weight_count < 0 ||
          directory.group_count < 0 || directory.alone == nullptr) {
        return Broken("the weights of its directories are not one after the other", directory.path);
      }
      weights += directory.weight_count;
      groups += directory.group_count;
    }
    const bool all =
        std::cmp_equal(weights, plan_.quantized.size()) && std::cmp_equal(groups, plan_.scale_groups.size());
    return plan_.directories.empty() || all ? absl::OkStatus() : Broken("weights are of none of its directories", "");
  }

  // Each shard is one of its directory's.
  absl::Status CheckShardsOfDirectories() {
    std::set<std::int32_t> listed;
    for (std::size_t i = 0; i < plan_.directories.size(); ++i) {
      for (const std::int32_t number : plan_.directories[i].shards) {
        const bool known = number >= 0 && static_cast<std::size_t>(number) < plan_.shards.size();
        if (!known || !listed.insert(number).second ||
            !std::cmp_equal(plan_.shards[static_cast<std::size_t>(number)].directory, i)) {
          return Broken("the directory has a shard that is not its own", plan_.directories[i].path);
        }
      }
    }
    return plan_.directories.empty() || listed.size() == plan_.shards.size()
               ? absl::OkStatus()
               : Broken("a shard is of none of its directories", "");
  }

  absl::Status CheckPath(const std::string& path, std::int32_t directory) {
    const bool known = directory >= 0 && static_cast<std::size_t>(directory) < directories_;
    const bool below = known && (plan_.directories.empty() ||
                                 path.starts_with(plan_.directories[static_cast<std::size_t>(directory)].path + "/"));
    if (!below) {
      return Broken("the file is not in its directory", path);
    }
    return paths_.insert(path).second ? absl::OkStatus() : Broken("it writes the file twice", path);
  }

  absl::Status CheckTensor(const OutputTensor& tensor) {
    if (tensor.shard < 0 || static_cast<std::size_t>(tensor.shard) >= plan_.shards.size()) {
      return Error(Reason::kInternal, "the plan has tensors in no shard");
    }
    const Shard& shard = plan_.shards[static_cast<std::size_t>(tensor.shard)];
    const auto directory = static_cast<std::size_t>(shard.directory);
    const std::string where = plan_.directories.empty() ? "" : plan_.directories[directory].path;
    // A rank's names are its own.
    if (!names_.emplace(shard.is_rank ? tensor.shard : -1 - shard.directory, tensor.name).second) {
      return Error(Reason::kTensorDuplicated, "the plan produces it twice", {.tensor = tensor.name, .file = where});
    }
    if (!tensor.quantized || tensor.quantized->weight < 0 || plan_.directories.empty()) {
      return absl::OkStatus();
    }
    const TargetDirectory& own = plan_.directories[directory];
    const std::int32_t number = tensor.quantized->weight - own.first_weight;
    return number >= 0 && number < own.weight_count
               ? absl::OkStatus()
               : Error(Reason::kInternal, "the plan makes it of another directory's weight",
                       {.tensor = tensor.name, .file = where});
  }

  const ExportPlan& plan_;
  const std::size_t directories_;
  std::set<std::pair<std::int32_t, std::string_view>> names_;  // of tensors
  std::set<std::string_view> paths_;
};

}  // namespace

absl::Status CheckDirectories(const ExportPlan& plan) { return DirectoryCheck(plan).Run(); }

}  // namespace slipway::engine
