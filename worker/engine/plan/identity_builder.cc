#include "worker/engine/plan/identity_builder.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/error.h"
#include "worker/engine/plan/export_options.h"
#include "worker/engine/plan/identity_config.h"
#include "worker/engine/plan/output_size.h"
#include "worker/engine/plan/source_quantization.h"
#include "worker/engine/target/hf_directory.h"
#include "worker/engine/target/huggingface.h"
#include "worker/engine/transform/block_scales.h"
#include "worker/engine/transform/element_transform.h"

namespace slipway::engine {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kScaleSuffix = "_scale_inv";

// Of tensors that belong to quantized weights or activations, and mean nothing without them.
constexpr std::array<std::string_view, 7> kScaleSuffixes = {
    kScaleSuffix, ".weight_scale", ".input_scale", ".activation_scale", ".k_scale", ".v_scale", ".q_scale"};

// transformers keeps these in FP32 whatever dtype is asked for: they decide between experts.
constexpr std::string_view kRoutingBias = "e_score_correction_bias";

bool IsFloatingPoint(DType dtype) {
  return dtype == DType::kF64 || dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

bool IsFp8(DType dtype) {
  return dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2 || dtype == DType::kF8E4M3FNUZ ||
         dtype == DType::kF8E5M2FNUZ || dtype == DType::kF8E8M0;
}

SourceRegion Whole(const StoredTensor& stored, std::size_t index) {
  return {.tensor = static_cast<std::int32_t>(index), .offsets = Shape(stored.shape.size(), 0), .sizes = stored.shape};
}

class Builder {
 public:
  explicit Builder(ExportPlan& plan) : plan_(plan), checkpoint_(*plan.checkpoint) {}

  absl::Status Build() {
    const ordered_json config = ordered_json::parse(checkpoint_.hf_config, nullptr, /*allow_exceptions=*/false);
    if (!config.is_object()) {
      return Error(Reason::kConfigurationInvalid, "is not a JSON object", {.file = checkpoint_.path + "/config.json"});
    }
    const StatedFamily family = FamilyOf(config);
    plan_.architecture = family.architecture;
    plan_.model_type = family.model_type;
    SLIPWAY_RETURN_IF_ERROR(CheckOptions());
    SLIPWAY_ASSIGN_OR_RETURN(quantization_, QuantizationOf(checkpoint_, config));
    if (plan_.options.dtype && !quantization_.method.empty() && !quantization_.blocks) {
      return Error(Reason::kOptionUnsupported,
                   fmt::format("--dtype cannot be followed: the weights are quantized ({}), and only FP8 with "
                               "weight_block_size is dequantized; without --dtype they are copied as they are",
                               quantization_.method),
                   {.file = checkpoint_.path + "/config.json"});
    }
    // One config.json cannot say what old codes are and what new ones are.
    if (!plan_.options.dtype && !quantization_.method.empty() && AsksForQuantization(plan_.options)) {
      return Error(
          Reason::kOptionUnsupported,
          fmt::format("the weights are quantized already ({}), which is not done again: {}", quantization_.method,
                      quantization_.blocks ? "give --dtype bf16, which decodes them first"
                                           : "export the model from before it was quantized"),
          {.file = checkpoint_.path + "/config.json"});
    }
    SLIPWAY_RETURN_IF_ERROR(BuildTensors());
    SLIPWAY_RETURN_IF_ERROR(TakeFiles());
    plan_.texts.push_back(
        {.path = "config.json", .content = MakeIdentityConfig(checkpoint_, plan_.options, plan_.warnings)});
    Warn();
    return absl::OkStatus();
  }

 private:
  [[nodiscard]] absl::Status CheckOptions() const {
    for (const auto& [given, name] : {std::pair(&plan_.options.hf_config, "--hf-config"),
                                      std::pair(&plan_.options.architecture, "--architecture")}) {
      if (!given->empty()) {
        return Error(Reason::kInvalidArgument,
                     fmt::format("{} does not go with a Hugging Face directory, whose own config.json counts", name),
                     {.file = checkpoint_.path});
      }
    }
    return absl::OkStatus();
  }

  absl::Status BuildTensors() {
    const std::vector<StoredTensor>& stored = checkpoint_.tensors;
    std::vector<std::size_t> order(stored.size());
    for (std::size_t i = 0; i < stored.size(); ++i) {
      order[i] = i;
    }
    std::ranges::sort(order, {}, [&stored](std::size_t i) {
      const Piece& piece = stored[i].pieces.front();
      return std::tuple(piece.file, piece.position, piece.length, i);
    });
    for (const std::size_t index : order) {
      if (!IsConsumed(index)) {
        SLIPWAY_RETURN_IF_ERROR(Emit(index));
      }
    }
    return absl::OkStatus();
  }

  [[nodiscard]] const StoredTensor* Find(std::string_view name) const {
    const auto found = std::ranges::lower_bound(checkpoint_.tensors, name, {}, &StoredTensor::name);
    return found != checkpoint_.tensors.end() && found->name == name ? &*found : nullptr;
  }
  [[nodiscard]] std::size_t IndexOf(const StoredTensor& stored) const {
    return static_cast<std::size_t>(&stored - checkpoint_.tensors.data());
  }

  // Whether it is the scale of FP8 weights that are dequantized.
  [[nodiscard]] bool IsConsumed(std::size_t index) const {
    const std::string& name = checkpoint_.tensors[index].name;
    if (!plan_.options.dtype || !quantization_.blocks || !name.ends_with(kScaleSuffix)) {
      return false;
    }
    const StoredTensor* weight = Find(std::string_view(name).substr(0, name.size() - kScaleSuffix.size()));
    return weight != nullptr && weight->dtype == DType::kF8E4M3;
  }

  absl::Status Emit(std::size_t index) {
    const StoredTensor& stored = checkpoint_.tensors[index];
    OutputTensor output;
    output.name = stored.name;
    output.shape = stored.shape;
    output.regions = {Whole(stored, index)};
    output.transform = {.add_one = false, .from = stored.dtype, .to = stored.dtype};
    if (plan_.options.dtype) {
      SLIPWAY_RETURN_IF_ERROR(Convert(stored, output));
    }
    output.dtype = output.transform.to;
    SLIPWAY_RETURN_IF_ERROR(SetBytes(stored.name, output));
    plan_.tensors.push_back(std::move(output));
    return absl::OkStatus();
  }

  absl::Status Convert(const StoredTensor& stored, OutputTensor& output) {
    if (IsFp8(stored.dtype)) {
      return Dequantize(stored, output);
    }
    if (quantization_.blocks &&
        std::ranges::any_of(kScaleSuffixes, [&](std::string_view suffix) { return stored.name.ends_with(suffix); })) {
      return Error(Reason::kTensorUnknown, "is a scale, but there are no FP8 weights that are dequantized with it",
                   {.tensor = stored.name});
    }
    if (!IsFloatingPoint(stored.dtype)) {
      return absl::OkStatus();
    }
    if (stored.dtype == DType::kF32 && stored.name.ends_with(kRoutingBias)) {
      ++routing_biases_;
      return absl::OkStatus();
    }
    output.transform.to = *plan_.options.dtype;
    return CanTransform(output.transform)
               ? absl::OkStatus()
               : Error(Reason::kCheckpointUnsupported,
                       fmt::format("is {}, which --dtype cannot convert", InfoOf(stored.dtype).safetensors_name),
                       {.tensor = stored.name});
  }

  absl::Status Dequantize(const StoredTensor& stored, OutputTensor& output) {
    const auto unsupported = [&stored](const std::string& what) {
      return Error(Reason::kCheckpointUnsupported, what, {.tensor = stored.name});
    };
    if (!quantization_.blocks || stored.dtype != DType::kF8E4M3) {
      return unsupported(fmt::format(
          "is {}, which --dtype cannot convert: only F8_E4M3 is, where config.json has a quantization_config of "
          "quant_method fp8 with weight_block_size",
          InfoOf(stored.dtype).safetensors_name));
    }
    const std::string scale_name = stored.name + std::string(kScaleSuffix);
    const StoredTensor* scale = Find(scale_name);
    if (scale == nullptr) {
      return Error(Reason::kTensorMissing, fmt::format("is the scale of {}, which is stored as F8_E4M3", stored.name),
                   {.tensor = scale_name});
    }
    if (stored.shape.size() != 2) {
      return unsupported(fmt::format("has shape [{}]: only matrices are dequantized", fmt::join(stored.shape, ", ")));
    }
    const BlockShape& block = *quantization_.blocks;
    const auto blocks = [](std::int64_t extent, std::int64_t size) { return extent / size + (extent % size != 0); };
    const Shape expected = {blocks(stored.shape[0], block.rows), blocks(stored.shape[1], block.columns)};
    if (scale->shape != expected) {
      return Error(
          Reason::kTensorShapeMismatch,
          fmt::format("has shape [{}], but {} of shape [{}] has [{}] blocks of {} x {}", fmt::join(scale->shape, ", "),
                      stored.name, fmt::join(stored.shape, ", "), fmt::join(expected, ", "), block.rows, block.columns),
          {.tensor = scale_name});
    }
    output.transform.to = *plan_.options.dtype;
    if (!CanDequantize(output.transform, scale->dtype)) {
      return Error(Reason::kCheckpointUnsupported,
                   fmt::format("is a scale stored as {}; F32 and BF16 are read", InfoOf(scale->dtype).safetensors_name),
                   {.tensor = scale_name});
    }
    output.scales = {.regions = {Whole(*scale, IndexOf(*scale))}, .rows = block.rows, .columns = block.columns};
    return absl::OkStatus();
  }

  absl::Status TakeFiles() {
    HuggingFaceFiles files;
    SLIPWAY_ASSIGN_OR_RETURN(const HfDirectory directory, HfDirectory::Open(checkpoint_.path));
    SLIPWAY_RETURN_IF_ERROR(TakeFilesAlong(directory, "the checkpoint", plan_.options.allow_custom_code, files));
    for (const QuantizationFile& file : kQuantizationFiles) {
      const std::string name(file.name);
      if (!plan_.options.dtype && directory.Has(name)) {
        SLIPWAY_ASSIGN_OR_RETURN(SidecarFile sidecar, directory.Sidecar(name));
        files.sidecars.push_back(std::move(sidecar));
      }
    }
    std::ranges::sort(files.sidecars, {}, &SidecarFile::path);
    plan_.sidecars = std::move(files.sidecars);
    plan_.warnings = std::move(files.warnings);
    return absl::OkStatus();
  }

  void Warn() {
    if (!plan_.options.dtype) {
      if (!quantization_.method.empty()) {
        plan_.warnings.push_back(
            fmt::format("the weights are quantized ({}) and are copied as they are", quantization_.method));
      }
      return;
    }
    if (routing_biases_ > 0 && *plan_.options.dtype != DType::kF32) {
      plan_.warnings.push_back(
          fmt::format("{} routing biases ({}) stay F32, as transformers keeps them", routing_biases_, kRoutingBias));
    }
  }

  ExportPlan& plan_;
  const Checkpoint& checkpoint_;
  SourceQuantization quantization_;
  std::int64_t routing_biases_ = 0;
};

}  // namespace

absl::Status BuildIdentity(ExportPlan& plan) { return Builder(plan).Build(); }

}  // namespace slipway::engine
