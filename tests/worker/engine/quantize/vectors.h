// Vectors (tests/data/README.md) and what a Quantizer makes of them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "tests/support/brute_force.h"
#include "worker/engine/quantize/quantizer.h"

namespace slipway::test {

using Vectors = std::map<std::string, DenseTensor>;

inline Vectors ReadVectors(const std::string& name) {
  return ReadSafetensors(SLIPWAY_TEST_DATA "/vectors/" + name + ".safetensors");
}

inline engine::Values ValuesOf(const DenseTensor& tensor) {
  return {.dtype = *engine::DTypeFromSafetensorsName(tensor.dtype),
          .bytes = std::as_bytes(std::span(tensor.bytes)),
          .rows = tensor.shape.size() > 1 ? tensor.shape[0] : 1,
          .columns = tensor.shape.back()};
}

template <class Element>
std::vector<Element> ElementsOf(const DenseTensor& tensor) {
  std::vector<Element> elements(tensor.bytes.size() / sizeof(Element));
  std::memcpy(elements.data(), tensor.bytes.data(), tensor.bytes.size());
  return elements;
}

// The values in FP32, by way of their meaning.
inline std::vector<float> FloatsOf(const engine::Values& values) {
  std::vector<float> floats(static_cast<std::size_t>(values.rows * values.columns));
  for (std::size_t i = 0; i < floats.size(); ++i) {
    if (values.dtype == engine::DType::kF32) {
      std::memcpy(&floats[i], values.bytes.data() + 4 * i, 4);
      continue;
    }
    std::uint16_t bits = 0;
    std::memcpy(&bits, values.bytes.data() + 2 * i, 2);
    const bool brain = values.dtype == engine::DType::kBF16;
    const int fraction_bits = brain ? 7 : 10;
    const int bias = brain ? 127 : 15;
    const int exponent = (bits & 0x7FFF) >> fraction_bits;
    const int fraction = bits & ((1 << fraction_bits) - 1);
    const int whole = exponent == 0 ? fraction : fraction + (1 << fraction_bits);
    const bool finite = exponent < 2 * bias + 1;
    const double special = fraction == 0 ? INFINITY : NAN;
    const double magnitude = finite ? std::ldexp(whole, std::max(exponent, 1) - bias - fraction_bits) : special;
    floats[i] = static_cast<float>((bits & 0x8000) != 0 ? -magnitude : magnitude);
  }
  return floats;
}

struct Quantized {
  std::string codes;
  std::string scales;
  std::string zero_points;
  std::vector<engine::RowStatistics> statistics;
};

struct Given {
  float tensor_scale = 1;
  std::vector<float> amaxes = {};
};

inline Quantized Quantize(engine::Quantizer& quantizer, const engine::Coding& coding, const engine::Values& values,
                          const Given& given = {}) {
  Quantized quantized;
  EXPECT_TRUE(CanCode(coding, values.rows, values.columns));
  quantized.codes.resize(static_cast<std::size_t>(CodeBytes(coding, values.rows, values.columns)));
  quantized.scales.resize(static_cast<std::size_t>(ScaleCount(coding, values.rows, values.columns) *
                                                   engine::InfoOf(coding.scale_dtype).bytes));
  if (HasZeroPoints(coding.rule)) {
    quantized.zero_points.resize(static_cast<std::size_t>(ScaleCount(coding, values.rows, values.columns)));
  }
  quantized.statistics.resize(static_cast<std::size_t>(values.rows));
  EXPECT_TRUE(quantizer
                  .Quantize({.coding = coding,
                             .values = values,
                             .tensor_scale = given.tensor_scale,
                             .amaxes = given.amaxes,
                             .codes = std::as_writable_bytes(std::span(quantized.codes)),
                             .scales = std::as_writable_bytes(std::span(quantized.scales)),
                             .zero_points = std::as_writable_bytes(std::span(quantized.zero_points)),
                             .statistics = quantized.statistics})
                  .ok());
  return quantized;
}

// How many bytes differ; -1 for another number of them.
inline std::int64_t Differences(const std::string& left, const std::string& right) {
  if (left.size() != right.size()) {
    return -1;
  }
  std::int64_t count = 0;
  for (std::size_t i = 0; i < left.size(); ++i) {
    count += left[i] != right[i] ? 1 : 0;
  }
  return count;
}

}  // namespace slipway::test
