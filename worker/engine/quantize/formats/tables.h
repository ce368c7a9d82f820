// The formats, one table file each.
#pragma once

#include "worker/engine/quantize/format.h"

namespace slipway::engine {

extern const Format kFp8;
extern const Format kFp8PerChannel;
extern const Format kFp8Block;
extern const Format kInt8;
extern const Format kInt8SmoothQuant;
extern const Format kInt4;
extern const Format kInt4Awq;
extern const Format kInt4Gptq;
extern const Format kW4A8Awq;
extern const Format kNvfp4;
extern const Format kNvfp4Awq;
extern const Format kMxfp4;
extern const Format kMxfp8;

}  // namespace slipway::engine
