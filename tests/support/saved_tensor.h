// Tensors as torch_dist saves them: chunks, each an item in a rank's file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace slipway::test {

using Extents = std::vector<std::int64_t>;

struct SavedItem {
  Extents offsets = {};
  Extents sizes = {};
  std::int64_t rank = 0;
  bool stored = true;          // false: listed without bytes
  std::string file = {};       // filled while writing
  std::int64_t position = 0;   // likewise
  std::int64_t length = 0;     // likewise
  Extents sizes_in_item = {};  // instead of sizes, where not empty
};

struct SavedTensor {
  std::string name = {};
  Extents shape = {};
  std::string dtype = "bfloat16";
  std::vector<SavedItem> items = {};
};

std::int64_t Volume(const Extents& extents);

// The chunks of one tensor: one a layer (where stacked), shared along `axis` in blocks, `blocks_per_rank` a rank.
SavedTensor Shared(std::string name, Extents shape, bool stacked, std::optional<std::size_t> axis, std::int64_t ranks,
                   std::int64_t blocks_per_rank = 1);

}  // namespace slipway::test
