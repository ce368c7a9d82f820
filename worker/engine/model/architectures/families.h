// The model families, one table each; static storage.
#pragma once

#include "worker/engine/model/architecture.h"

namespace slipway::engine {

extern const Architecture kLlama;
extern const Architecture kMistral;
extern const Architecture kQwen2;
extern const Architecture kQwen3;

}  // namespace slipway::engine
