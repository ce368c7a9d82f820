#include "worker/engine/checkpoint/dist_index_folder.h"

#include <fmt/format.h>

#include <utility>

#include "common/error.h"

namespace slipway::engine {
namespace {

constexpr std::uint32_t kRowBits = 30;
constexpr std::size_t kMaximumRows = std::size_t{1} << 25;
constexpr std::size_t kMaximumNumbers = std::size_t{1} << 28;
constexpr std::size_t kMaximumRank = 16;

absl::Status Corrupt(std::string_view message) { return Error(Reason::kCheckpointCorrupt, message); }

bool IsIndexClass(const PickleClass& name, std::string_view wanted) {
  return name.name == wanted && name.module.starts_with("torch.distributed.checkpoint");
}

}  // namespace

absl::StatusOr<std::optional<PickleValue>> DistIndexFolder::Fold(const PickleDocument& document, PickleClass name,
                                                                 PickleValue state) {
  absl::StatusOr<PickleValue> row = PickleValue();
  if (IsIndexClass(name, "ChunkStorageMetadata")) {
    row = FoldChunk(document, state);
  } else if (IsIndexClass(name, "TensorStorageMetadata")) {
    row = FoldTensor(document, state);
  } else if (IsIndexClass(name, "MetadataIndex")) {
    row = FoldIndex(document, state);
  } else if (IsIndexClass(name, "_StorageInfo")) {
    row = FoldLocation(document, state);
  } else if (!IsIndexClass(name, "WriteItem") && !IsIndexClass(name, "TensorWriteData") &&
             !IsIndexClass(name, "BytesIOWriteData") && !IsIndexClass(name, "SavePlan")) {
    return std::nullopt;  // plans of the save become None: nothing reads them
  }
  if (!row.ok()) {
    return row.status();
  }
  return *row;
}

absl::StatusOr<DistIndexFolder::NumbersAt> DistIndexFolder::AddNumbers(const PickleDocument& document,
                                                                       std::optional<PickleValue> value) {
  if (!value || value->kind() != PickleValue::Kind::kTuple) {
    return Corrupt("a shape or position that is no tuple");
  }
  const std::span<const PickleValue> items = document.Items(*value);
  if (items.size() > kMaximumRank || numbers_.size() + items.size() > kMaximumNumbers) {
    return Error(Reason::kLimitExceeded, "too many axes, or too many blocks");
  }
  const NumbersAt at = {.first = static_cast<std::uint32_t>(numbers_.size()),
                        .rank = static_cast<std::uint32_t>(items.size())};
  for (const PickleValue& item : items) {
    const std::optional<std::int64_t> number = item.Integer();
    if (!number || *number < 0) {
      return Corrupt("a shape or position with a negative number, or one that is no 64-bit number");
    }
    numbers_.push_back(*number);
  }
  return at;
}

absl::StatusOr<PickleValue> DistIndexFolder::RecordOf(Table table, std::size_t row) {
  if (row >= kMaximumRows) {
    return Error(Reason::kLimitExceeded, fmt::format("the index has more than {} blocks", kMaximumRows));
  }
  return PickleValue::OfRecord((static_cast<std::uint32_t>(table) << kRowBits) | static_cast<std::uint32_t>(row));
}

std::optional<std::uint32_t> DistIndexFolder::RowOf(const PickleDocument& document, PickleValue value, Table table) {
  std::optional<std::uint32_t> record = value.Record();
  if (!record) {
    record = document.State(value).Record();  // an object that the pickle shares
  }
  if (!record || *record >> kRowBits != static_cast<std::uint32_t>(table)) {
    return std::nullopt;
  }
  return *record & ((1U << kRowBits) - 1);
}

absl::StatusOr<PickleValue> DistIndexFolder::FoldChunk(const PickleDocument& document, PickleValue state) {
  Chunk chunk;
  SLIPWAY_ASSIGN_OR_RETURN(chunk.offsets, AddNumbers(document, document.Find(state, "offsets")));
  SLIPWAY_ASSIGN_OR_RETURN(chunk.sizes, AddNumbers(document, document.Find(state, "sizes")));
  chunks_.push_back(chunk);
  return RecordOf(Table::kChunk, chunks_.size() - 1);
}

absl::StatusOr<PickleValue> DistIndexFolder::FoldTensor(const PickleDocument& document, PickleValue state) {
  Tensor tensor;
  SLIPWAY_ASSIGN_OR_RETURN(tensor.shape, AddNumbers(document, document.Find(state, "size")));
  const PickleValue properties = document.Find(state, "properties").value_or(PickleValue());
  const std::span<const PickleValue> fields = document.Items(document.State(properties));
  if (fields.empty() || fields[0].kind() != PickleValue::Kind::kClass) {
    return Corrupt("a tensor without a dtype");
  }
  tensor.dtype = document.Class(fields[0]);
  const PickleValue chunks = document.Find(state, "chunks").value_or(PickleValue());
  tensor.first_chunk = static_cast<std::uint32_t>(tensor_chunks_.size());
  for (const PickleValue& chunk : document.Items(chunks)) {
    const std::optional<std::uint32_t> row = RowOf(document, chunk, Table::kChunk);
    if (!row) {
      return Corrupt("a tensor with a block that is none");
    }
    if (tensor_chunks_.size() == kMaximumRows) {
      return Error(Reason::kLimitExceeded, fmt::format("the index has more than {} blocks", kMaximumRows));
    }
    tensor_chunks_.push_back(chunks_[*row]);
  }
  tensor.chunk_count = static_cast<std::uint32_t>(tensor_chunks_.size()) - tensor.first_chunk;
  tensors_.push_back(tensor);
  return RecordOf(Table::kTensor, tensors_.size() - 1);
}

absl::StatusOr<PickleValue> DistIndexFolder::FoldIndex(const PickleDocument& document, PickleValue state) {
  Index index;
  const std::optional<std::string_view> name = document.Text(document.Find(state, "fqn").value_or(PickleValue()));
  if (!name) {
    return Corrupt("an index without a name");
  }
  index.name = *name;
  const std::optional<PickleValue> offset = document.Find(state, "offset");
  if (offset && !offset->IsNone()) {
    SLIPWAY_ASSIGN_OR_RETURN(index.offset, AddNumbers(document, offset));
  }
  indices_.push_back(index);
  return RecordOf(Table::kIndex, indices_.size() - 1);
}

absl::StatusOr<PickleValue> DistIndexFolder::FoldLocation(const PickleDocument& document, PickleValue state) {
  const std::optional<std::string_view> file =
      document.Text(document.Find(state, "relative_path").value_or(PickleValue()));
  const std::optional<std::int64_t> offset = document.Find(state, "offset").value_or(PickleValue()).Integer();
  const std::optional<std::int64_t> length = document.Find(state, "length").value_or(PickleValue()).Integer();
  if (!file || !offset || !length || *offset < 0 || *length < 0) {
    return Corrupt("a storage entry without a file, an offset or a length");
  }
  const PickleValue transforms = document.Find(state, "transform_descriptors").value_or(PickleValue());
  locations_.push_back({.file = *file, .offset = *offset, .length = *length, .transformed = !transforms.IsNone()});
  return RecordOf(Table::kLocation, locations_.size() - 1);
}

const DistIndexFolder::Tensor* DistIndexFolder::TensorOf(const PickleDocument& document, PickleValue value) const {
  const std::optional<std::uint32_t> row = RowOf(document, value, Table::kTensor);
  return row ? &tensors_[*row] : nullptr;
}

const DistIndexFolder::Index* DistIndexFolder::IndexOf(const PickleDocument& document, PickleValue value) const {
  const std::optional<std::uint32_t> row = RowOf(document, value, Table::kIndex);
  return row ? &indices_[*row] : nullptr;
}

const DistLocation* DistIndexFolder::LocationOf(const PickleDocument& document, PickleValue value) const {
  const std::optional<std::uint32_t> row = RowOf(document, value, Table::kLocation);
  return row ? &locations_[*row] : nullptr;
}

}  // namespace slipway::engine
