// A piece of a shard's file: what it is made of and where that is read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "worker/engine/run/permuted_part.h"
#include "worker/engine/transform/region_reader.h"

namespace slipway::engine {

// Part of one output tensor in a segment.
struct TensorPart {
  std::int32_t tensor = 0;  // index into ExportPlan::tensors
  std::size_t first_run = 0;
  std::size_t run_count = 0;
  std::int64_t bytes = 0;  // in the output
  bool begins = false;     // with the tensor's first byte
  bool ends = false;       // with its last
  bool stashed = false;    // scales or zero points that were found with the codes; first_element is a byte of them
  bool buffered = false;   // goes through a buffer: transformed, or gathered from many short runs, or permuted
  std::optional<std::size_t> permuted = std::nullopt;  // index into Segment::permuted; such a part has no runs
  std::int64_t first_element = 0;
  // Of quantized outputs: the values that are coded, in Segment::value_parts; none where nothing is read for them.
  std::size_t first_value_part = 0;
  std::size_t value_part_count = 0;
  std::int64_t value_bytes = 0;  // in the buffer, 0 where they are coded as they were read
  // Of those whose blocks have given amaxes: runs of these, in Segment::runs.
  std::size_t amax_run = 0;
  std::size_t amax_run_count = 0;
  // Of tensors with block scales: those that the part's elements need.
  std::size_t scale_run = 0;  // in Segment::runs
  std::size_t scale_run_count = 0;
  std::int64_t first_scale = 0;
  // Of elements with a low-rank update: runs of A and, behind them, of B's rows from that of updated_row on.
  std::size_t factor_run = 0;  // in Segment::runs
  std::size_t a_run_count = 0;
  std::size_t b_run_count = 0;  // 0: these have none
  std::int64_t updated_row = 0;
};

// A range of one source file that a segment maps.
struct WindowRange {
  std::int32_t file = 0;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

struct Segment {
  std::int64_t file_offset = 0;
  std::int64_t bytes = 0;
  bool has_header = false;  // the shard's header comes before the parts
  std::vector<TensorPart> parts;
  std::vector<TensorPart> value_parts;     // of what is quantized: parts of QuantizedWeight::values
  std::vector<SourceRun> runs;             // of all parts, in output order; scales and factors before what they are for
  std::vector<std::uint32_t> run_windows;  // index into windows, one a run; of no meaning for zeros
  std::vector<WindowRange> windows;
  std::vector<PermutedPart> permuted;
  std::size_t permuted_rows = 0;  // of all of them
  std::int64_t window_bytes = 0;  // whole pages; with what loading permuted parts takes
  std::int64_t buffer_bytes = 0;
  std::int64_t factor_bytes = 0;  // of one part's factors or scales in FP32, the largest

  [[nodiscard]] std::int64_t memory() const { return window_bytes + buffer_bytes + factor_bytes; }
};

// What can be taken back: what a segment was.
class SegmentMark {
 public:
  explicit SegmentMark(const Segment& segment);
  void Restore(Segment& segment) const;

 private:
  std::size_t runs_;
  std::size_t value_parts_;
  std::size_t permuted_;
  std::size_t permuted_rows_;
  std::int64_t window_bytes_;
  std::int64_t factor_bytes_;
  std::vector<WindowRange> windows_;
};

// Most runs of a segment.
inline constexpr std::size_t kMaximumRuns = 16'384;

// Adds `run`, and the window it needs, unless that would make more than `maximum_windows` bytes of windows.
bool AddRun(Segment& segment, const SourceRun& run, std::int64_t maximum_windows);

}  // namespace slipway::engine
