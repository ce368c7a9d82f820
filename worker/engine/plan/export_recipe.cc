#include "worker/engine/plan/export_recipe.h"

#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/plan/refusal.h"

namespace slipway::engine {
namespace {

// What the checkpoint was calibrated to do with inputs, where all its modules agree.
std::optional<Activations> ActivationsOf(const Ranges& ranges) {
  std::optional<Activations> common;
  for (const auto& [module, given] : ranges.modules) {
    if (given.format == "none" || given.input == CalibratedInput::kNotSaid) {
      continue;
    }
    const Activations activations = given.input == CalibratedInput::kStatic    ? Activations::kStatic
                                    : given.input == CalibratedInput::kDynamic ? Activations::kDynamic
                                                                               : Activations::kNone;
    if (common && *common != activations) {
      return std::nullopt;
    }
    common = activations;
  }
  return common;
}

// Each module as the checkpoint was calibrated for.
absl::StatusOr<Recipe> CalibratedRecipe(const Ranges& ranges) {
  Recipe recipe;
  recipe.name = "checkpoint";
  for (const auto& [module, given] : ranges.modules) {
    const Format* const format = FindFormat(given.format);
    if (given.format == "none") {
      continue;
    }
    if (format == nullptr) {
      return Refused(module, fmt::format("the checkpoint was calibrated for a format ('{}') that is not known; name "
                                         "one with --quantization",
                                         given.format));
    }
    recipe.rules.push_back({.modules = {module}, .layers = {}, .format = format, .group = given.group});
  }
  recipe.activations = ActivationsOf(ranges);
  for (const auto& [attention, given] : ranges.attention) {
    recipe.kv_cache = given.format == "fp8"     ? KvCache::kFp8
                      : given.format == "nvfp4" ? KvCache::kNvfp4
                                                : recipe.kv_cache;
  }
  return recipe;
}

// A format that only calibration can make, asked for by name: what the checkpoint was calibrated for must be that.
absl::Status CheckIsCalibratedFor(const Format& format, const Ranges* calibrated) {
  if (calibrated == nullptr) {
    return Refused("",
                   fmt::format("--quantization {}: it needs a checkpoint that ModelOpt calibrated for it, which this "
                               "one was not; formats that need none are nvfp4, fp8, int8 and int4",
                               format.name));
  }
  for (const auto& [module, given] : calibrated->modules) {
    if (given.format != "none" && given.format != format.name) {
      return Refused(module,
                     given.format.empty()
                         ? fmt::format("--quantization {}: the checkpoint was calibrated for a format that is "
                                       "not known; choose one that needs no calibration",
                                       format.name)
                         : fmt::format("--quantization {}: the checkpoint was calibrated for {}; --quantization "
                                       "checkpoint exports each module as it was calibrated",
                                       format.name, given.format));
    }
  }
  return absl::OkStatus();
}

// Without a recipe nothing is passed over that says how to quantize.
absl::Status CheckNothingIsAsked(const ExportOptions& options) {
  const auto asks = [](const std::string& word, std::string_view neutral) { return !word.empty() && word != neutral; };
  const char* const option = asks(options.kv_cache, "none")       ? "--kv-cache"
                             : asks(options.config_form, "auto")  ? "--config-form"
                             : asks(options.scale_search, "amax") ? "--scale-search"
                             : asks(options.ranges, "")           ? "--ranges"
                                                                  : nullptr;
  return option == nullptr
             ? absl::OkStatus()
             : Refused("", fmt::format("{} goes with quantized weights: give --quantization or --recipe", option));
}

// What the words of options say instead of the recipe.
void ApplyOptions(const ExportOptions& options, Recipe& recipe) {
  if (!options.kv_cache.empty()) {
    recipe.kv_cache = options.kv_cache == "fp8"     ? KvCache::kFp8
                      : options.kv_cache == "nvfp4" ? KvCache::kNvfp4
                                                    : KvCache::kNone;
  }
  if (!options.config_form.empty()) {
    recipe.form = ConfigFormOf(options.config_form);  // auto is none of them
  }
  if (!options.scale_search.empty()) {
    recipe.search = options.scale_search == "mse" ? ScaleSearch::kSquaredError : ScaleSearch::kAmax;
  }
}

}  // namespace

absl::StatusOr<std::optional<Recipe>> RecipeFor(const ExportOptions& options, const Ranges* calibrated) {
  std::optional<Recipe> recipe;
  if (!options.recipe.empty()) {
    SLIPWAY_ASSIGN_OR_RETURN(recipe, ParseRecipe(options.recipe));
  } else if (options.quantization == "checkpoint" || (options.quantization.empty() && calibrated != nullptr)) {
    if (calibrated == nullptr) {
      return Refused("", "--quantization checkpoint: the checkpoint was not calibrated by ModelOpt; name a format");
    }
    SLIPWAY_ASSIGN_OR_RETURN(recipe, CalibratedRecipe(*calibrated));
  } else if (options.quantization.empty() || options.quantization == "none") {
    SLIPWAY_RETURN_IF_ERROR(CheckNothingIsAsked(options));
    return std::nullopt;
  } else if (const Format* const format = FindFormat(options.quantization)) {
    if (format->needs_calibration) {
      SLIPWAY_RETURN_IF_ERROR(CheckIsCalibratedFor(*format, calibrated));
      SLIPWAY_ASSIGN_OR_RETURN(recipe, CalibratedRecipe(*calibrated));
    } else {
      recipe = RecipeOf(*format);
    }
  } else {
    return Error(Reason::kInvalidArgument, fmt::format("--quantization: there is no '{}'", options.quantization));
  }
  ApplyOptions(options, *recipe);
  return recipe;
}

}  // namespace slipway::engine
