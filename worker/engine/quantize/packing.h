// Codes of a byte each into the layouts of files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "worker/engine/quantize/coding.h"

namespace slipway::engine {

// Whether codes of a band of `rows` x `columns`, both above 0, can be packed so: elements of 4 bits for all but kBytes
// and kWords; whole bytes and words, but for the last word of a row of kWords.
[[nodiscard]] bool CanPack(Packing packing, Element element, std::int64_t rows, std::int64_t columns);

// Requires CanPack and sizes whose product CanCode has checked.
[[nodiscard]] std::int64_t PackedBytes(Packing packing, Element element, std::int64_t rows, std::int64_t columns);

// Rows that are packed together: 1, 2 or 8.
[[nodiscard]] std::int64_t StripRows(Packing packing);

// Packs the strip of a band that begins with row `first_row`, a multiple of StripRows: `codes`, [StripRows, columns],
// as Encode gives them. `packed` is the whole band's. Strips write to bytes of their own. Thread-safe.
void PackStrip(const Coding& coding, std::span<const std::uint8_t> codes, std::int64_t first_row, std::int64_t rows,
               std::int64_t columns, std::span<std::byte> packed);

// Zero points, a byte each as Quantizer gives them, into words of eight neighbouring rows', which lie as the codes of a
// word do: of kWordsColumns [scales a row, rows / 8] in AutoAWQ's order, of any other packing [rows / 8, scales a row].
// `rows` is a multiple of 8.
void PackZeroPoints(Packing packing, std::span<const std::byte> zero_points, std::int64_t rows,
                    std::span<std::byte> words);

}  // namespace slipway::engine
