// The model families, one table each; static storage. To add one: its table file, a declaration and a place in the
// list.
#pragma once

#include <array>

#include "worker/engine/model/architecture.h"

namespace slipway::engine {

extern const Architecture kLlama;
extern const Architecture kMistral;
extern const Architecture kMixtral;
extern const Architecture kQwen2;
extern const Architecture kQwen2Moe;
extern const Architecture kQwen3;
extern const Architecture kQwen3Moe;

// In the order in which they are listed to people.
inline constexpr std::array kArchitectures = {&kLlama, &kMistral, &kMixtral, &kQwen2, &kQwen2Moe, &kQwen3, &kQwen3Moe};

}  // namespace slipway::engine
