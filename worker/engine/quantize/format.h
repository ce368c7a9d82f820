// A quantization format as data: how weights are coded, which tensors stand for them in each form of config file, what
// it needs and what it cannot take. One table file a format (worker/engine/quantize/formats/). Sources of names, scales
// and configurations: NVIDIA Model Optimizer 0.47, compressed-tensors 0.19, and the loaders of vLLM 0.32,
// SGLang 0.5.23 and transformers 5.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
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
  kTensorRtLlm,        // of ranks' files for TensorRT-LLM's engines (target/tensorrt_llm/): not chosen by name
};
std::string_view NameOf(ConfigForm form);  // "compressed-tensors"
std::optional<ConfigForm> ConfigFormOf(std::string_view name);

// What engines keep keys and values in.
enum class KvCache : std::uint8_t { kNone, kFp8, kNvfp4 };

// What an engine does with a layer's input.
enum class Activations : std::uint8_t {
  kNone,     // nothing: weights alone are quantized
  kDynamic,  // quantizes it with scales of its own values
  kStatic,   // quantizes it with a stored scale, which needs a range
};
std::string_view NameOf(Activations activations);  // "dynamic"

// What a tensor that stands for a weight [N, K] holds.
enum class StoredRole : std::uint8_t {
  kCodes,
  kScales,                // one a block
  kTensorScale,           // the scale of kTensor, or the second one of two levels, as TensorScale gives it
  kFloat8Scale,           // amax of the weight and its fused siblings / 448: engines turn INT4 codes into FP8 with it
  kInputScale,            // amax of the input / input_bound
  kInputScaleReciprocal,  // input_bound / amax of the input
  kShape,                 // I64 [2]: N, K
  kZeroPoints,            // one a block, of codings that have them, in words as PackZeroPoints makes them
  kConstantZeroPoints,    // the `word`s, all alike, that symmetric codes have where the form wants zero points
  kGroupIndex,            // I32 [K]: k / group
  kPreQuantScale,         // [K]: the input is multiplied by it; only where the source has one that nothing took in.
                          // A layout without it needs weights that took it in
};

// Where ranks of a server keep several modules in one matrix, or experts of a layer in one stack of them, how many
// elements a tensor has that holds one scale a matrix. Those of modules that are joined are alike where the format
// shares them, and of an expert.
enum class JoinedScales : std::uint8_t {
  kOne,         // LayoutTensor::shape; of experts [E, *shape], an input's scale is one for all of them
  kEach,        // [modules]; of experts [E, modules], [E] of one module
  kEachButOne,  // [modules]; of experts [E]
};

struct LayoutTensor {
  std::string_view suffix;  // "weight_scale", after the module's name and a dot
  StoredRole role = StoredRole::kCodes;
  DType dtype = DType::kF32;  // of kScales: Coding::scale_dtype
  bool model_dtype = false;   // instead: that of the unquantized weights (BF16 or F16); of kScales and kTensorScale it
                              // is scale_dtype, too: the plan sets it
  std::uint32_t word = 0;     // of kConstantZeroPoints
  JoinedScales joined = JoinedScales::kOne;
  Shape (*shape)(std::int64_t rows, std::int64_t columns, const Coding& coding) = nullptr;  // for what CanCode takes
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
  std::span<const LayoutTensor> tensors;  // in the order of writing
  std::string_view algorithm;             // ModelOpt: quant_algo; compressed-tensors: format; native: quant_method
  float input_bound = 0;                  // what the input's amax becomes: 448 (FP8, MXFP8), 127 and 127.5 (INT8),
                                          // 6 * 448 (NVFP4), 6 (MXFP4); 0 where it is not quantized
  std::uint8_t loaders = 0;               // kLoads*
  std::uint8_t expert_loaders = 0;        // the same where a model has experts
  bool stacked_experts = false;  // for nothing but experts of a layer in one tensor, as GPT-OSS has them: shapes are an
                                 // expert's, below [E]; "_" instead of the dot before suffixes. Never taken by `auto`
};

// Whether a tensor of `role` stands for a weight in the layout.
[[nodiscard]] bool Stores(const Layout& layout, StoredRole role);

struct Format {
  std::string_view name;            // "nvfp4": --quantization
  std::string_view summary;         // "NVFP4 E2M1, blocks of 16"
  std::span<const Layout> layouts;  // one or more; the first one's activations are the default. Of those that fit,
                                    // `auto` takes the one that most consumers load, the first of equals; so does
                                    // a form that has several
  double bits = 0;                  // a weight, scales included, of large layers
  std::span<const std::int32_t> groups = {};  // sizes of groups that can be chosen; empty: the coding's
  std::int64_t column_multiple = 1;           // K, beside `group` of kGroup
  std::int64_t row_multiple = 1;              // N
  bool shares_tensor_scale = false;           // fused siblings have one TensorScale and one input range
  bool needs_calibration = false;             // --quantization wants a calibrated checkpoint, a recipe warns
  double error_bound = 0;                     // relative Frobenius error of weights like N(0, s), at most
};

std::span<const Format* const> Formats();
const Format* FindFormat(std::string_view name);  // null where there is none

// Why a weight cannot be stored so, as the rest of a sentence ("its 100 columns are no multiple of 16"); nothing where
// it can. `group` is that of kGroup where it was chosen, 0: the coding's. What fused siblings and ranks of a server ask
// for besides is not looked at.
std::optional<std::string> WhyNot(const Format& format, const Layout& layout, std::int64_t rows, std::int64_t columns,
                                  std::int32_t group = 0);

// What a layout is chosen by.
struct LayoutWish {
  std::optional<ConfigForm> form = {};          // absent: that of the layout that most consumers load
  std::optional<bool> symmetric = {};           // without zero points, or with; absent: as the form's writers have it
  std::optional<Activations> activations = {};  // absent: the format's default, or what goes without ranges
  bool has_ranges = false;                      // of inputs: kStatic is not taken without
  bool has_experts = false;
};

// Null where none fits; then WhyNoLayout says what is missing and what to ask for instead, in a sentence or two.
const Layout* ChooseLayout(const Format& format, const LayoutWish& wish);
std::string WhyNoLayout(const Format& format, const LayoutWish& wish);

// A format as a recipe asks for it; `symmetric` as above.
struct FormatChoice {
  const Format* format = nullptr;
  std::optional<bool> symmetric = {};
  auto operator<=>(const FormatChoice&) const = default;  // NOLINT(modernize-use-nullptr): as of LeaseKey
};

// The form in which all formats of a recipe have a layout, the one that most consumers load; absent where there is
// none. Of a single format that is ChooseLayout's, of a mixture no native one. `wish.form` and `wish.symmetric` are not
// looked at.
std::optional<ConfigForm> ChooseForm(std::span<const FormatChoice> formats, const LayoutWish& wish);

}  // namespace slipway::engine
