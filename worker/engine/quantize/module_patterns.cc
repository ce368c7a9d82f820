#include "worker/engine/quantize/module_patterns.h"

#include <algorithm>
#include <array>

#include "worker/engine/quantize/recipe.h"

namespace slipway::engine {
namespace {

constexpr std::array<std::string_view, 7> kEmbeddings = {
    "embed_tokens", "word_embeddings", "embeddings", "embed_in", "wte", "wpe", "pos_embed"};

// Model Optimizer's list in Hugging Face's names, and the same things in families that it does not know.
constexpr std::array kKept = std::to_array<std::string_view>({
    // Routers choose experts: an error there changes which ones.
    "*.gate",
    "*router*",
    "*shared_expert_gate*",
    // Output layers.
    "lm_head",
    "*.lm_head",
    "*output_layer*",
    "*embed_out",
    "*.proj_out",
    "proj_out",
    "*shared_head*",
    // Convolutions and projections of a few rows.
    "*conv1d*",
    "*linear_attn.in_proj_a",
    "*linear_attn.in_proj_b",
    "*linear_attn.in_proj_ba",
    "*fc1_latent_proj*",
    "*fc2_latent_proj*",
    "*.indexer.*",
    // Prediction layers, where a name tells them.
    "mtp.*",
    "*.mtp.*",
    "*.eh_proj",
    // Vision.
    "*visual*",
    "*vision_tower*",
    "*vision_model*",
    "*embed_vision*",
    "*multi_modal_projector*",
});

std::string_view LastPart(std::string_view module) { return module.substr(module.rfind('.') + 1); }

}  // namespace

bool MatchesPattern(std::string_view pattern, std::string_view name) {
  constexpr std::size_t kNone = std::string_view::npos;
  std::size_t at = 0;         // in the pattern
  std::size_t star = kNone;   // the last "*" passed
  std::size_t star_name = 0;  // what it takes ends here
  for (std::size_t i = 0; i < name.size();) {
    if (at < pattern.size() && pattern[at] == '*') {
      star = at++;
      star_name = i;
    } else if (at < pattern.size() && (pattern[at] == '?' || pattern[at] == name[i])) {
      ++at;
      ++i;
    } else if (star != kNone) {
      at = star + 1;
      i = ++star_name;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', at) == kNone;
}

bool IsEmbedding(std::string_view module) {
  return std::ranges::find(kEmbeddings, LastPart(module)) != kEmbeddings.end();
}

bool IsKeptByDefault(std::string_view module) {
  return IsEmbedding(module) ||
         std::ranges::any_of(kKept, [&](std::string_view pattern) { return MatchesPattern(pattern, module); });
}

}  // namespace slipway::engine
