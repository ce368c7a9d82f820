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

std::int64_t KeptColumnsOf(const QuantizedWeight& weight) {
  return weight.kept_columns > 0 ? weight.kept_columns : BandsOf(weight).columns;
}

std::vector<std::byte> KeptColumns(const QuantizedWeight& weight, std::span<const std::byte> rows,
                                   std::int64_t element_bytes) {
  const auto row = static_cast<std::size_t>(weight.columns * element_bytes);
  const auto first = static_cast<std::size_t>(weight.first_kept_column * element_bytes);
  const auto count = static_cast<std::size_t>(weight.kept_columns * element_bytes);
  std::vector<std::byte> kept;
  kept.reserve(rows.size() / row * count);
  for (std::size_t at = 0; at < rows.size(); at += row) {
    const std::span<const std::byte> part = rows.subspan(at + first, count);
    kept.insert(kept.end(), part.begin(), part.end());
  }
  return kept;
}

std::int64_t RowsFrom(const QuantizedWeight& weight, std::int64_t row, std::int64_t rows) {
  return HasStrips(weight) ? BandsOf(weight).rows : std::min(rows, ScaledMatrixAt(weight, row).rows_left);
}

std::int64_t ScaledMatrixCount(const QuantizedWeight& weight) {
  return weight.scale_rows.empty() ? weight.stack : std::ssize(weight.scale_rows);
}

ScaledMatrix ScaledMatrixAt(const QuantizedWeight& weight, std::int64_t row) {
  ScaledMatrix at{.number = 0, .rows_left = weight.rows - row};
  if (weight.scale_rows.empty()) {
    const std::int64_t matrix = weight.rows / std::max<std::int64_t>(weight.stack, 1);
    return weight.stack > 1 && matrix > 0 ? ScaledMatrix{.number = row / matrix, .rows_left = matrix - row % matrix}
                                          : at;
  }
  std::int64_t end = 0;
  for (const std::int64_t rows : weight.scale_rows) {
    end += rows;
    if (row < end) {
      at.rows_left = end - row;
      break;
    }
    ++at.number;
  }
  return at;
}

bool NeedsValues(StoredRole role) {
  return role == StoredRole::kCodes || role == StoredRole::kScales || role == StoredRole::kZeroPoints;
}

std::int64_t OutputBytesOf(const QuantizedWeight& weight, StoredRole role, std::int64_t rows) {
  const std::int64_t columns = BandsOf(weight).columns;
  if (role == StoredRole::kCodes) {
    return CodeBytes(weight.coding, rows, KeptColumnsOf(weight));
  }
  const std::int64_t scales = ScaleCount(weight.coding, rows, columns);
  return role == StoredRole::kZeroPoints ? scales / 2 : scales * InfoOf(weight.coding.scale_dtype).bytes;
}

std::int64_t BandMemory(const ExportPlan& plan) {
  constexpr std::int64_t kSmall = std::int64_t{2} << 20;   // fits beside anything
  constexpr std::int64_t kMargin = std::int64_t{1} << 20;  // pages at the ends of windows, what lies between runs
  std::int64_t most = 0;
  const auto add = [&most](std::int64_t elements, const ElementTransform& transform) {
    most = std::max(most, elements * (InfoOf(transform.from).bytes + 2 * InfoOf(transform.to).bytes));
  };
  for (const QuantizedWeight& weight : plan.quantized) {
    add(BandsOf(weight).elements(), weight.values.transform);
  }
  for (const ScaleGroup& group : plan.scale_groups) {
    for (const OutputTensor& matrix : group.measured) {
      add(2 * matrix.shape.back(), matrix.transform);
    }
  }
  return most > kSmall ? most + kMargin : 0;
}

}  // namespace slipway::engine
