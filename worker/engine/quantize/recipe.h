// Which module is quantized how, by name: what --recipe says, or --quantization for short.
//
// A recipe is YAML:
//   name: attention-fp8-mlp-nvfp4       (optional)
//   config_form: auto                   (auto, modelopt, compressed-tensors, native)
//   kv_cache: none                      (none, fp8, nvfp4)
//   scale_search: amax                  (amax, mse)
//   activations: static                 (static, dynamic, none: which layouts are taken; absent: static with ranges,
//                                        otherwise what goes without)
//   default_input_amax: 2688            (the range of inputs for which nothing else is known; absent: none)
//   rules:                              (the last that matches a module wins)
//     - modules: ["*"]                  (patterns of module names, * and ?)
//       format: nvfp4                   (a format's name, or none)
//       group: 16                       (optional)
//       symmetric: true                 (optional; false: int4 and int4-awq with zero points. Absent: as the form has
//                                        it, compressed-tensors without, native AWQ with)
//     - modules: ["*self_attn*"]
//       format: fp8
//     - layers: [0, -1]                 (instead of modules, or with it: layers by number, -1 is the last)
//       format: none
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/quantize/format.h"

namespace slipway::engine {

struct RecipeRule {
  std::vector<std::string> modules;  // patterns; empty: all
  std::vector<std::int64_t> layers;  // from 0, or from the end by negative numbers; empty: all, and what has no layer
  const Format* format = nullptr;    // null: not quantized
  std::optional<std::int32_t> group;
  std::optional<bool> symmetric = {};
  [[nodiscard]] FormatChoice choice() const { return {format, symmetric}; }
};

struct Recipe {
  std::string name;
  std::optional<ConfigForm> form;  // absent: the one that most consumers load
  KvCache kv_cache = KvCache::kNone;
  ScaleSearch search = ScaleSearch::kAmax;
  std::optional<Activations> activations;
  std::optional<float> default_input_amax;
  std::vector<RecipeRule> rules;
};

// Of a file's text; INVALID_ARGUMENT, naming the line, for what is not a recipe: unknown keys too. At most 1 MiB, 1000
// rules and 10000 patterns.
absl::StatusOr<Recipe> ParseRecipe(std::string_view text);

// One rule: everything that is quantized by default, in one format.
Recipe RecipeOf(const Format& format);

// What a module (its name, its layer if it is in one, how many layers there are) becomes: the last rule that matches;
// null where that says none or no rule does. Layers from `layers` on are prediction layers.
const RecipeRule* RuleFor(const Recipe& recipe, std::string_view module, std::optional<std::int64_t> layer,
                          std::int64_t layers);

// Whether the rule's modules and layers are these, whatever other rules say.
bool Matches(const RecipeRule& rule, std::string_view module, std::optional<std::int64_t> layer, std::int64_t layers);

// Modules that a rule quantizes only if it means them: routers, embeddings, output layers, vision towers, prediction
// layers, convolutions and other small projections that engines keep. A pattern means them where it spells out what
// keeps them ("lm_head", "*router*", "mtp.*", not "*", "*mlp*" or "model.layers.*"); a rule means a numbered prediction
// layer where it has the number.
bool IsKeptByDefault(std::string_view module);

}  // namespace slipway::engine
