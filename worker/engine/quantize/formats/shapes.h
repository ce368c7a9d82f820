// Shapes of the tensors that stand for a weight of `rows` x `columns`, as Layout tables name them.
#pragma once

#include <cstdint>

#include "worker/engine/quantize/format.h"
#include "worker/engine/shape.h"

namespace slipway::engine {

inline constexpr std::int64_t kNibblesInWord = 8;

constexpr std::int64_t BitsOf(Element element) {
  return element == Element::kE2M1 || element == Element::kInt4 ? 4 : 8;
}

constexpr std::int64_t Blocks(std::int64_t extent, std::int64_t block) { return (extent + block - 1) / block; }

// Codes.
inline Shape Matrix(std::int64_t rows, std::int64_t columns, const Coding& /*coding*/) { return {rows, columns}; }
inline Shape HalfColumns(std::int64_t rows, std::int64_t columns, const Coding& /*coding*/) {
  return {rows, columns / 2};
}
inline Shape HalfRows(std::int64_t rows, std::int64_t columns, const Coding& /*coding*/) { return {rows / 2, columns}; }
inline Shape WordsOfRows(std::int64_t rows, std::int64_t columns, const Coding& coding) {
  return {rows, Blocks(columns * BitsOf(coding.element), 32)};
}
inline Shape AwqWords(std::int64_t rows, std::int64_t columns, const Coding& /*coding*/) {
  return {columns, rows / kNibblesInWord};
}
inline Shape GptqWords(std::int64_t rows, std::int64_t columns, const Coding& /*coding*/) {
  return {columns / kNibblesInWord, rows};
}
inline Shape BlocksOfBytes(std::int64_t rows, std::int64_t columns, const Coding& coding) {
  return {rows, columns / coding.group, coding.group / 2};
}

// Scales.
inline Shape Scalar(std::int64_t /*rows*/, std::int64_t /*columns*/, const Coding& /*coding*/) { return {}; }
inline Shape One(std::int64_t /*rows*/, std::int64_t /*columns*/, const Coding& /*coding*/) { return {1}; }
inline Shape PerRow(std::int64_t rows, std::int64_t /*columns*/, const Coding& /*coding*/) { return {rows}; }
inline Shape PerRowColumn(std::int64_t rows, std::int64_t /*columns*/, const Coding& /*coding*/) { return {rows, 1}; }
inline Shape PerGroup(std::int64_t rows, std::int64_t columns, const Coding& coding) {
  return {rows, columns / coding.group};
}
inline Shape PerGroupTransposed(std::int64_t rows, std::int64_t columns, const Coding& coding) {
  return {columns / coding.group, rows};
}
inline Shape PerSquare(std::int64_t rows, std::int64_t columns, const Coding& coding) {
  return {Blocks(rows, coding.group), Blocks(columns, coding.group)};
}
inline Shape PerSquareInFour(std::int64_t rows, std::int64_t columns, const Coding& coding) {
  return {Blocks(rows, coding.group), 1, Blocks(columns, coding.group), 1};
}

// The rest.
inline Shape Two(std::int64_t /*rows*/, std::int64_t /*columns*/, const Coding& /*coding*/) { return {2}; }
inline Shape PerColumn(std::int64_t /*rows*/, std::int64_t columns, const Coding& /*coding*/) { return {columns}; }
inline Shape ZeroWordsOfRows(std::int64_t rows, std::int64_t columns, const Coding& coding) {
  return {rows / kNibblesInWord, columns / coding.group};
}
inline Shape ZeroWords(std::int64_t rows, std::int64_t columns, const Coding& coding) {
  return {columns / coding.group, rows / kNibblesInWord};
}

}  // namespace slipway::engine
