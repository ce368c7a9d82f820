// Any text as a ".zarray": an error, or a grid whose sizes are those of its shape and chunks.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "worker/engine/checkpoint/zarr_array.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipway::engine;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto array = ParseZarrArray(text);
  if (!array.ok()) {
    return 0;
  }
  std::int64_t chunks = 1;
  for (std::size_t axis = 0; axis < array->shape.size(); ++axis) {
    const std::int64_t last = (array->grid[axis] - 1) * array->chunk[axis];  // where the last chunk begins
    const bool fits = array->grid[axis] == 0
                          ? array->shape[axis] == 0
                          : last < array->shape[axis] && array->shape[axis] - last <= array->chunk[axis];
    if (!fits) {
      std::abort();
    }
    chunks *= array->grid[axis];
  }
  if (chunks != array->chunk_count || chunks < 0 || array->chunk_bytes < 0) {
    std::abort();
  }
  return 0;
}
