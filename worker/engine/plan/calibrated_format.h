// Which of our formats ModelOpt calibrated a module for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "worker/engine/checkpoint/quantizer_state.h"
#include "worker/engine/quantize/ranges.h"

namespace slipway::engine {

struct CalibratedFormat {
  std::string name;                   // as ModuleRanges::format
  std::optional<std::int32_t> group;  // of groups and squares
  CalibratedInput input = CalibratedInput::kNotSaid;
  std::string stated;  // as ModuleRanges::stated
};

// Of the quantizers of a linear layer; `scaled`: its weight was divided by a scale of its input's channels (AWQ,
// SmoothQuant).
CalibratedFormat FormatOf(const ModuleQuantizers& quantizers, bool scaled);

// Of an attention's quantizers of keys and values: as AttentionRanges::format. "none" where either is disabled.
std::string CacheFormatOf(const ModuleQuantizers& quantizers);

}  // namespace slipway::engine
