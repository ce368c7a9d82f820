#include "worker/engine/plan/calibrated_format.h"

#include <array>
#include <string_view>

#include <fmt/format.h>

namespace slipway::engine {
namespace {

// What a weight's quantizer looks like; fields that are not written are 0.
struct Row {
  std::string_view name;
  std::string_view scaled_name;  // where the input is scaled; empty: no such format
  QuantizerSettings weight;
  bool any_group = false;  // block_columns may be any, and is the group
};

constexpr std::int64_t kNvfp4Block = 16;
constexpr std::int64_t kMxBlock = 32;

const std::array<Row, 8>& Rows() {
  static const std::array<Row, 8> kRows = {{
      {"fp8", "", {.exponent_bits = 4, .mantissa_bits = 3}},
      {"fp8-per-channel", "", {.exponent_bits = 4, .mantissa_bits = 3, .by_row = true}},
      {"mxfp8", "", {.exponent_bits = 4, .mantissa_bits = 3, .block_columns = kMxBlock, .scale_exponent = 8}},
      {"nvfp4",
       "nvfp4-awq",
       {.exponent_bits = 2,
        .mantissa_bits = 1,
        .block_columns = kNvfp4Block,
        .scale_exponent = 4,
        .scale_mantissa = 3}},
      {"mxfp4", "", {.exponent_bits = 2, .mantissa_bits = 1, .block_columns = kMxBlock, .scale_exponent = 8}},
      {"int4", "int4-awq", {.integer_bits = 4}, true},
      {"int8", "int8-smoothquant", {.integer_bits = 8, .by_row = true}},
      {"fp8-block", "", {.exponent_bits = 4, .mantissa_bits = 3}, true},
  }};
  return kRows;
}

bool IsE4M3(const QuantizerSettings& settings) {
  return settings.integer_bits == 0 && settings.exponent_bits == 4 && settings.mantissa_bits == 3;
}

bool HasNoBlocks(const QuantizerSettings& settings) {
  return settings.block_columns == 0 && settings.block_rows == 0 && settings.scale_exponent == 0;
}

bool Fits(const Row& row, const QuantizerSettings& weight) {
  const QuantizerSettings& wanted = row.weight;
  const bool elements = wanted.integer_bits == weight.integer_bits && wanted.exponent_bits == weight.exponent_bits &&
                        wanted.mantissa_bits == weight.mantissa_bits;
  const bool scales = wanted.scale_exponent == weight.scale_exponent && wanted.scale_mantissa == weight.scale_mantissa;
  if (!elements || !scales) {
    return false;
  }
  if (row.any_group) {  // groups of a row, or squares
    const bool square = wanted.integer_bits == 0;
    return weight.block_columns > 0 && weight.block_rows == (square ? weight.block_columns : 0);
  }
  // The axis says nothing more where there are blocks.
  return wanted.block_columns == weight.block_columns && weight.block_rows == 0 &&
         (weight.block_columns > 0 || wanted.by_row == weight.by_row);
}

const QuantizerSettings* Find(const ModuleQuantizers& quantizers, std::string_view name) {
  const auto found = quantizers.find(name);
  return found == quantizers.end() ? nullptr : &found->second;
}

CalibratedInput InputOf(const ModuleQuantizers& quantizers) {
  const QuantizerSettings* const input = Find(quantizers, "input_quantizer");
  if (input == nullptr) {
    return CalibratedInput::kNotSaid;
  }
  if (!input->enabled) {
    return CalibratedInput::kNone;
  }
  // NVFP4 has scales of the values at hand under a stored one.
  const bool two_levels = input->scale_exponent == 4;
  return input->dynamic && !two_levels ? CalibratedInput::kDynamic : CalibratedInput::kStatic;
}

}  // namespace

CalibratedFormat FormatOf(const ModuleQuantizers& quantizers, bool scaled) {
  CalibratedFormat format{.name = {}, .group = {}, .input = InputOf(quantizers), .stated = {}};
  const QuantizerSettings* weight = Find(quantizers, "weight_quantizer");
  const QuantizerSettings* const first = Find(quantizers, "weight_quantizer.0");
  const QuantizerSettings* const second = Find(quantizers, "weight_quantizer.1");
  if (first != nullptr && second != nullptr && second->enabled) {
    format.stated = fmt::format("{}, then {}", DescribeSettings(*first), DescribeSettings(*second));
    const bool is_w4a8 = first->enabled && first->integer_bits == 4 && first->block_columns > 0 &&
                         first->block_rows == 0 && IsE4M3(*second) && HasNoBlocks(*second) && !second->by_row;
    if (is_w4a8) {
      format.name = "w4a8-awq";
      format.group = static_cast<std::int32_t>(first->block_columns);
    }
    return format;
  }
  weight = weight != nullptr ? weight : first;
  if (weight == nullptr) {
    return format;
  }
  format.stated = DescribeSettings(*weight);
  if (!weight->enabled) {
    format.name = "none";
    return format;
  }
  for (const Row& row : Rows()) {
    if (Fits(row, *weight)) {
      format.name = scaled ? row.scaled_name : row.name;
      format.group = row.any_group ? std::optional(static_cast<std::int32_t>(weight->block_columns)) : std::nullopt;
      return format;
    }
  }
  return format;
}

std::string CacheFormatOf(const ModuleQuantizers& quantizers) {
  const QuantizerSettings* const key = Find(quantizers, "k_bmm_quantizer");
  const QuantizerSettings* const value = Find(quantizers, "v_bmm_quantizer");
  if (key == nullptr || value == nullptr) {
    return {};
  }
  if (!key->enabled || !value->enabled) {
    return "none";
  }
  const auto is_nvfp4 = [](const QuantizerSettings& settings) {
    return settings.integer_bits == 0 && settings.exponent_bits == 2 && settings.mantissa_bits == 1 &&
           settings.block_columns == kNvfp4Block && settings.scale_exponent == 4;
  };
  if (IsE4M3(*key) && IsE4M3(*value) && HasNoBlocks(*key) && HasNoBlocks(*value)) {
    return "fp8";
  }
  return is_nvfp4(*key) && is_nvfp4(*value) ? "nvfp4" : "";
}

}  // namespace slipway::engine
