#include "worker/engine/transform/rounding.h"

#include <algorithm>

namespace slipway::engine {

void Rounding::Merge(const Rounding& other) {
  inexact += other.inexact;
  overflows += other.overflows;
  underflows += other.underflows;
  nans += other.nans;
  infinities += other.infinities;
  largest_absolute = std::max(largest_absolute, other.largest_absolute);
  largest_relative = std::max(largest_relative, other.largest_relative);
}

bool IsCast(const OutputTensor& tensor) {
  return !tensor.scales && !tensor.update && tensor.transform.from != tensor.transform.to;
}

bool CanOverflow(const OutputTensor& tensor) { return IsCast(tensor) || tensor.update.has_value(); }

std::string_view OverflowWarning(DType from, DType to) {
  return to == DType::kF16 && from != DType::kF16 ? "F16 has no finite values above 65504: an export with a larger "
                                                    "weight fails, --dtype bf16 or fp32 holds it"
                                                  : "";
}

}  // namespace slipway::engine
