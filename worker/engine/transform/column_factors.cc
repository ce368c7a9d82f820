#include "worker/engine/transform/column_factors.h"

#include <algorithm>
#include <array>
#include <vector>

#include "worker/engine/transform/element_transform.h"

namespace slipway::engine {
namespace {

// How far an element of the output is from the tensor's first, before axes were permuted.
class Places {
 public:
  explicit Places(const OutputTensor& tensor) : inner_(std::max<std::int64_t>(Factors(tensor), 1)) {
    const AxisPermutation& permutation = tensor.permutation;
    if (permutation.IsNone()) {
      return;
    }
    std::vector<std::int64_t> strides(permutation.view.size(), 1);
    for (std::size_t axis = strides.size() - 1; axis > 0; --axis) {
      strides[axis - 1] = strides[axis] * permutation.view[axis];
    }
    for (const std::uint8_t axis : permutation.order) {
      extents_.push_back(permutation.view[axis]);
      strides_.push_back(strides[axis]);
    }
    inner_ = extents_.back();
  }

  // Neighbours from a multiple of this on are neighbours before, too.
  [[nodiscard]] std::int64_t inner() const { return inner_; }

  [[nodiscard]] std::int64_t Before(std::int64_t element) const {
    if (extents_.empty()) {
      return element;
    }
    std::int64_t place = 0;
    for (std::size_t axis = extents_.size(); axis-- > 0;) {
      place += element % extents_[axis] * strides_[axis];
      element /= extents_[axis];
    }
    return place;
  }

  static std::int64_t Factors(const OutputTensor& tensor) {
    return static_cast<std::int64_t>(tensor.column_factors->size());
  }

 private:
  std::int64_t inner_;
  std::vector<std::int64_t> extents_;  // of the output's axes
  std::vector<std::int64_t> strides_;  // of the same axes, before
};

}  // namespace

bool CanScaleColumns(const OutputTensor& tensor) {
  const std::int64_t factors = Places::Factors(tensor);
  const AxisPermutation& permutation = tensor.permutation;
  return factors > 0 && !tensor.shape.empty() && IsFloat(tensor.transform.to) &&
         (permutation.IsNone() ? tensor.shape.back() == factors
                               : permutation.order.back() + 1U == permutation.view.size());
}

void ScaleColumns(const OutputTensor& tensor, std::int64_t first, std::span<std::byte> elements) {
  constexpr std::int64_t kBlock = 1024;
  const DType dtype = tensor.transform.to;
  const std::int64_t bytes = InfoOf(dtype).bytes;
  const std::int64_t count = static_cast<std::int64_t>(elements.size()) / bytes;
  const Places places(tensor);
  const std::int64_t factors = Places::Factors(tensor);
  std::array<float, kBlock> values{};
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t element = first + done;
    const std::int64_t left = std::min(places.inner() - element % places.inner(), count - done);
    const std::int64_t some = std::min(left, kBlock);
    const std::span<std::byte> block =
        elements.subspan(static_cast<std::size_t>(done * bytes), static_cast<std::size_t>(some * bytes));
    const std::span<float> numbers = std::span(values).first(static_cast<std::size_t>(some));
    TransformElements({.add_one = false, .from = dtype, .to = DType::kF32}, block, std::as_writable_bytes(numbers));
    std::int64_t column = places.Before(element) % factors;
    for (float& number : numbers) {
      number *= (*tensor.column_factors)[static_cast<std::size_t>(column)];
      column = column + 1 == factors ? 0 : column + 1;
    }
    TransformElements({.add_one = false, .from = DType::kF32, .to = dtype}, std::as_bytes(numbers), block);
    done += some;
  }
}

}  // namespace slipway::engine
