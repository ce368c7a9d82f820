// Where things lie: blocks of a band and their scales, words of packed codes. For the host and for GPUs.
#pragma once

#include <cstdint>

#include "worker/engine/float_bits.h"
#include "worker/engine/quantize/coding.h"

namespace slipway::engine {

SLIPWAY_HOST_DEVICE constexpr std::int64_t CeilingOf(std::int64_t value, std::int64_t divisor) {
  return (value + divisor - 1) / divisor;
}

// A band in blocks, those at the right and the lower edge smaller where they do not divide it.
struct Blocks {
  std::int64_t rows = 0;  // of the band
  std::int64_t columns = 0;
  std::int64_t block_rows = 1;
  std::int64_t block_columns = 1;
  bool by_columns = false;  // scales lie in [blocks a row, rows]

  [[nodiscard]] SLIPWAY_HOST_DEVICE constexpr std::int64_t Down() const { return CeilingOf(rows, block_rows); }
  [[nodiscard]] SLIPWAY_HOST_DEVICE constexpr std::int64_t Across() const { return CeilingOf(columns, block_columns); }
  [[nodiscard]] SLIPWAY_HOST_DEVICE constexpr std::int64_t ScaleIndex(std::int64_t down, std::int64_t across) const {
    return by_columns ? across * Down() + down : down * Across() + across;
  }
};

// Of kTensor: one block.
SLIPWAY_HOST_DEVICE constexpr Blocks BlocksOf(const Coding& coding, std::int64_t rows, std::int64_t columns) {
  Blocks blocks{rows, columns, 1, columns, false};
  if (coding.sharing == Sharing::kTensor) {
    blocks.block_rows = rows;
  } else if (coding.sharing == Sharing::kGroup) {
    blocks.block_columns = coding.group;
  } else if (coding.sharing == Sharing::kSquare) {
    blocks.block_rows = coding.group;
    blocks.block_columns = coding.group;
  }
  blocks.by_columns = PacksColumns(coding.packing);
  return blocks;
}

// The unit of packed codes that one thread makes, a byte or a word: which values are in it.
struct PackedUnit {
  std::int64_t row = 0;  // of the value in the lowest bits
  std::int64_t column = 0;
  int values = 1;       // how many; fewer at the end of a row of kWords
  bool down = false;    // they lie one below the other, not side by side
  std::int64_t at = 0;  // of the unit, in units
};

// Values in a whole unit.
SLIPWAY_HOST_DEVICE constexpr int ValuesOfUnit(Packing packing, int bits) {
  switch (packing) {
    case Packing::kBytes:
      return 1;
    case Packing::kNibblePairs:
    case Packing::kNibbleRows:
      return 2;
    default:
      return 32 / bits;
  }
}

SLIPWAY_HOST_DEVICE constexpr std::int64_t UnitsOf(Packing packing, int bits, std::int64_t rows, std::int64_t columns) {
  return packing == Packing::kWords ? rows * CeilingOf(columns, 32 / bits)
                                    : rows * columns / ValuesOfUnit(packing, bits);
}

// Unit `number` in an order in which neighbours read neighbouring values, or write neighbouring units.
SLIPWAY_HOST_DEVICE constexpr PackedUnit UnitOf(Packing packing, int bits, std::int64_t rows, std::int64_t columns,
                                                std::int64_t number) {
  const int values = ValuesOfUnit(packing, bits);
  switch (packing) {
    case Packing::kBytes:
    case Packing::kNibblePairs:
    case Packing::kWords: {
      const std::int64_t units = CeilingOf(columns, values);
      const std::int64_t row = number / units;
      const std::int64_t column = (number - row * units) * values;
      const std::int64_t left = columns - column;
      return {row, column, left < values ? static_cast<int>(left) : values, false, number};
    }
    case Packing::kNibbleRows: {
      const std::int64_t pair = number / columns;
      return {2 * pair, number - pair * columns, 2, true, number};
    }
    case Packing::kWordsColumns: {
      const std::int64_t strip = number / columns;
      const std::int64_t column = number - strip * columns;
      return {8 * strip, column, 8, true, column * (rows / 8) + strip};
    }
    case Packing::kWordsRows:
      break;
  }
  const std::int64_t word = number / rows;
  return {number - word * rows, 8 * word, 8, false, number};
}

// How far below the unit's first row, or right of its first column, the value in bits i * bits lies.
SLIPWAY_HOST_DEVICE constexpr int PlaceInUnit(Packing packing, int i) {
  return packing != Packing::kWordsColumns ? i : i < 4 ? 2 * i : 2 * (i - 4) + 1;
}

}  // namespace slipway::engine
