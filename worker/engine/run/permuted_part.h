// Part of an output whose axes are permuted: what a segment reads for it, and how the elements come to their places.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/engine/transform/axis_permutation.h"
#include "worker/engine/transform/region_reader.h"
#include "worker/engine/transform/rounding.h"

namespace slipway::engine {

// Rows of a source and where they go.
struct PermutedRows {
  SourceRows source;
  std::int64_t output = 0;  // element of the part
};

struct PermutedPart {
  std::vector<PermutedRows> rows;  // by file and position
  std::int64_t row_stride = 0;     // elements of the part from a row to the next
  std::int64_t column_stride = 0;  // and from a column to the next
};

// Most rows that a part lists, each of them many rows at equal distances.
inline constexpr std::size_t kMaximumPermutedRows = 16'384;

// What loading one part takes besides its output: one window at a time and the list of rows.
inline constexpr std::int64_t kPermutationWindow = std::int64_t{2} << 20;
inline constexpr std::int64_t kPermutationMemory =
    kPermutationWindow + (16 << 10) + static_cast<std::int64_t>(kMaximumPermutedRows * sizeof(PermutedRows));

// What fills `box` of `tensor`, or nullopt where that is more than kMaximumPermutedRows. A box of one element always
// has a part. Errors as RegionReader.
absl::StatusOr<std::optional<PermutedPart>> CutPermutedPart(RegionReader& reader, const OutputTensor& tensor,
                                                            const PermutedBox& box);

// Maps the sources one window after the other and writes the part's elements, transformed, to `output`, which has room
// for the whole box; `rounding` as TransformElements. Errors as SourceFile::Map and Window::Check.
absl::Status LoadPermutedPart(const Checkpoint& checkpoint, const ElementTransform& transform, const PermutedPart& part,
                              std::byte* output, Rounding* rounding = nullptr);

}  // namespace slipway::engine
