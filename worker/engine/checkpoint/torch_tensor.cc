#include "worker/engine/checkpoint/torch_tensor.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "common/checked_math.h"
#include "common/error.h"

namespace slipway::engine {
namespace {

constexpr std::size_t kMaximumRank = 16;

struct StorageType {
  std::string_view name;
  DType dtype;
};

constexpr std::array kStorageTypes = std::to_array<StorageType>({
    {"FloatStorage", DType::kF32},
    {"HalfStorage", DType::kF16},
    {"BFloat16Storage", DType::kBF16},
    {"DoubleStorage", DType::kF64},
    {"BoolStorage", DType::kBool},
    {"ByteStorage", DType::kU8},
    {"CharStorage", DType::kI8},
    {"ShortStorage", DType::kI16},
    {"IntStorage", DType::kI32},
    {"LongStorage", DType::kI64},
    {"UntypedStorage", DType::kU8},
});

absl::Status Corrupt(std::string_view message) { return Error(Reason::kCheckpointCorrupt, message); }

absl::StatusOr<Shape> ReadExtents(const PickleDocument& document, PickleValue value) {
  const std::span<const PickleValue> items = document.Items(value);
  if (value.kind() != PickleValue::Kind::kTuple || items.size() > kMaximumRank) {
    return Corrupt("a tensor whose size is no tuple of a few numbers");
  }
  Shape extents;
  for (const PickleValue& item : items) {
    const std::optional<std::int64_t> extent = item.Integer();
    if (!extent || *extent < 0) {
      return Corrupt("a tensor with a negative size or stride, or one that is no 64-bit number");
    }
    extents.push_back(*extent);
  }
  return extents;
}

// The persistent id: ("storage", type, key, device, element count).
absl::Status ReadStorage(const PickleDocument& document, PickleValue value, TorchTensor& tensor) {
  const std::span<const PickleValue> items = document.Items(document.Arguments(value));
  if (value.kind() != PickleValue::Kind::kPersistent || items.size() < 5 ||
      items[1].kind() != PickleValue::Kind::kClass) {
    return Corrupt("a tensor without a storage");
  }
  const PickleClass type = document.Class(items[1]);
  const auto* const row = std::ranges::find(kStorageTypes, type.name, &StorageType::name);
  if (row == kStorageTypes.end()) {
    return Error(Reason::kCheckpointUnsupported, fmt::format("a tensor of {}.{}", type.module, type.name));
  }
  const std::optional<std::string_view> key = document.Text(items[2]);
  const std::optional<std::int64_t> count = items[4].Integer();
  const std::optional<std::int64_t> bytes = count ? CheckedMultiply(*count, InfoOf(row->dtype).bytes) : std::nullopt;
  if (!key || !bytes || *count < 0) {
    return Corrupt("a storage without a key or a size");
  }
  tensor.dtype = row->dtype;
  tensor.storage_key = std::string(*key);
  tensor.storage_bytes = *bytes;
  return absl::OkStatus();
}

}  // namespace

std::optional<std::int64_t> SpanOf(const Shape& shape, const Shape& strides) {
  std::int64_t last = 0;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (shape[axis] == 0) {
      return 0;
    }
    const std::optional<std::int64_t> reach = CheckedMultiply(shape[axis] - 1, strides[axis]);
    const std::optional<std::int64_t> sum = reach ? CheckedAdd(last, *reach) : std::nullopt;
    if (!sum) {
      return std::nullopt;
    }
    last = *sum;
  }
  return CheckedAdd(last, 1);
}

bool IsTensor(const PickleDocument& document, PickleValue value) {
  const PickleClass name = document.Class(value);
  return value.kind() == PickleValue::Kind::kObject && name.module == "torch._utils" &&
         (name.name == "_rebuild_tensor" || name.name == "_rebuild_tensor_v2" || name.name == "_rebuild_tensor_v3");
}

absl::StatusOr<TorchTensor> DescribeTensor(const PickleDocument& document, PickleValue value) {
  const std::span<const PickleValue> items = document.Items(document.Arguments(value));
  if (!IsTensor(document, value) || items.size() < 4) {
    return Corrupt("there is no tensor where one should be");
  }
  TorchTensor tensor;
  SLIPWAY_RETURN_IF_ERROR(ReadStorage(document, items[0], tensor));
  SLIPWAY_ASSIGN_OR_RETURN(tensor.shape, ReadExtents(document, items[2]));
  SLIPWAY_ASSIGN_OR_RETURN(tensor.strides, ReadExtents(document, items[3]));
  const std::optional<std::int64_t> offset = items[1].Integer();
  if (!offset || *offset < 0 || tensor.shape.size() != tensor.strides.size() || !CheckedVolume(tensor.shape)) {
    return Corrupt("a tensor whose size, strides and offset contradict each other");
  }
  tensor.storage_offset = *offset;
  if (document.Class(value).name == "_rebuild_tensor_v3") {  // storage of bytes; the dtype is the seventh argument
    const PickleClass dtype_class = items.size() < 7 ? PickleClass() : document.Class(items[6]);
    const std::optional<DType> dtype = DTypeFromTorchName(dtype_class.name);
    if (dtype_class.module != "torch" || !dtype) {
      return Error(Reason::kCheckpointUnsupported, fmt::format("a tensor of dtype \"{}\"", dtype_class.name));
    }
    tensor.dtype = *dtype;
  }
  return tensor;
}

}  // namespace slipway::engine
