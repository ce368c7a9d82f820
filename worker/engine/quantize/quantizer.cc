#include "worker/engine/quantize/quantizer.h"

#include <algorithm>

#include "worker/engine/quantize/packing.h"
#include "worker/engine/quantize/scales.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kMaximumElements = std::int64_t{1} << 56;  // so that no size overflows

// Whether the scales' dtype is the rule's.
bool StoresScales(const Coding& coding) {
  switch (coding.rule) {
    case ScaleRule::kAmax:
      return IsFloat(coding.scale_dtype);
    case ScaleRule::kPowerOfTwo:
    case ScaleRule::kPowerOfTwoRounded:
      return coding.scale_dtype == DType::kU8 && coding.sharing != Sharing::kTensor;
    case ScaleRule::kTwoLevel:
    case ScaleRule::kTwoLevelReciprocal:
      return coding.scale_dtype == DType::kF8E4M3 && coding.sharing != Sharing::kTensor;
    case ScaleRule::kRange:
    case ScaleRule::kRangeRounded:
      return IsFloat(coding.scale_dtype) && coding.sharing == Sharing::kGroup && coding.element == Element::kInt4 &&
             coding.packing != Packing::kWordsRows;
  }
  return false;
}

bool SharesWhole(const Coding& coding, std::int64_t columns) {
  const bool transposed = PacksColumns(coding.packing);
  switch (coding.sharing) {
    case Sharing::kTensor:
    case Sharing::kRow:
      return true;
    case Sharing::kGroup:
      return coding.group > 0 && columns % coding.group == 0;
    case Sharing::kSquare:
      return coding.group > 0 && !transposed;
  }
  return false;
}

}  // namespace

bool CanCode(const Coding& coding, std::int64_t rows, std::int64_t columns) {
  return rows > 0 && columns > 0 && rows <= kMaximumElements / columns && coding.bound >= 1 && coding.bound <= 448 &&
         StoresScales(coding) && SharesWhole(coding, columns) && CanPack(coding.packing, coding.element, rows, columns);
}

std::int64_t CodeBytes(const Coding& coding, std::int64_t rows, std::int64_t columns) {
  return PackedBytes(coding.packing, coding.element, rows, columns);
}

std::int64_t ScaleCount(const Coding& coding, std::int64_t rows, std::int64_t columns) {
  const std::int64_t group = coding.group;
  switch (coding.sharing) {
    case Sharing::kTensor:
      return 0;
    case Sharing::kRow:
      return rows;
    case Sharing::kGroup:
      return rows * (columns / group);
    case Sharing::kSquare:
      break;
  }
  return ((rows + group - 1) / group) * ((columns + group - 1) / group);
}

float TensorScale(const Coding& coding, float amax) {
  if (!IsTwoLevel(coding.rule)) {
    return EffectiveScale(coding, RuleScale(coding, amax, 1), 1);
  }
  if (amax == 0) {
    return 1;
  }
  const float bound = coding.bound * (coding.search == ScaleSearch::kAmax ? 448.0F : 256.0F);
  return coding.rule == ScaleRule::kTwoLevel ? std::max(amax / bound, kSmallestScale)
                                             : std::min(bound / amax, kLargestScale);
}

}  // namespace slipway::engine
