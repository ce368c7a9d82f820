#include "worker/engine/plan/source_coverage.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/transform/low_rank_update.h"

namespace slipway::engine {
namespace {

// Elements [begin, end) of a stored tensor, counted in row-major order.
struct Interval {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

// More runs than any transform of whole rows makes; a region that needs more is not one of ours.
constexpr std::int64_t kMaximumRuns = std::int64_t{1} << 24;

absl::Status CheckInside(const SourceRegion& region, const StoredTensor& stored) {
  bool inside = region.offsets.size() == stored.shape.size() && region.sizes.size() == stored.shape.size();
  for (std::size_t axis = 0; inside && axis < stored.shape.size(); ++axis) {
    inside = region.offsets[axis] >= 0 && region.sizes[axis] >= 0 && region.offsets[axis] <= stored.shape[axis] &&
             region.sizes[axis] <= stored.shape[axis] - region.offsets[axis];
  }
  return inside ? absl::OkStatus()
                : Error(Reason::kTensorShapeMismatch,
                        fmt::format("the plan takes [{}] at [{}] from a tensor of shape [{}]",
                                    fmt::join(region.sizes, ", "), fmt::join(region.offsets, ", "),
                                    fmt::join(stored.shape, ", ")),
                        {.tensor = stored.name});
}

// Appends the contiguous runs of a region (which is inside) of a tensor of `shape`.
absl::Status AppendRuns(const SourceRegion& region, const StoredTensor& stored, std::vector<Interval>& runs) {
  const Shape& shape = stored.shape;
  // [axis, rank) are whole, so one index of axis - 1 is one run; axis - 1 itself is contiguous too.
  std::size_t axis = shape.size();
  std::int64_t stride = 1;
  while (axis > 0 && region.offsets[axis - 1] == 0 && region.sizes[axis - 1] == shape[axis - 1]) {
    stride *= shape[--axis];
  }
  if (stride == 0 || std::ranges::find(region.sizes, 0) != region.sizes.end()) {
    return absl::OkStatus();
  }
  std::int64_t length = stride;
  if (axis > 0) {
    --axis;
    length = stride * region.sizes[axis];
  }
  Shape outer(region.offsets.begin(), region.offsets.begin() + static_cast<std::ptrdiff_t>(axis));
  for (std::int64_t count = 0;; ++count) {
    if (count == kMaximumRuns) {
      return Error(Reason::kInternal, "the plan cuts it into too many runs", {.tensor = stored.name});
    }
    std::int64_t begin = 0;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      begin = begin * shape[i] + (i < axis ? outer[i] : region.offsets[i]);
    }
    runs.push_back({begin, begin + length});
    std::size_t i = axis;
    while (i > 0 && ++outer[i - 1] == region.offsets[i - 1] + region.sizes[i - 1]) {
      outer[i - 1] = region.offsets[i - 1];
      --i;
    }
    if (i == 0) {
      return absl::OkStatus();
    }
  }
}

// What a plan takes from one stored tensor, and for what.
struct Use {
  const SourceRegion* region = nullptr;
  std::string_view for_what;  // an output's name, or the reason of an unused region
  bool shared = false;        // with neighbours that use the same region: counts once for all of them
};

absl::Status CheckExactCover(const StoredTensor& stored, const std::vector<Use>& uses) {
  if (uses.empty()) {
    return Error(Reason::kTensorUnknown, "the plan does not use it", {.tensor = stored.name});
  }
  std::vector<Interval> runs;
  for (const Use& use : uses) {
    SLIPWAY_RETURN_IF_ERROR(AppendRuns(*use.region, stored, runs));
  }
  std::ranges::sort(runs, {}, &Interval::begin);
  std::int64_t covered = 0;
  for (const Interval& run : runs) {
    if (run.begin != covered) {
      const bool twice = run.begin < covered;
      return Error(twice ? Reason::kTensorDuplicated : Reason::kTensorMissing,
                   fmt::format("the plan uses element {} {} (among others for {})", twice ? run.begin : covered,
                               twice ? "twice" : "not at all", uses.front().for_what),
                   {.tensor = stored.name});
    }
    covered = run.end;
  }
  const auto volume = CheckedVolume(stored.shape);
  return volume == covered ? absl::OkStatus()
                           : Error(Reason::kTensorMissing,
                                   fmt::format("the plan uses {} of its {} elements", covered, volume.value_or(-1)),
                                   {.tensor = stored.name});
}

// The view has all `elements`, and every one of its axes is taken once.
absl::Status CheckPermutation(const OutputTensor& output, std::int64_t elements) {
  const AxisPermutation& permutation = output.permutation;
  std::vector<std::uint8_t> axes = permutation.order;
  std::ranges::sort(axes);
  bool once = axes.size() == permutation.view.size();
  for (std::size_t axis = 0; once && axis < axes.size(); ++axis) {
    once = axes[axis] == axis;
  }
  return once && (permutation.IsNone() || CheckedVolume(permutation.view) == elements)
             ? absl::OkStatus()
             : Error(Reason::kTensorShapeMismatch,
                     fmt::format("the plan views its {} elements as [{}] and takes the axes ({})", elements,
                                 fmt::join(permutation.view, ", "), fmt::join(permutation.order, ", ")),
                     {.tensor = output.name});
}

// Regions of one output have its dtype and, together, its number of elements.
absl::Status CheckRegionsOf(const OutputTensor& output, const Checkpoint& checkpoint) {
  std::int64_t elements = 0;
  for (const SourceRegion& region : output.regions) {
    if (checkpoint.tensors[static_cast<std::size_t>(region.tensor)].dtype != output.transform.from) {
      return Error(Reason::kTensorShapeMismatch, "its parts are of different dtypes", {.tensor = output.name});
    }
    const auto stored = CheckedVolume(region.sizes);
    const auto volume = stored ? CheckedMultiply(*stored, ElementsPerStored(output)) : std::nullopt;
    const auto sum = volume ? CheckedAdd(elements, *volume) : std::nullopt;
    if (!sum) {
      return Error(Reason::kTensorShapeMismatch, "its parts are too large", {.tensor = output.name});
    }
    elements = *sum;
  }
  SLIPWAY_RETURN_IF_ERROR(CheckPermutation(output, elements));
  return CheckedVolume(output.shape) == elements
             ? absl::OkStatus()
             : Error(Reason::kTensorShapeMismatch,
                     fmt::format("has shape [{}], its parts have {} elements", fmt::join(output.shape, ", "), elements),
                     {.tensor = output.name});
}

// One value for the whole matrix, in a tensor of any rank.
bool IsOneScale(const BlockScales& scales) {
  return scales.regions.size() == 1 && CheckedVolume(scales.regions.front().sizes) == 1;
}

std::string SizesOf(const BlockScales& scales) {
  std::vector<std::string> sizes;
  for (const SourceRegion& region : scales.regions) {
    sizes.push_back(fmt::format("[{}]", fmt::join(region.sizes, ", ")));
  }
  return fmt::format("{}", fmt::join(sizes, " and "));
}

// A matrix has one scale a block.
absl::Status CheckScalesOf(const OutputTensor& output) {
  const BlockScales& scales = *output.scales;
  if (IsOneScale(scales) && output.shape.size() == 2 && scales.rows >= output.shape[0] &&
      scales.columns >= output.shape[1]) {
    return absl::OkStatus();
  }
  bool fits = output.shape.size() == 2 && scales.rows > 0 && scales.columns > 0;
  const auto blocks = [&](std::size_t axis, std::int64_t block) {
    return output.shape[axis] / block + (output.shape[axis] % block != 0 ? 1 : 0);
  };
  const std::int64_t columns = fits ? blocks(1, scales.columns) : 0;
  std::int64_t rows = 0;
  for (std::size_t i = 0; fits && i < scales.regions.size(); ++i) {
    const Shape& sizes = scales.regions[i].sizes;
    const std::int64_t more = sizes.empty() ? 0 : sizes.size() == 1 ? sizes[0] : sizes[sizes.size() - 2];
    fits = CheckedVolume(sizes) == CheckedMultiply(more, columns) && (sizes.size() <= 1 || sizes.back() == columns);
    rows = CheckedAdd(rows, more).value_or(-1);
    fits = fits && rows >= 0;
  }
  return fits && rows == blocks(0, scales.rows)
             ? absl::OkStatus()
             : Error(Reason::kTensorShapeMismatch,
                     fmt::format("has shape [{}], its scales {} for blocks of {} x {}", fmt::join(output.shape, ", "),
                                 SizesOf(scales), scales.rows, scales.columns),
                     {.tensor = output.name});
}

// An adapter's update has all of A and the rows of B that are the output's.
absl::Status CheckUpdateOf(const OutputTensor& output, const Checkpoint& checkpoint) {
  const LowRankUpdate& update = *output.update;
  const auto is_matrix = [](const SourceRegion& region, std::int64_t rows, std::int64_t columns) {
    const std::size_t rank = region.sizes.size();
    return rank >= 2 && region.sizes[rank - 2] == rows && region.sizes[rank - 1] == columns &&
           CheckedVolume(region.sizes) == CheckedMultiply(rows, columns);
  };
  const auto dtype_of = [&](const SourceRegion& region) {
    return checkpoint.tensors[static_cast<std::size_t>(region.tensor)].dtype;
  };
  bool fits = output.shape.size() == 2 && output.permutation.IsNone() && !output.scales && !update.block_rows &&
              CanMerge(update, output.transform, output.shape[1]) && update.a.size() == 1 &&
              dtype_of(update.a[0]) == update.a_dtype && is_matrix(update.a[0], update.rank, output.shape[1]);
  std::int64_t rows = 0;
  for (std::size_t i = 0; fits && i < update.b.size(); ++i) {
    const SourceRegion& region = update.b[i];
    const std::int64_t more = region.sizes.size() < 2 ? -1 : region.sizes[region.sizes.size() - 2];
    fits = is_matrix(region, more, update.rank) && dtype_of(region) == update.b_dtype;
    rows += more;  // fits is false before it can overflow: regions are inside their tensors
  }
  return fits && rows == output.shape[0]
             ? absl::OkStatus()
             : Error(Reason::kTensorShapeMismatch,
                     fmt::format("has shape [{}], to which its update of rank {} cannot be added",
                                 fmt::join(output.shape, ", "), update.rank),
                     {.tensor = output.name});
}

absl::StatusOr<std::vector<std::vector<Use>>> CollectUses(const ExportPlan& plan) {
  const std::vector<StoredTensor>& stored = plan.checkpoint->tensors;
  std::vector<std::vector<Use>> uses(stored.size());
  const auto add = [&](const SourceRegion& region, std::string_view for_what, bool shared = false) -> absl::Status {
    if (region.tensor < 0 || std::cmp_greater_equal(region.tensor, stored.size())) {
      return Error(Reason::kInternal, "the plan takes it from a tensor that is not there",
                   {.tensor = std::string(for_what)});
    }
    const auto index = static_cast<std::size_t>(region.tensor);
    const Use* const before = uses[index].empty() ? nullptr : &uses[index].back();
    if (!shared || before == nullptr || !before->shared || before->region->offsets != region.offsets ||
        before->region->sizes != region.sizes) {
      uses[index].push_back({&region, for_what, shared});
    }
    return CheckInside(region, stored[index]);
  };
  for (const OutputTensor& output : plan.tensors) {
    for (const SourceRegion& region : output.regions) {
      SLIPWAY_RETURN_IF_ERROR(add(region, output.name, output.shares_source));
    }
    if (output.update) {
      for (const SourceRegion& region : output.update->a) {
        SLIPWAY_RETURN_IF_ERROR(add(region, output.name, /*shared=*/true));
      }
      for (const SourceRegion& region : output.update->b) {
        SLIPWAY_RETURN_IF_ERROR(add(region, output.name));
      }
      SLIPWAY_RETURN_IF_ERROR(CheckUpdateOf(output, *plan.checkpoint));
    }
    if (output.scales) {
      for (const SourceRegion& region : output.scales->regions) {
        SLIPWAY_RETURN_IF_ERROR(add(region, output.name, /*shared=*/IsOneScale(*output.scales)));
      }
      SLIPWAY_RETURN_IF_ERROR(CheckScalesOf(output));
    }
    SLIPWAY_RETURN_IF_ERROR(CheckRegionsOf(output, *plan.checkpoint));
  }
  for (const UnusedRegion& unused : plan.unused) {
    SLIPWAY_RETURN_IF_ERROR(add(unused.region, unused.reason));
  }
  return uses;
}

}  // namespace

absl::Status CheckSourceCoverage(const ExportPlan& plan) {
  SLIPWAY_ASSIGN_OR_RETURN(const auto uses, CollectUses(plan));
  for (std::size_t i = 0; i < uses.size(); ++i) {
    SLIPWAY_RETURN_IF_ERROR(CheckExactCover(plan.checkpoint->tensors[i], uses[i]));
  }
  return absl::OkStatus();
}

}  // namespace slipway::engine
