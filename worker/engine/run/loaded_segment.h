// A segment's bytes in memory: as they were read where nothing changes, transformed or gathered where it does.
//
// They are read into buffers that are used again and again, not mapped. That is one copy more than mapping, out of the
// page cache into memory that the processor's cache holds, and still quicker: mapping and unmapping 4 MiB costs a
// thousand page table entries and interrupts the other threads. Measured on a virtual machine with one thread, copying
// 1.5 GB took 0.25 s by reading and 0.30 to 0.48 s by mapping. And a file that shrinks is an error of a call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include <sys/uio.h>

#include "absl/status/statusor.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/run/buffer_pool.h"
#include "worker/engine/run/code_bands.h"
#include "worker/engine/run/segment.h"
#include "worker/engine/transform/rounding.h"

namespace slipway::engine {

// Immutable once loaded; several threads may read it at once. Refers to the plan.
class LoadedSegment {
 public:
  // Reads, transforms and gathers. `buffer` has BufferBytes(segment) bytes. Errors as SourceFile::ReadAt, and
  // CHECKPOINT_CHANGED where a file is not what it was when it was opened; CHECKPOINT_CORRUPT for a dequantized value
  // or one to be quantized that is not a finite number. `quantization` may be null where the shard has nothing of it.
  static absl::StatusOr<std::unique_ptr<const LoadedSegment>> Load(const ExportPlan& plan, const Shard& shard,
                                                                   Segment segment, BufferPool::Buffer buffer,
                                                                   const Quantization* quantization);
  LoadedSegment(const LoadedSegment&) = delete;
  LoadedSegment& operator=(const LoadedSegment&) = delete;
  ~LoadedSegment();

  // For its windows, in whole pages, and what does not stay as it was read.
  [[nodiscard]] static std::int64_t BufferBytes(const Segment& segment);

  [[nodiscard]] const Segment& segment() const { return segment_; }
  // The bytes of the segment in file order.
  [[nodiscard]] const std::vector<iovec>& pieces() const { return pieces_; }
  // Of part i, those are pieces() [first_pieces()[i], first_pieces()[i + 1]).
  [[nodiscard]] const std::vector<std::size_t>& first_pieces() const { return first_pieces_; }
  // What casting did to the elements of each part.
  [[nodiscard]] const std::vector<Rounding>& roundings() const { return roundings_; }
  // What quantization did to the rows of each part that has codes; none of the others.
  [[nodiscard]] const std::vector<std::vector<RowStatistics>>& statistics() const { return statistics_; }

 private:
  LoadedSegment(Segment segment, BufferPool::Buffer buffer)
      : segment_(std::move(segment)), buffer_(std::move(buffer)), free_(buffer_.begin()) {}
  absl::Status ReadWindows(const Checkpoint& checkpoint);
  absl::Status FillPieces(const ExportPlan& plan, const Shard& shard, const Quantization* quantization);
  // Makes the part's elements, the pieces of which follow those that there are; a buffered part's in one, at free_.
  absl::Status FillPart(const ExportPlan& plan, const OutputTensor& tensor, const TensorPart& part, Rounding* rounding);
  absl::Status MakePart(const ExportPlan& plan, const OutputTensor& tensor, const TensorPart& part, Rounding* rounding);
  absl::Status FillQuantized(const ExportPlan& plan, const TensorPart& part, const Quantization& quantization);
  // The given amaxes of the blocks that a part codes; none where they follow from the values.
  [[nodiscard]] std::vector<float> AmaxesOf(const QuantizedWeight& weight, const TensorPart& part) const;
  // The values that a part codes; OPTION_UNSUPPORTED where a cast made finite ones infinite.
  absl::StatusOr<std::span<const std::byte>> ValuesOf(const ExportPlan& plan, const OutputTensor& values,
                                                      const TensorPart& part);
  absl::Status Dequantize(const ExportPlan& plan, const OutputTensor& tensor, const TensorPart& part,
                          std::byte* output);
  void Merge(const OutputTensor& tensor, const TensorPart& part, std::byte* output, Rounding* rounding);
  [[nodiscard]] std::span<const std::byte> BytesOf(std::size_t run) const;

  Segment segment_;
  BufferPool::Buffer buffer_;
  std::byte* free_;           // what follows in the buffer is not used yet
  float* factors_ = nullptr;  // Segment::factor_bytes of the buffer, for one part after the other
  std::vector<std::span<const std::byte>> windows_;
  std::vector<iovec> pieces_;
  std::vector<std::size_t> first_pieces_;
  std::vector<ScaleStash::Bytes> stashed_;  // that pieces are of
  ScaleStash* stash_ = nullptr;             // where they are from
  std::vector<ScaleStash::Key> written_;    // what ends here
  std::vector<Rounding> roundings_;
  std::vector<std::vector<RowStatistics>> statistics_;
};

}  // namespace slipway::engine
