// What a torch pickle says of a tensor: torch._utils._rebuild_tensor_v2 and its relatives, and their storages.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/pickle.h"
#include "worker/engine/dtype.h"
#include "worker/engine/shape.h"

namespace slipway::engine {

// A view of a storage. Sizes and strides are in elements and checked: not negative, same rank, no overflow.
struct TorchTensor {
  DType dtype = DType::kBF16;
  Shape shape;
  Shape strides;                    // as stored; not yet checked against the storage's size
  std::int64_t storage_offset = 0;  // elements
  std::int64_t storage_bytes = 0;   // the whole storage's size as the pickle states it
  std::string storage_key;          // member "data/<key>"
};

// Elements from the first to past the last that a view touches; 0 for an empty one; nullopt if it overflows.
std::optional<std::int64_t> SpanOf(const Shape& shape, const Shape& strides);

// True for what DescribeTensor reads: _rebuild_tensor, _v2, _v3 (a Parameter is its tensor already).
bool IsTensor(const PickleDocument& document, PickleValue value);

// CHECKPOINT_CORRUPT where the value is no tensor or contradicts itself; CHECKPOINT_UNSUPPORTED for dtypes that no
// weight has. The caller adds file and tensor.
absl::StatusOr<TorchTensor> DescribeTensor(const PickleDocument& document, PickleValue value);

}  // namespace slipway::engine
