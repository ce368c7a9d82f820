// The model families, one table each; static storage. To add one: its table file, a declaration and a place in the
// list.
#pragma once

#include <array>

#include "worker/engine/model/architecture.h"

namespace slipway::engine {

extern const Architecture kDeepseekV2;
extern const Architecture kDeepseekV3;
extern const Architecture kFalcon;
extern const Architecture kGemma;
extern const Architecture kGemma2;
extern const Architecture kGemma3;
extern const Architecture kGlm4Moe;
extern const Architecture kGlm4MoeLite;
extern const Architecture kGlmMoeDsa;
extern const Architecture kGpt2;
extern const Architecture kGptNeoX;
extern const Architecture kGptOss;
extern const Architecture kLlama;
extern const Architecture kLlama4;
extern const Architecture kMistral;
extern const Architecture kMixtral;
extern const Architecture kNemotron;
extern const Architecture kNemotronH;
extern const Architecture kOlmoe;
extern const Architecture kPhi3;
extern const Architecture kQwen2;
extern const Architecture kQwen2Moe;
extern const Architecture kQwen2_5Vl;
extern const Architecture kQwen3;
extern const Architecture kQwen3Moe;
extern const Architecture kQwen3Next;
extern const Architecture kQwen3_5;
extern const Architecture kQwen3_5Moe;
extern const Architecture kQwen3Vl;
extern const Architecture kQwen3VlMoe;
extern const Architecture kStarcoder2;

// In the order in which they are listed to people.
// clang-format off
inline constexpr std::array kArchitectures = {
    &kDeepseekV2,
    &kDeepseekV3,
    &kFalcon,
    &kGemma,
    &kGemma2,
    &kGemma3,
    &kGlm4Moe,
    &kGlm4MoeLite,
    &kGlmMoeDsa,
    &kGpt2,
    &kGptNeoX,
    &kGptOss,
    &kLlama,
    &kLlama4,
    &kMistral,
    &kMixtral,
    &kNemotron,
    &kNemotronH,
    &kOlmoe,
    &kPhi3,
    &kQwen2,
    &kQwen2Moe,
    &kQwen2_5Vl,
    &kQwen3,
    &kQwen3Moe,
    &kQwen3Next,
    &kQwen3_5,
    &kQwen3_5Moe,
    &kQwen3Vl,
    &kQwen3VlMoe,
    &kStarcoder2,
};
// clang-format on

}  // namespace slipway::engine
