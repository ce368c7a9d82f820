#include "worker/engine/dtype.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace slipway::engine {
namespace {

constexpr std::array kDTypes = std::to_array<DTypeInfo>({
    {DType::kBool, 1, "bool", "BOOL"},
    {DType::kU8, 1, "uint8", "U8"},
    {DType::kI8, 1, "int8", "I8"},
    {DType::kU16, 2, "uint16", "U16"},
    {DType::kI16, 2, "int16", "I16"},
    {DType::kU32, 4, "uint32", "U32"},
    {DType::kI32, 4, "int32", "I32"},
    {DType::kU64, 8, "uint64", "U64"},
    {DType::kI64, 8, "int64", "I64"},
    {DType::kF8E4M3, 1, "float8_e4m3fn", "F8_E4M3"},
    {DType::kF8E5M2, 1, "float8_e5m2", "F8_E5M2"},
    {DType::kF8E8M0, 1, "float8_e8m0fnu", "F8_E8M0"},
    {DType::kF8E4M3FNUZ, 1, "float8_e4m3fnuz", "F8_E4M3FNUZ"},
    {DType::kF8E5M2FNUZ, 1, "float8_e5m2fnuz", "F8_E5M2FNUZ"},
    {DType::kF16, 2, "float16", "F16"},
    {DType::kBF16, 2, "bfloat16", "BF16"},
    {DType::kF32, 4, "float32", "F32"},
    {DType::kF64, 8, "float64", "F64"},
    {DType::kC64, 8, "complex64", "C64"},
});

std::optional<DType> Find(std::string_view name, std::string_view DTypeInfo::*field) {
  const auto* row = std::ranges::find(kDTypes, name, field);
  return row == kDTypes.end() ? std::nullopt : std::optional(row->dtype);
}

}  // namespace

const DTypeInfo& InfoOf(DType dtype) { return kDTypes[static_cast<std::size_t>(dtype)]; }
std::optional<DType> DTypeFromTorchName(std::string_view name) { return Find(name, &DTypeInfo::torch_name); }
std::optional<DType> DTypeFromSafetensorsName(std::string_view name) {
  return Find(name, &DTypeInfo::safetensors_name);
}

}  // namespace slipway::engine
