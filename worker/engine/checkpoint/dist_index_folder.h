// Turns the objects of a ".metadata" pickle into rows of tables.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/dist_index.h"
#include "worker/engine/checkpoint/pickle.h"

namespace slipway::engine {

class DistIndexFolder final : public PickleFolder {
 public:
  // Numbers of a shape or position in Numbers(); a missing position has rank kNone.
  struct NumbersAt {
    static constexpr std::uint32_t kNone = 0xffffffff;
    std::uint32_t first = 0;
    std::uint32_t rank = kNone;
  };
  struct Chunk {
    NumbersAt offsets;
    NumbersAt sizes;
  };
  struct Tensor {
    PickleClass dtype;
    NumbersAt shape;
    std::uint32_t first_chunk = 0;  // in chunks of tensors()
    std::uint32_t chunk_count = 0;
  };
  struct Index {
    std::string_view name;
    NumbersAt offset;
  };

  absl::StatusOr<std::optional<PickleValue>> Fold(const PickleDocument& document, PickleClass name,
                                                  PickleValue state) override;

  // The row that a value of the pickle became; nullptr for a value of another kind.
  [[nodiscard]] const Tensor* TensorOf(const PickleDocument& document, PickleValue value) const;
  [[nodiscard]] const Index* IndexOf(const PickleDocument& document, PickleValue value) const;
  [[nodiscard]] const DistLocation* LocationOf(const PickleDocument& document, PickleValue value) const;
  [[nodiscard]] std::span<const Chunk> ChunksOf(const Tensor& tensor) const {
    return std::span(tensor_chunks_).subspan(tensor.first_chunk, tensor.chunk_count);
  }
  [[nodiscard]] std::span<const std::int64_t> Numbers(NumbersAt at) const {
    return at.rank == NumbersAt::kNone ? std::span<const std::int64_t>()
                                       : std::span(numbers_).subspan(at.first, at.rank);
  }

 private:
  enum class Table : std::uint32_t { kChunk, kTensor, kIndex, kLocation };
  absl::StatusOr<PickleValue> FoldChunk(const PickleDocument& document, PickleValue state);
  absl::StatusOr<PickleValue> FoldTensor(const PickleDocument& document, PickleValue state);
  absl::StatusOr<PickleValue> FoldIndex(const PickleDocument& document, PickleValue state);
  absl::StatusOr<PickleValue> FoldLocation(const PickleDocument& document, PickleValue state);
  absl::StatusOr<NumbersAt> AddNumbers(const PickleDocument& document, std::optional<PickleValue> value);
  static absl::StatusOr<PickleValue> RecordOf(Table table, std::size_t row);
  static std::optional<std::uint32_t> RowOf(const PickleDocument& document, PickleValue value, Table table);

  // Deques: growing them copies nothing, which would double the peak.
  std::vector<std::int64_t> numbers_;
  std::vector<Chunk> tensor_chunks_;
  std::deque<Chunk> chunks_;
  std::deque<Tensor> tensors_;
  std::deque<Index> indices_;
  std::deque<DistLocation> locations_;
};

}  // namespace slipway::engine
