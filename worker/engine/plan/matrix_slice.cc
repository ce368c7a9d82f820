#include "worker/engine/plan/matrix_slice.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <fmt/format.h>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/model/architecture.h"
#include "worker/engine/plan/region_rows.h"

namespace slipway::engine {

absl::Status CannotBeCut(const OutputTensor& tensor, std::string_view why) {
  return Error(Reason::kCheckpointUnsupported,
               fmt::format("{}, so it cannot be cut for ranks: export with --target huggingface, and from there", why),
               {.tensor = tensor.name});
}

absl::StatusOr<Shape> MatrixShapeOf(const OutputTensor& tensor) {
  const AxisPermutation& permutation = tensor.permutation;
  if (permutation.IsNone()) {
    return tensor.shape;
  }
  const bool transposed = permutation.order == std::vector<std::uint8_t>{1, 0} && tensor.shape.size() == 2;
  if (!transposed) {
    return CannotBeCut(tensor, "its elements are stored in another order");
  }
  return permutation.view;
}

bool IsStoredTransposed(const ExportPlan& plan, const OutputTensor& tensor) {
  const Architecture* const architecture = FindArchitecture(plan.architecture);
  if (architecture == nullptr || tensor.shape.size() != 2 || !tensor.permutation.IsNone()) {
    return false;
  }
  for (const RuleBlock& block : architecture->blocks) {
    for (const TensorRule& rule : block.rules) {
      if (rule.axes == Axes::kTransposed && std::ranges::any_of(rule.targets, [&](const TargetRule& target) {
            return tensor.name.ends_with(fmt::format(".{}", target.name));
          })) {
        return true;
      }
    }
  }
  return false;
}

absl::StatusOr<Shape> ShapeForTargets(const ExportPlan& plan, const OutputTensor& tensor) {
  SLIPWAY_ASSIGN_OR_RETURN(Shape shape, MatrixShapeOf(tensor));
  if (IsStoredTransposed(plan, tensor)) {
    std::swap(shape[0], shape[1]);
  }
  return shape;
}

absl::Status MoveToTargetAxes(const ExportPlan& plan, OutputTensor& tensor) {
  SLIPWAY_ASSIGN_OR_RETURN(Shape shape, ShapeForTargets(plan, tensor));
  tensor.permutation =
      IsStoredTransposed(plan, tensor) ? AxisPermutation{.view = tensor.shape, .order = {1, 0}} : AxisPermutation{};
  tensor.shape = std::move(shape);
  return absl::OkStatus();
}

MatrixSize MatrixSizeOf(const Shape& shape) {
  MatrixSize size{1, 1};
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    (axis + 1 == shape.size() && axis > 0 ? size.columns : size.rows) *= shape[axis];
  }
  return size;
}

absl::Status AppendSlice(const OutputTensor& tensor, const MatrixPart& part, std::vector<SourceRegion>& regions) {
  SLIPWAY_ASSIGN_OR_RETURN(const Shape shape, MatrixShapeOf(tensor));
  const MatrixSize size = MatrixSizeOf(shape);
  if (part.rows < 0 || part.columns < 0 || part.first_row < 0 || part.first_column < 0 ||
      part.first_row > size.rows - part.rows || part.first_column > size.columns - part.columns) {
    return Error(Reason::kInternal,
                 fmt::format("the target takes rows {} + {} and columns {} + {} of a matrix [{}, {}]", part.first_row,
                             part.rows, part.first_column, part.columns, size.rows, size.columns),
                 {.tensor = tensor.name});
  }
  const bool is_vector = shape.size() < 2;
  std::int64_t first = part.first_row;
  std::int64_t count = part.rows;
  for (const SourceRegion& whole : tensor.regions) {
    if (count == 0) {
      break;
    }
    const std::size_t rank = whole.sizes.size();
    const std::int64_t elements = CheckedVolume(whole.sizes).value_or(0);
    const bool has_rows = rank >= (is_vector ? 1U : 2U) && size.columns > 0 && elements % size.columns == 0 &&
                          (is_vector || whole.sizes[rank - 1] == size.columns);
    if (!has_rows && rank > 0) {
      return CannotBeCut(tensor, "its rows are not rows in the checkpoint");
    }
    const std::int64_t rows = elements / size.columns;
    if (first < rows) {
      const std::int64_t taken = std::min(count, rows - first);
      SourceRegion region = whole;
      if (!is_vector) {
        region.offsets[rank - 1] += part.first_column;
        region.sizes[rank - 1] = part.columns;
      }
      if (rank == 0) {
        regions.push_back(std::move(region));
      } else {
        AppendRows(region, is_vector ? rank - 1 : rank - 2, first, taken, regions);
      }
      first += taken;
      count -= taken;
    }
    first -= rows;
  }
  return count == 0 ? absl::OkStatus()
                    : Error(Reason::kInternal, "its regions hold fewer rows than it has", {.tensor = tensor.name});
}

}  // namespace slipway::engine
