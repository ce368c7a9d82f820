// One zarr array (version 2) out of its ".zarray": shape, element type, and the grid of chunks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "worker/engine/dtype.h"
#include "worker/engine/shape.h"

namespace slipway::engine {

struct ZarrArray {
  DType dtype = DType::kBF16;
  Shape shape;
  Shape chunk;                   // of every chunk, also of those at the far edges; same rank
  Shape grid;                    // chunks along each axis; a 0-d array has one
  std::int64_t chunk_count = 0;  // the grid's volume
  std::int64_t chunk_bytes = 0;  // of each file
};

// CHECKPOINT_CORRUPT where the text is no description of an array or contradicts itself; CHECKPOINT_UNSUPPORTED for
// compressors, filters, Fortran order, big-endian and other element types, each by name; LIMIT_EXCEEDED for more
// chunks than a checkpoint may have files. The caller adds file and tensor.
absl::StatusOr<ZarrArray> ParseZarrArray(std::string_view text);

// File name of the chunk at `index` in the grid: "0.3.1"; "0" of a 0-d array.
std::string ZarrChunkName(const Shape& index);

// Whether `name` can be a chunk's file: numbers with dots between.
bool IsZarrChunkName(std::string_view name);

}  // namespace slipway::engine
