// The spellings of a weight's name, as tables, and what a stored name means in canonical words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace slipway::engine {

// More than any model has; beyond them a name or a shape is damage.
inline constexpr std::int64_t kMaximumLayers = 100'000;
inline constexpr std::int64_t kMaximumExperts = 100'000;

// Which number of a repeated module a stored tensor holds.
struct Repetition {
  bool repeated = false;              // false: there is no such module in the name
  std::optional<std::int64_t> index;  // absent though repeated: all of them, stacked along an axis of the tensor
};

// `head` layer `middle` expert `tail`: the canonical name, its numbers left out.
//   decoder.layers.self_attention.linear_qkv.layer_norm_weight -> "decoder.layers." (stacked) ".input_layernorm.weight"
//   decoder.layers.3.mlp.experts.experts.5.linear_fc1.weight_w
//     -> "decoder.layers." 3 ".mlp.experts." 5 ".linear_fc1.weight", part 0 of 2
struct CanonicalName {
  std::string head;
  Repetition layer;
  std::string middle;
  Repetition expert;
  std::string tail;
  std::size_t part = 0;   // which part of the weight
  std::size_t parts = 1;  // of how many that are stored each for itself, concatenated along axis 0
};

// Understands one stored name. A name that no table knows stays as it is. LIMIT_EXCEEDED for a layer or expert number
// past the limits.
absl::StatusOr<CanonicalName> ParseStoredName(std::string_view stored);

// The canonical name with its numbers. `layer` and `expert` are ignored where the name has none.
std::string Spell(const CanonicalName& name, std::int64_t layer, std::int64_t expert);

// What part `part` of a weight would be stored as, given how one of its other parts is: to name one that is missing.
std::string SpellStoredPart(std::string_view stored, std::size_t part);

}  // namespace slipway::engine
