// A recipe (--recipe) on its way from the client's file to the plan, which alone knows what it means.
#pragma once

#include <cstddef>
#include <string_view>

#include "absl/status/status.h"

namespace slipway {

// Real ones have some hundred bytes; each task of an export carries it.
inline constexpr std::size_t kMaximumRecipeBytes = std::size_t{1} << 20;

// INVALID_ARGUMENT, naming `option`, for what no recipe can be: nothing but white space, more than
// kMaximumRecipeBytes, not UTF-8, or with a NUL in it.
absl::Status CheckRecipeText(std::string_view option, std::string_view text);

}  // namespace slipway
