// The headers of safetensors files, read and checked. Layout:
//   1. 8 bytes: N, little-endian, length of the JSON in bytes
//   2. N bytes: a JSON object {"__metadata__": {"format": "pt"}, name: {"dtype", "shape", "data_offsets": [begin,
//   end]}, ...},
//      padded with spaces so that 8 + N is a multiple of 8 (Slipway: of 64)
//   3. the tensors' elements, little-endian, row-major, without holes, at data_offsets counted from 8 + N
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/dtype.h"
#include "worker/engine/shape.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {

// Real consumers refuse longer headers.
inline constexpr std::int64_t kMaximumSafetensorsHeader = 100'000'000;

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kBF16;
  Shape shape;
  std::int64_t begin = 0;  // of the elements, counted from the end of the header
  std::int64_t end = 0;
};

struct SafetensorsHeader {
  std::int64_t data_position = 0;         // 8 + N
  std::vector<SafetensorsEntry> entries;  // by begin
};

// Checks parts 1 and 2 at the beginning of `bytes`, of a file of `file_size` bytes called `file`. Errors as below.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view bytes, std::int64_t file_size,
                                                         const std::string& file);

// Reads and checks a header: lengths, duplicate names, dtypes, sizes against shapes, holes, overlaps, the file's end.
// CHECKPOINT_CORRUPT or LIMIT_EXCEEDED with file, tensor and offset.
absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(const SourceFile& file);

}  // namespace slipway::engine
