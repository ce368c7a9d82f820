// Which layouts a recipe's formats are stored in, so that one form of config.json describes them all.
#pragma once

#include <map>
#include <span>

#include "absl/status/statusor.h"
#include "worker/engine/plan/quantization_candidates.h"
#include "worker/engine/quantize/format.h"
#include "worker/engine/quantize/ranges.h"
#include "worker/engine/quantize/recipe.h"

namespace slipway::engine {

// Whether there are scales of inputs by which weights were divided. `ranges` may be null.
bool HasPreQuantScales(const Ranges* ranges);

struct ChosenLayouts {
  ConfigForm form = ConfigForm::kModelOpt;
  std::map<FormatChoice, const Layout*> layouts;  // of all choices of the candidates' rules; static storage
};

// OPTION_UNSUPPORTED where nothing is quantized, or no form has all formats. `ranges` may be null.
absl::StatusOr<ChosenLayouts> ChooseLayouts(const Recipe& recipe, const Ranges* ranges,
                                            std::span<const QuantizationCandidate> candidates);

}  // namespace slipway::engine
