// Ranges that come from elsewhere: of inputs, of keys and values, of weights; by Hugging Face module name.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/dtype.h"
#include "worker/engine/plan/source_region.h"

namespace slipway::engine {

// Amaxes of a weight's blocks where the checkpoint keeps them, one a block, row-major: regions one after the other.
struct StoredAmaxes {
  std::vector<SourceRegion> regions;
  DType dtype = DType::kF32;
  std::int64_t rows = 0;  // of the grid of blocks
  std::int64_t columns = 0;
};

struct ModuleRanges {
  std::vector<float> input_amax;     // one, or one an input channel; empty: not known
  std::optional<float> weight_amax;  // of the whole weight
  std::optional<StoredAmaxes> weight_amaxes;
  // The weight in the checkpoint is the trained one divided by it, column by column: the input has to be multiplied by
  // it. One an input channel; null: there is none.
  std::shared_ptr<const std::vector<float>> pre_quant_scale;
  std::string format;                 // as the checkpoint was calibrated for: "fp8"; empty: not said
  std::optional<std::int32_t> group;  // of that format
};

struct AttentionRanges {
  std::optional<float> key_amax;
  std::optional<float> value_amax;
};

struct Ranges {
  std::string origin;  // "--ranges FILE", "the checkpoint": for messages and the report
  std::map<std::string, ModuleRanges, std::less<>> modules;       // "model.layers.0.self_attn.q_proj"
  std::map<std::string, AttentionRanges, std::less<>> attention;  // "model.layers.0.self_attn"
};

// A safetensors file of F32 tensors "<module>.input_amax" ([] or [in_features]) and "<attention module>.k_amax",
// ".v_amax" ([]). INVALID_ARGUMENT, naming tensor and file, for other names, dtypes and shapes, and for what is not
// finite and above 0 (an input_amax of 0 says that nothing went through: it is refused by name, too).
absl::StatusOr<Ranges> ReadRanges(const std::string& path);

}  // namespace slipway::engine
