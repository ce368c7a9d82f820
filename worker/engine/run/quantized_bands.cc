#include "worker/engine/run/quantized_bands.h"

#include <algorithm>

#include "worker/engine/quantize/quantizer.h"

namespace slipway::engine {

bool HasStrips(const QuantizedWeight& weight) { return PacksColumns(weight.coding.packing); }

Bands BandsOf(const QuantizedWeight& weight) {
  if (HasStrips(weight)) {
    const std::int64_t strips = weight.columns / weight.coding.group;
    return {.rows = weight.rows, .columns = weight.coding.group, .total_rows = weight.rows * strips};
  }
  std::int64_t rows = weight.coding.sharing == Sharing::kSquare ? weight.coding.group : 1;
  if (weight.coding.packing == Packing::kNibbleRows) {
    rows = 2;
  } else if (HasZeroPoints(weight.coding.rule)) {
    rows = 8;  // of a word of zero points
  }
  return {.rows = std::min(rows, std::max<std::int64_t>(weight.rows, 1)),
          .columns = weight.columns,
          .total_rows = weight.rows};
}

bool NeedsValues(StoredRole role) {
  return role == StoredRole::kCodes || role == StoredRole::kScales || role == StoredRole::kZeroPoints;
}

std::int64_t OutputBytesOf(const QuantizedWeight& weight, StoredRole role, std::int64_t rows) {
  const std::int64_t columns = BandsOf(weight).columns;
  if (role == StoredRole::kCodes) {
    return CodeBytes(weight.coding, rows, columns);
  }
  const std::int64_t scales = ScaleCount(weight.coding, rows, columns);
  return role == StoredRole::kZeroPoints ? scales / 2 : scales * InfoOf(weight.coding.scale_dtype).bytes;
}

std::int64_t BandMemory(const ExportPlan& plan) {
  constexpr std::int64_t kSmall = std::int64_t{2} << 20;   // fits beside anything
  constexpr std::int64_t kMargin = std::int64_t{1} << 20;  // pages at the ends of windows, what lies between runs
  std::int64_t most = 0;
  for (const QuantizedWeight& weight : plan.quantized) {
    const std::int64_t elements = BandsOf(weight).elements();
    const std::int64_t read = elements * InfoOf(weight.values.transform.from).bytes;
    const std::int64_t coded = elements * InfoOf(weight.values.transform.to).bytes;
    most = std::max(most, read + 2 * coded);
  }
  return most > kSmall ? most + kMargin : 0;
}

}  // namespace slipway::engine
