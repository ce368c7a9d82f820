// Rows and columns of an output, as regions of the stored tensors that it is made of.
#pragma once

#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/target/rank_layout.h"

namespace slipway::engine {

// CHECKPOINT_UNSUPPORTED, naming the tensor and what works; `why` says what it is.
absl::Status CannotBeCut(const OutputTensor& tensor, std::string_view why);

// Of a tensor in the axes that the checkpoint has it in.
// CHECKPOINT_UNSUPPORTED where its axes are moved in another way.
absl::StatusOr<Shape> MatrixShapeOf(const OutputTensor& tensor);

// Whether a Hugging Face directory stores the matrix transposed, by its family's table (GPT-2's Conv1D).
bool IsStoredTransposed(const ExportPlan& plan, const OutputTensor& tensor);

// As a target sees it: of one that is stored transposed, in the training framework's axes. Errors as MatrixShapeOf.
absl::StatusOr<Shape> ShapeForTargets(const ExportPlan& plan, const OutputTensor& tensor);

// Makes it the matrix that a target sees, for what is not cut. Errors as MatrixShapeOf.
absl::Status MoveToTargetAxes(const ExportPlan& plan, OutputTensor& tensor);

struct MatrixSize {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};
MatrixSize MatrixSizeOf(const Shape& shape);

// Appends the part's regions, in row-major order, to `regions`. INTERNAL where `part` is not inside `tensor`,
// CHECKPOINT_UNSUPPORTED where the tensor's rows are not rows in the checkpoint.
absl::Status AppendSlice(const OutputTensor& tensor, const MatrixPart& part, std::vector<SourceRegion>& regions);

}  // namespace slipway::engine
