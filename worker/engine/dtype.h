// Element types of tensors, as checkpoints and safetensors files have them.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace slipway::engine {

enum class DType : std::uint8_t {
  kBool,
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kU64,
  kI64,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
  kF8E4M3FNUZ,
  kF8E5M2FNUZ,
  kF16,
  kBF16,
  kF32,
  kF64,
  kC64,
};

struct DTypeInfo {
  DType dtype;
  std::int64_t bytes;                 // of one element
  std::string_view torch_name;        // "bfloat16", as in torch.bfloat16
  std::string_view safetensors_name;  // "BF16"
};

const DTypeInfo& InfoOf(DType dtype);

// Whether it is one of the three that weights are trained in: what is rounded, merged and quantized.
constexpr bool IsFloat(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16; }

std::optional<DType> DTypeFromTorchName(std::string_view name);
std::optional<DType> DTypeFromSafetensorsName(std::string_view name);

}  // namespace slipway::engine
