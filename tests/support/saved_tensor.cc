#include "tests/support/saved_tensor.h"

#include <functional>
#include <numeric>
#include <utility>

namespace slipway::test {

std::int64_t Volume(const Extents& extents) {
  return std::accumulate(extents.begin(), extents.end(), std::int64_t{1}, std::multiplies<>());
}

SavedTensor Shared(std::string name, Extents shape, bool stacked, std::optional<std::size_t> axis, std::int64_t ranks,
                   std::int64_t blocks_per_rank) {
  SavedTensor tensor{.name = std::move(name), .shape = std::move(shape)};
  const std::int64_t layers = stacked ? tensor.shape[0] : 1;
  const std::int64_t blocks = axis ? ranks * blocks_per_rank : 1;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    for (std::int64_t block = 0; block < blocks; ++block) {
      SavedItem item{.offsets = Extents(tensor.shape.size(), 0), .sizes = tensor.shape};
      if (stacked) {
        item.offsets[0] = layer;
        item.sizes[0] = 1;
      }
      if (axis) {
        item.sizes[*axis] = tensor.shape[*axis] / blocks;
        item.offsets[*axis] = block * item.sizes[*axis];
        item.rank = block % ranks;
      }
      tensor.items.push_back(std::move(item));
    }
  }
  return tensor;
}

}  // namespace slipway::test
