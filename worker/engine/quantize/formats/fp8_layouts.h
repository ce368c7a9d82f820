// FP8 in E4M3: how values share scales, and the layouts of compressed-tensors with a scale a row and with one a block
// of 128 x 128, whose inputs are scaled as they come.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "worker/engine/quantize/formats/loaders.h"
#include "worker/engine/quantize/formats/shapes.h"

namespace slipway::engine::fp8 {

constexpr Coding CodingOf(Sharing sharing, std::int32_t group = 0) {
  return {.element = Element::kE4M3, .sharing = sharing, .group = group, .bound = 448, .scale_dtype = DType::kF32};
}
inline constexpr Coding kTensorCoding = CodingOf(Sharing::kTensor);
inline constexpr Coding kRowCoding = CodingOf(Sharing::kRow);
inline constexpr Coding kBlockCoding = CodingOf(Sharing::kSquare, 128);

inline constexpr std::array kRowTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kF8E4M3, .shape = Matrix},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .model_dtype = true, .shape = PerRowColumn},
});
inline constexpr std::array kBlockTensors = std::to_array<LayoutTensor>({
    {.suffix = "weight", .role = StoredRole::kCodes, .dtype = DType::kF8E4M3, .shape = Matrix},
    {.suffix = "weight_scale", .role = StoredRole::kScales, .model_dtype = true, .shape = PerSquare},
});

constexpr Layout CompressedLayout(const Coding& coding, std::span<const LayoutTensor> tensors) {
  return {.form = ConfigForm::kCompressedTensors,
          .activations = Activations::kDynamic,
          .coding = coding,
          .tensors = tensors,
          .algorithm = "float-quantized",
          .input_bound = 448,
          .loaders = kLoadsAll,
          .expert_loaders = kLoadsVllmAndSglang};
}
inline constexpr Layout kRowLayout = CompressedLayout(kRowCoding, kRowTensors);
inline constexpr Layout kBlockLayout = CompressedLayout(kBlockCoding, kBlockTensors);

}  // namespace slipway::engine::fp8
