// Ranges that come from elsewhere: of inputs, of keys and values, of weights; by Hugging Face module name.
#pragma once

#include <cstdint>
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
// Where it keeps scales instead (E4M3), the amax of a block is its scale times `factor`, in FP32.
struct StoredAmaxes {
  std::vector<SourceRegion> regions;
  DType dtype = DType::kF32;
  float factor = 1;
  std::int64_t rows = 0;  // of the grid of blocks
  std::int64_t columns = 0;
};

// What the checkpoint was calibrated to do with a layer's input.
enum class CalibratedInput : std::uint8_t { kNotSaid, kNone, kDynamic, kStatic };

struct ModuleRanges {
  std::vector<float> input_amax;     // one, or one an input channel; empty: not known
  std::optional<float> weight_amax;  // of the whole weight
  std::optional<StoredAmaxes> weight_amaxes;
  // The weight in the checkpoint is the trained one divided by it, column by column: the input has to be multiplied by
  // it. One an input channel; null: there is none.
  std::shared_ptr<const std::vector<float>> pre_quant_scale;
  // As the checkpoint was calibrated: "fp8"; "none" where the module was to stay as it is; empty: not said, or for
  // something that is no format of ours.
  std::string format;
  std::optional<std::int32_t> group;  // of that format
  CalibratedInput input = CalibratedInput::kNotSaid;
  std::string stated;  // what the checkpoint says of the weight, for messages: "INT4 in blocks of 128"; empty: nothing
};

struct AttentionRanges {
  std::optional<float> key_amax;
  std::optional<float> value_amax;
  std::string format;  // as the checkpoint was calibrated: "fp8", "nvfp4", "none"; empty: not said, or another
};

struct Ranges {
  std::string origin;  // "--ranges FILE", "the checkpoint": for messages and the report
  std::map<std::string, ModuleRanges, std::less<>> modules;       // "model.layers.0.self_attn.q_proj"
  std::map<std::string, AttentionRanges, std::less<>> attention;  // "model.layers.0.self_attn"
};

// A safetensors file of F32 tensors "<module>.input_amax" ([] or [in_features]) and "<attention module>.k_amax",
// ".v_amax" ([]). INVALID_ARGUMENT, naming tensor and file, for other names, dtypes and shapes, and for what is not
// finite and above 0 (an input_amax of 0 says that nothing went through: it is refused by name, too); for files that
// are no safetensors files or have more than 1 GiB, too. CHECKPOINT_UNREADABLE where the file cannot be read.
absl::StatusOr<Ranges> ReadRanges(const std::string& path);

}  // namespace slipway::engine
