#include "worker/engine/transform/axis_permutation.h"

#include <algorithm>
#include <cstddef>

#include "common/checked_math.h"

namespace slipway::engine {

std::optional<std::vector<PermutedAxis>> OutputAxes(const AxisPermutation& permutation, std::int64_t elements) {
  const Shape& view = permutation.view;
  if (permutation.order.size() != view.size() || CheckedVolume(view) != elements) {
    return std::nullopt;
  }
  Shape strides(view.size(), 1);
  for (std::size_t axis = view.size(); axis-- > 1;) {
    strides[axis - 1] = strides[axis] * view[axis];
  }
  std::vector<bool> taken(view.size());
  std::vector<PermutedAxis> axes;
  for (const std::uint8_t axis : permutation.order) {
    if (axis >= view.size() || taken[axis]) {
      return std::nullopt;
    }
    taken[axis] = true;
    if (!axes.empty() && axes.back().view_stride == strides[axis] * view[axis]) {
      axes.back().size *= view[axis];
      axes.back().view_stride = strides[axis];
    } else if (view[axis] > 1) {
      axes.push_back({.size = view[axis], .view_stride = strides[axis]});
    }
  }
  std::int64_t stride = 1;
  for (std::size_t axis = axes.size(); axis-- > 0;) {
    axes[axis].output_stride = stride;
    stride *= axes[axis].size;
  }
  return axes;
}

PermutedBox LargestBox(std::span<const PermutedAxis> axes, std::int64_t first, std::int64_t maximum) {
  PermutedBox box;
  std::vector<PermutedAxis> spanned;
  std::int64_t rest = first;
  bool cut = false;
  for (PermutedAxis axis : axes) {
    const std::int64_t index = rest / axis.output_stride;
    rest %= axis.output_stride;
    box.view_first += index * axis.view_stride;
    if (!cut && rest == 0 && axis.output_stride <= maximum) {
      cut = true;
      axis.size = std::min(axis.size - index, maximum / axis.output_stride);
      box.elements = axis.size * axis.output_stride;
    } else if (!cut) {
      continue;
    }
    if (axis.size > 1) {
      spanned.push_back(axis);
    }
  }
  std::ranges::sort(spanned, {}, &PermutedAxis::view_stride);
  auto next = spanned.begin();
  if (next != spanned.end() && next->view_stride == 1) {
    box.columns = *next++;
  }
  if (next != spanned.end()) {
    box.rows = *next++;
  }
  box.outer.assign(next, spanned.end());
  std::ranges::reverse(box.outer);
  return box;
}

}  // namespace slipway::engine
