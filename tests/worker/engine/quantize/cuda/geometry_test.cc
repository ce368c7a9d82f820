// Threads that each pack one unit write together what the reference packs strip by strip.
#include "worker/engine/quantize/cuda/geometry.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "worker/engine/quantize/block_grid.h"
#include "worker/engine/quantize/element_codes.h"
#include "worker/engine/quantize/packing.h"

namespace slipway::engine {
namespace {

struct Case {
  Packing packing;
  Element element;
  std::int64_t rows;
  std::int64_t columns;
};

std::vector<std::uint8_t> CodesOf(const Case& a_case) {
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(a_case.rows * a_case.columns));
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const auto number = static_cast<std::uint8_t>(i * 37 + i / 7);
    codes[i] = ElementBits(a_case.element) == 8   ? number
               : a_case.element == Element::kE2M1 ? number % 16
                                                  : static_cast<std::uint8_t>(static_cast<int>(number % 16) - 8);
  }
  return codes;
}

std::vector<std::byte> PackedByUnits(const Case& a_case, const std::vector<std::uint8_t>& codes) {
  const int bits = a_case.packing == Packing::kBytes ? 8 : ElementBits(a_case.element);
  const bool words = a_case.packing != Packing::kBytes && a_case.packing != Packing::kNibblePairs &&
                     a_case.packing != Packing::kNibbleRows;
  const std::size_t unit_bytes = words ? 4 : 1;
  const std::int64_t units = UnitsOf(a_case.packing, bits, a_case.rows, a_case.columns);
  std::vector<std::byte> packed(static_cast<std::size_t>(units) * unit_bytes, std::byte{0xEE});
  std::vector<int> written(static_cast<std::size_t>(units));
  for (std::int64_t number = 0; number < units; ++number) {
    const PackedUnit unit = UnitOf(a_case.packing, bits, a_case.rows, a_case.columns, number);
    std::uint32_t word = 0;
    for (int i = 0; i < unit.values; ++i) {
      const int place = PlaceInUnit(a_case.packing, i);
      const std::int64_t row = unit.row + (unit.down ? place : 0);
      const std::int64_t column = unit.column + (unit.down ? 0 : place);
      const std::uint32_t code = codes[static_cast<std::size_t>(row * a_case.columns + column)];
      word |= ((code & ((1U << bits) - 1)) ^ (words ? 1U << (bits - 1) : 0)) << (i * bits);
    }
    std::memcpy(packed.data() + static_cast<std::size_t>(unit.at) * unit_bytes, &word, unit_bytes);
    ++written[static_cast<std::size_t>(unit.at)];
  }
  EXPECT_EQ(written, std::vector<int>(written.size(), 1));
  return packed;
}

std::vector<std::byte> PackedByStrips(const Case& a_case, const std::vector<std::uint8_t>& codes) {
  const Coding coding{.element = a_case.element, .packing = a_case.packing};
  const std::int64_t strip = StripRows(a_case.packing);
  std::vector<std::byte> packed(
      static_cast<std::size_t>(PackedBytes(a_case.packing, a_case.element, a_case.rows, a_case.columns)));
  for (std::int64_t row = 0; row < a_case.rows; row += strip) {
    PackStrip(coding,
              std::span(codes).subspan(static_cast<std::size_t>(row * a_case.columns),
                                       static_cast<std::size_t>(strip * a_case.columns)),
              row, a_case.rows, a_case.columns, packed);
  }
  return packed;
}

TEST(Geometry, OfUnitsIsThatOfThePacking) {
  const Case cases[] = {
      {Packing::kBytes, Element::kE4M3, 3, 7},         {Packing::kBytes, Element::kInt4, 2, 5},
      {Packing::kNibblePairs, Element::kE2M1, 3, 10},  {Packing::kNibbleRows, Element::kInt4, 6, 9},
      {Packing::kWords, Element::kInt4, 5, 33},        {Packing::kWords, Element::kInt8, 7, 101},
      {Packing::kWordsColumns, Element::kInt4, 24, 5}, {Packing::kWordsRows, Element::kInt4, 3, 40},
  };
  for (const Case& a_case : cases) {
    const std::vector<std::uint8_t> codes = CodesOf(a_case);
    EXPECT_EQ(PackedByUnits(a_case, codes), PackedByStrips(a_case, codes)) << static_cast<int>(a_case.packing);
  }
}

TEST(Geometry, OfBlocksIsThatOfTheGrid) {
  const Coding codings[] = {
      {.sharing = Sharing::kRow},
      {.sharing = Sharing::kGroup, .group = 8},
      {.sharing = Sharing::kSquare, .group = 16},
      {.element = Element::kInt4, .sharing = Sharing::kGroup, .group = 8, .packing = Packing::kWordsColumns},
      {.element = Element::kInt4, .sharing = Sharing::kRow, .packing = Packing::kWordsRows},
  };
  constexpr std::int64_t kRows = 40;
  constexpr std::int64_t kColumns = 56;
  for (const Coding& coding : codings) {
    const BlockGrid grid(coding, kRows, kColumns);
    const Blocks blocks = BlocksOf(coding, kRows, kColumns);
    EXPECT_EQ(blocks.Down() * blocks.Across(), grid.blocks());
    for (std::int64_t row = 0; row < kRows; ++row) {
      for (std::int64_t column = 0; column < kColumns; ++column) {
        ASSERT_EQ(blocks.ScaleIndex(row / blocks.block_rows, column / blocks.block_columns), grid.ScaleOf(row, column));
      }
    }
  }
}

}  // namespace
}  // namespace slipway::engine
