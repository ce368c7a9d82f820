// A matrix of the model as codes and scales of a layout.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/plan/input_scales.h"
#include "worker/engine/plan/linear_weights.h"
#include "worker/engine/quantize/ranges.h"
#include "worker/engine/quantize/recipe.h"

namespace slipway::engine {

// Without ranges and group of scales. OPTION_UNSUPPORTED, naming the tensor, where the layout cannot hold it;
// `architecture` is for the message.
absl::StatusOr<QuantizedWeight> MakeQuantizedWeight(LinearWeight weight, const RecipeRule& rule, const Layout& layout,
                                                    ScaleSearch search, std::string_view architecture);

// Gives the weight what is known of it, unless scales of its input were multiplied back into it. `ranges` may be null.
// OPTION_UNSUPPORTED, naming the module, where its layout cannot hold that.
absl::Status TakeRanges(const Ranges* ranges, const AbsorbedScales& absorbed, QuantizedWeight& weight);

// A tensor that is stored for weight number `index`, under that name and in that shape. LIMIT_EXCEEDED.
absl::StatusOr<OutputTensor> StoredTensorOf(const QuantizedWeight& weight, std::int32_t index,
                                            const LayoutTensor& stored, const std::string& name, Shape shape);

// Appends the tensors that are stored for weight number `index`. LIMIT_EXCEEDED.
absl::Status AppendStored(const QuantizedWeight& weight, std::int32_t index, std::vector<OutputTensor>& tensors);

}  // namespace slipway::engine
