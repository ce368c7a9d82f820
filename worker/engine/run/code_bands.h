// From the values of a quantized weight to the bytes of its outputs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/quantize/quantizer.h"
#include "worker/engine/run/scale_stash.h"

namespace slipway::engine {

// What quantizes: `tensor_scales` has one for each of ExportPlan::scale_groups, as TensorScale gives it.
struct Quantization {
  Quantizer* quantizer = nullptr;
  std::span<const float> tensor_scales = {};
  ScaleStash* stash = nullptr;  // of the shard, or none: then scales are made on their own
  // Instead of coding, where it is set: looks at the values of a weight's rows from `first_row` on. From any thread.
  std::function<absl::Status(const QuantizedWeight& weight, std::int64_t first_row, const Values& values)> probe = {};
};

// Codes whole bands, with scales that go into the stash where there is a place for them: `values` are those of `weight`
// from element `first` on, `amaxes` what is given for their blocks, or nothing; `output` is what `role` (kCodes,
// kScales or kZeroPoints) makes of them; `statistics` gets one entry a row for codes. CHECKPOINT_CORRUPT for values
// that are not finite; errors of the quantizer.
absl::Status CodeBands(const QuantizedWeight& weight, const QuantizedPart& made, const Quantization& quantization,
                       std::span<const std::byte> values, std::span<const float> amaxes, std::int64_t first,
                       std::span<std::byte> output, std::vector<RowStatistics>& statistics);

// Bytes [first, first + output.size()), whole elements, of an output of `plan` for which no values are needed.
void MakeSmallOutput(const ExportPlan& plan, const OutputTensor& tensor, std::span<const float> tensor_scales,
                     std::int64_t first, std::span<std::byte> output);

}  // namespace slipway::engine
