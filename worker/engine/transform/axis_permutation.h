// Where the elements of an output go whose axes are permuted: boxes of the output, and the rows of the view that fill
// them. All sizes, strides and indices are in elements.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

struct PermutedAxis {
  std::int64_t size = 1;
  std::int64_t view_stride = 0;
  std::int64_t output_stride = 0;
};

// The axes of an output of `elements` (above 0), outermost first. Axes of one index are dropped, axes that follow each
// other in view and output are joined: where at most one is left, nothing moves. nullopt where `permutation` does not
// view so many elements or its order is none.
[[nodiscard]] std::optional<std::vector<PermutedAxis>> OutputAxes(const AxisPermutation& permutation,
                                                                  std::int64_t elements);

// Elements of the output that follow each other and are a box of the view.
struct PermutedBox {
  std::int64_t elements = 1;
  std::int64_t view_first = 0;  // where its first element is in the view
  PermutedAxis columns;         // contiguous in the view (view_stride 1), or of one index
  PermutedAxis rows;
  std::vector<PermutedAxis> outer;  // the others, outermost in the view first
};

// The largest box that begins with element `first` of the output and has at most `maximum` (at least 1) elements: as
// many slices of the outermost axis as possible.
[[nodiscard]] PermutedBox LargestBox(std::span<const PermutedAxis> axes, std::int64_t first, std::int64_t maximum);

}  // namespace slipway::engine
