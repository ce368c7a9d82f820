// The families, one table each; static storage. To add one: its table, a declaration and a place in the list.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "worker/engine/target/tensorrt_llm/family.h"

namespace slipway::engine::tensorrt_llm {

extern const Family kDeepseekV2;
extern const Family kFalcon;
extern const Family kGemma;
extern const Family kGemma2;
extern const Family kGemma3;
extern const Family kGpt2;
extern const Family kGptNeoX;
extern const Family kLlama;
extern const Family kMistral;
extern const Family kMixtral;
extern const Family kNemotron;
extern const Family kPhi3;
extern const Family kQwen2;
extern const Family kQwen2Moe;
extern const Family kQwen3;
extern const Family kQwen3Moe;
extern const Family kStarcoder2;

inline constexpr std::array kFamilies = {
    &kDeepseekV2, &kFalcon,   &kGemma, &kGemma2, &kGemma3,   &kGpt2,  &kGptNeoX,  &kLlama,      &kMistral,
    &kMixtral,    &kNemotron, &kPhi3,  &kQwen2,  &kQwen2Moe, &kQwen3, &kQwen3Moe, &kStarcoder2,
};

// The family of a Hugging Face class, or null.
const Family* FindFamily(std::string_view architecture);

// Why there is none, and what would work instead, in a sentence.
std::string WhyNoFamily(std::string_view architecture);

}  // namespace slipway::engine::tensorrt_llm
