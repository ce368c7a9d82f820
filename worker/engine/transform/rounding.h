// What a cast does to values: how many change, and by how much at most.
#pragma once

#include <cstdint>
#include <string_view>

#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// Counts and maxima over elements that were rounded from FP32 to an output's dtype: exact, so that merging parts in any
// order gives the same. `inexact` are finite values that changed, those that overflowed among them. The largest
// errors are over finite values that stayed finite, the relative one over those that are not zero; the absolute error
// is exact in FP32, the relative one its quotient with the value, rounded to FP32.
struct Rounding {
  std::int64_t inexact = 0;
  std::int64_t overflows = 0;   // finite values that became infinite
  std::int64_t underflows = 0;  // values that became zero
  std::int64_t nans = 0;        // values that were none before, and infinite ones: neither is an error of the cast
  std::int64_t infinities = 0;
  float largest_absolute = 0;
  float largest_relative = 0;

  void Merge(const Rounding& other);
  bool operator==(const Rounding&) const = default;
};

// Whether the rounding of a tensor is measured: where its dtype is another than its source's, unless block scales give
// the values.
[[nodiscard]] bool IsCast(const OutputTensor& tensor);

// Whether finite values may become infinite on the way to its dtype: where it is cast, and where something is added.
[[nodiscard]] bool CanOverflow(const OutputTensor& tensor);

// What a plan that casts to `to` warns of: that large weights have no place in it. Empty where they have one.
[[nodiscard]] std::string_view OverflowWarning(DType from, DType to);

}  // namespace slipway::engine
