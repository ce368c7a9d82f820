#include "worker/engine/transform/scatter_rows.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <utility>

#include "worker/engine/transform/element_transform.h"

namespace slipway::engine {
namespace {

// Elements are moved in tiles of so many rows and columns. A tile's rows are first copied side by side: rows that are
// a power of two apart would throw each other out of the cache, which a tile is to be read from again and again.
constexpr std::int64_t kTile = 64;
constexpr std::int64_t kLargestElement = 8;

template <std::size_t kBytes>
void ScatterTile(const std::byte* tile, std::int64_t rows, std::int64_t columns, std::int64_t row_stride,
                 std::int64_t column_stride, std::byte* output) {
  constexpr auto kSigned = static_cast<std::int64_t>(kBytes);
  for (std::int64_t column = 0; column < columns; ++column) {
    const std::byte* from = tile + column * kSigned;
    std::byte* to = output + column * column_stride * kSigned;
    for (std::int64_t row = 0; row < rows; ++row) {
      std::memcpy(to, from, kBytes);
      from += kTile * kSigned;
      to += row_stride * kSigned;
    }
  }
}

using TileFunction = void (*)(const std::byte*, std::int64_t, std::int64_t, std::int64_t, std::int64_t, std::byte*);

TileFunction TileFunctionFor(std::int64_t element_bytes) {
  switch (element_bytes) {
    case 1:
      return ScatterTile<1>;
    case 2:
      return ScatterTile<2>;
    case 4:
      return ScatterTile<4>;
    default:
      return ScatterTile<8>;
  }
}

}  // namespace

void ScatterRows(const ElementTransform& transform, const RowScatter& scatter, const std::byte* source,
                 std::byte* output, Rounding* rounding) {
  const std::int64_t from = InfoOf(transform.from).bytes;
  const std::int64_t to = InfoOf(transform.to).bytes;
  RowScatter s = scatter;
  if (s.columns == 1 && s.source_step == from) {
    s = {.count = 1, .columns = s.count, .source_step = 0, .row_stride = 0, .column_stride = s.row_stride};
  }
  const auto transform_row = [&](const std::byte* row, std::int64_t columns, std::byte* result) {
    TransformElements(transform, {row, static_cast<std::size_t>(columns * from)},
                      {result, static_cast<std::size_t>(columns * to)}, rounding);
  };
  if (s.column_stride == 1 || s.columns == 1) {
    for (std::int64_t row = 0; row < s.count; ++row) {
      transform_row(source + row * s.source_step, s.columns, output + row * s.row_stride * to);
    }
    return;
  }
  const TileFunction scatter_tile = TileFunctionFor(to);
  alignas(64) std::array<std::byte, kTile * kTile * kLargestElement> tile;
  for (std::int64_t row = 0; row < s.count; row += kTile) {
    const std::int64_t rows = std::min(kTile, s.count - row);
    for (std::int64_t column = 0; column < s.columns; column += kTile) {
      const std::int64_t columns = std::min(kTile, s.columns - column);
      for (std::int64_t i = 0; i < rows; ++i) {
        transform_row(source + (row + i) * s.source_step + column * from, columns, tile.data() + i * kTile * to);
      }
      scatter_tile(tile.data(), rows, columns, s.row_stride, s.column_stride,
                   output + (row * s.row_stride + column * s.column_stride) * to);
    }
  }
}

}  // namespace slipway::engine
