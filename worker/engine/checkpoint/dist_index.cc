#include "worker/engine/checkpoint/dist_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "common/error.h"
#include "worker/engine/checkpoint/dist_index_folder.h"

namespace slipway::engine {
namespace {

class PickledDistIndex final : public DistIndex {
 public:
  explicit PickledDistIndex(std::string file) : file_(std::move(file)) {}

  absl::Status Parse(Window window);
  [[nodiscard]] std::span<const DistEntry> entries() const override { return entries_; }
  [[nodiscard]] absl::StatusOr<std::vector<DistBlock>> Blocks(const DistEntry& entry) const override;
  [[nodiscard]] PickleClass root_class() const override { return document_.Class(document_.root()); }

 private:
  struct Stored {  // a row of storage_data
    std::uint32_t entry;
    const DistIndexFolder::Index* index;
    const DistLocation* location;
  };

  absl::Status ReadEntries();
  absl::Status ReadStorage();
  [[nodiscard]] absl::Status Corrupt(std::string_view message, std::string_view tensor = {}) const {
    return Error(Reason::kCheckpointCorrupt, message, {.tensor = std::string(tensor), .file = file_});
  }
  [[nodiscard]] std::span<const std::int64_t> Offset(const Stored& stored) const {
    return folder_.Numbers(stored.index->offset);
  }

  std::string file_;
  DistIndexFolder folder_;
  PickleDocument document_;
  std::vector<DistEntry> entries_;
  std::vector<const DistIndexFolder::Tensor*> tensors_;  // of each entry; nullptr for a bytes entry
  std::vector<Stored> stored_;                           // sorted by entry, then by offset
};

absl::Status PickledDistIndex::Parse(Window window) {
  absl::StatusOr<PickleDocument> document = ParsePickle(std::move(window), {.file = file_, .folder = &folder_});
  if (!document.ok()) {
    return AddWhere(document.status(), {.file = file_});
  }
  document_ = *std::move(document);
  SLIPWAY_RETURN_IF_ERROR(ReadEntries());
  return ReadStorage();
}

absl::Status PickledDistIndex::ReadEntries() {
  const std::optional<PickleValue> metadata = document_.Find(document_.root(), "state_dict_metadata");
  if (!metadata || metadata->kind() != PickleValue::Kind::kDictionary) {
    return Corrupt("the index has no state_dict_metadata");
  }
  const std::span<const PickleValue> items = document_.Items(*metadata);
  std::vector<std::pair<DistEntry, const DistIndexFolder::Tensor*>> rows;
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    const std::optional<std::string_view> name = document_.Text(items[i]);
    if (!name) {
      return Corrupt("the index names a tensor by something that is no text");
    }
    const DistIndexFolder::Tensor* const tensor = folder_.TensorOf(document_, items[i + 1]);
    if (tensor == nullptr && document_.Class(items[i + 1]).name != "BytesStorageMetadata") {
      return Corrupt("the index has an entry that is neither a tensor nor bytes", *name);
    }
    DistEntry entry = {.name = *name, .is_tensor = tensor != nullptr, .dtype = {}, .shape = {}};
    if (tensor != nullptr) {
      entry.dtype = tensor->dtype;
      entry.shape = folder_.Numbers(tensor->shape);
    }
    rows.emplace_back(entry, tensor);
  }
  std::ranges::sort(rows, {}, [](const auto& row) { return row.first.name; });
  for (const auto& [entry, tensor] : rows) {
    if (!entries_.empty() && entries_.back().name == entry.name) {
      return Error(Reason::kTensorDuplicated, "the index has the tensor twice",
                   {.tensor = std::string(entry.name), .file = file_});
    }
    entries_.push_back(entry);
    tensors_.push_back(tensor);
  }
  return absl::OkStatus();
}

absl::Status PickledDistIndex::ReadStorage() {
  const std::optional<PickleValue> storage = document_.Find(document_.root(), "storage_data");
  if (!storage || storage->kind() != PickleValue::Kind::kDictionary) {
    return Corrupt("the index has no storage_data");
  }
  std::unordered_map<std::string_view, std::uint32_t> numbers;
  numbers.reserve(entries_.size());
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    numbers.emplace(entries_[i].name, static_cast<std::uint32_t>(i));
  }
  const std::span<const PickleValue> items = document_.Items(*storage);
  stored_.reserve(items.size() / 2);
  for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
    const DistIndexFolder::Index* const index = folder_.IndexOf(document_, items[i]);
    const DistLocation* const location = folder_.LocationOf(document_, items[i + 1]);
    if (index == nullptr || location == nullptr) {
      return Corrupt("the index's storage_data has a row of another kind");
    }
    const auto found = numbers.find(index->name);
    if (found == numbers.end()) {
      return Corrupt("the index stores a block of a tensor that it does not have", index->name);
    }
    stored_.push_back({.entry = found->second, .index = index, .location = location});
  }
  std::ranges::sort(stored_, [this](const Stored& a, const Stored& b) {
    return a.entry != b.entry ? a.entry < b.entry : std::ranges::lexicographical_compare(Offset(a), Offset(b));
  });
  return absl::OkStatus();
}

absl::StatusOr<std::vector<DistBlock>> PickledDistIndex::Blocks(const DistEntry& entry) const {
  const auto number = static_cast<std::uint32_t>(&entry - entries_.data());
  // No std::ranges::equal_range: clang 14 does not take libstdc++'s subrange.
  const auto first = std::ranges::lower_bound(stored_, number, {}, &Stored::entry);
  const std::span<const Stored> stored(first, std::ranges::upper_bound(stored_, number, {}, &Stored::entry));
  std::vector<DistBlock> blocks;
  if (tensors_[number] == nullptr) {
    if (stored.size() != 1) {
      return Corrupt("the index does not say where the object lies, or says it twice", entry.name);
    }
    blocks.push_back({.offsets = {}, .sizes = {}, .location = *stored.front().location});
    return blocks;
  }
  for (const DistIndexFolder::Chunk& chunk : folder_.ChunksOf(*tensors_[number])) {
    blocks.push_back(
        {.offsets = folder_.Numbers(chunk.offsets), .sizes = folder_.Numbers(chunk.sizes), .location = {}});
  }
  std::ranges::sort(blocks, [](const DistBlock& a, const DistBlock& b) {
    return std::ranges::lexicographical_compare(a.offsets, b.offsets);
  });
  // Blocks without elements may begin where another does; one row of the storage then stands for both.
  std::size_t next = 0;
  for (DistBlock& block : blocks) {
    if (next > 0 && std::ranges::equal(Offset(stored[next - 1]), block.offsets)) {
      block.location = *stored[next - 1].location;
      continue;
    }
    if (next == stored.size() || !std::ranges::equal(Offset(stored[next]), block.offsets)) {
      return Corrupt(fmt::format("the index does not say where the block at [{}] lies", fmt::join(block.offsets, ", ")),
                     entry.name);
    }
    block.location = *stored[next++].location;
  }
  if (next != stored.size()) {
    return Corrupt(
        fmt::format("the index says where {} blocks of the tensor lie but describes {}", stored.size(), next),
        entry.name);
  }
  return blocks;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const DistIndex>> DistIndex::Read(Window window, const std::string& file) {
  auto index = std::make_unique<PickledDistIndex>(file);
  SLIPWAY_RETURN_IF_ERROR(index->Parse(std::move(window)));
  return std::unique_ptr<const DistIndex>(std::move(index));
}

}  // namespace slipway::engine
