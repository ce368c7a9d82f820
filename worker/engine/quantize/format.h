// A quantization format as data: how weights are coded, which tensors stand for them in each form of config file, what
// it needs and what it cannot take. One table file a format (worker/engine/quantize/formats/). Sources of names, scales
// and configurations: NVIDIA Model Optimizer 0.47, compressed-tensors 0.19, and the loaders of vLLM 0.32,
// SGLang 0.5.23 and transformers 5.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "worker/engine/dtype.h"
#include "worker/engine/quantize/coding.h"
#include "worker/engine/shape.h"

namespace slipway::engine {

// How config.json describes the quantization.
enum class ConfigForm : std::uint8_t {
  kModelOpt,           // quant_method "modelopt", and hf_quant_config.json beside it
  kCompressedTensors,  // quant_method "compressed-tensors"
  kNative,             // quant_method "fp8", "awq", "gptq", "mxfp4"
};
std::string_view NameOf(ConfigForm form);  // "compressed-tensors"

// What engines keep keys and values in.
enum class KvCache : std::uint8_t { kNone, kFp8, kNvfp4 };

// What an engine does with a layer's input.
enum class Activations : std::uint8_t {
  kNone,     // nothing: weights alone are quantized
  kDynamic,  // quantizes it with scales of its own values
  kStatic,   // quantizes it with a stored scale, which needs a range
};

// What a tensor that stands for a weight [N, K] holds.
enum class StoredRole : std::uint8_t {
  kCodes,
  kScales,                // one a block
  kTensorScale,           // the scale of kTensor, or the second one of two levels, as TensorScale gives it
  kInputScale,            // amax of the input / input_bound
  kInputScaleReciprocal,  // input_bound / amax of the input
  kShape,                 // I64 [2]: N, K
  kZeroPoints,            // the constant words that symmetric codes have where the form wants zero points
  kGroupIndex,            // I32 [K]: k / group
  kPreQuantScale,         // [K]: the input is multiplied by it; only where the source has one that nothing took in
};

struct StoredTensor {
  std::string_view suffix;  // "weight_scale", after the module's name and a dot
  StoredRole role = StoredRole::kCodes;
  DType dtype = DType::kF32;  // of kScales: Coding::scale_dtype
  bool model_dtype = false;   // instead: that of the unquantized weights (BF16 or F16), which is then scale_dtype, too
  Shape (*shape)(std::int64_t rows, std::int64_t columns, const Coding& coding) = nullptr;
};

// Who loads it, as bits.
inline constexpr std::uint8_t kLoadsVllm = 1;
inline constexpr std::uint8_t kLoadsSglang = 2;
inline constexpr std::uint8_t kLoadsTensorRtLlm = 4;
inline constexpr std::uint8_t kLoadsTransformers = 8;

// A format in one form of config file.
struct Layout {
  ConfigForm form = ConfigForm::kModelOpt;
  Activations activations = Activations::kNone;
  Coding coding;                          // `search` and, where groups can be chosen, `group` are set by the plan
  std::span<const StoredTensor> tensors;  // in the order of writing
  std::string_view algorithm;             // ModelOpt: quant_algo; compressed-tensors: format; native: quant_method
  float input_bound = 448;                // of kStatic: 448 (FP8), 127 (INT8), 6 * 448 (NVFP4)
  std::uint8_t loaders = 0;               // kLoads*
  std::uint8_t expert_loaders = 0;        // the same where a model has experts
};

struct Format {
  std::string_view name;            // "nvfp4": --quantization
  std::string_view summary;         // "NVFP4 E2M1, blocks of 16"
  std::span<const Layout> layouts;  // one or more; of those that fit, `auto` takes the one that most consumers load,
                                    // the first of equals
  double bits = 0;                  // a weight, scales included, of large layers
  std::span<const std::int32_t> groups;  // sizes of groups that can be chosen; empty: the coding's
  std::int64_t column_multiple = 1;      // K, beside `group` of kGroup
  std::int64_t row_multiple = 1;         // N
  bool shares_tensor_scale = false;      // fused siblings have one TensorScale and one input range
  bool needs_calibration = false;        // without ranges or a calibrated checkpoint it is refused
  double error_bound = 0;                // relative Frobenius error of weights like N(0, s), at most
};

std::span<const Format* const> Formats();
const Format* FindFormat(std::string_view name);  // null where there is none

}  // namespace slipway::engine
