// The model families, one table each; static storage. To add one: its table file, a declaration and a place in the
// list.
#pragma once

#include <array>

#include "worker/engine/model/architecture.h"

namespace slipway::engine {

extern const Architecture kFalcon;
extern const Architecture kGemma;
extern const Architecture kGemma2;
extern const Architecture kGemma3;
extern const Architecture kGpt2;
extern const Architecture kGptNeoX;
extern const Architecture kGptOss;
extern const Architecture kLlama;
extern const Architecture kMistral;
extern const Architecture kMixtral;
extern const Architecture kOlmoe;
extern const Architecture kPhi3;
extern const Architecture kQwen2;
extern const Architecture kQwen2Moe;
extern const Architecture kQwen3;
extern const Architecture kQwen3Moe;
extern const Architecture kStarcoder2;

// In the order in which they are listed to people.
// clang-format off
inline constexpr std::array kArchitectures = {
    &kFalcon,
    &kGemma,
    &kGemma2,
    &kGemma3,
    &kGpt2,
    &kGptNeoX,
    &kGptOss,
    &kLlama,
    &kMistral,
    &kMixtral,
    &kOlmoe,
    &kPhi3,
    &kQwen2,
    &kQwen2Moe,
    &kQwen3,
    &kQwen3Moe,
    &kStarcoder2,
};
// clang-format on

}  // namespace slipway::engine
