// Names of modules: patterns of recipes, and what kind of module a name tells.
#pragma once

#include <string_view>

namespace slipway::engine {

// Whether the whole name matches: "*" is any text, "?" any character, everything else itself. Linear in each.
[[nodiscard]] bool MatchesPattern(std::string_view pattern, std::string_view name);

// A table of vectors that are looked up, no matrix that multiplies: of tokens or of positions.
[[nodiscard]] bool IsEmbedding(std::string_view module);

}  // namespace slipway::engine
