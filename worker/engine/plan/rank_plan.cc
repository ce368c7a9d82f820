#include "worker/engine/plan/rank_plan.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/plan/matrix_slice.h"
#include "worker/engine/plan/output_size.h"
#include "worker/engine/transform/low_rank_update.h"

namespace slipway::engine {
namespace {

using nlohmann::ordered_json;

// Rows and columns of a tensor, each once.
struct Rectangle {
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  std::int64_t first_column = 0;
  std::int64_t columns = 0;
  bool operator==(const Rectangle&) const = default;
};

// Whether intervals of columns leave none out. Sorts them.
bool CoverColumns(std::vector<Rectangle>& rectangles, std::int64_t columns) {
  std::ranges::sort(rectangles, {}, &Rectangle::first_column);
  std::int64_t covered = 0;
  for (const Rectangle& rectangle : rectangles) {
    if (rectangle.first_column > covered) {
      return false;
    }
    covered = std::max(covered, rectangle.first_column + rectangle.columns);
  }
  return covered == columns;
}

// Whether the rectangles, sorted, are together the whole matrix; they may overlap. Between two rows at which one begins
// or ends, it is for those that span them to have all columns.
bool Cover(const std::vector<Rectangle>& rectangles, MatrixSize size) {
  std::set<std::int64_t> rows = {0, size.rows};
  for (const Rectangle& rectangle : rectangles) {
    rows.insert({rectangle.first_row, rectangle.first_row + rectangle.rows});
  }
  std::vector<Rectangle> spanning;
  auto next = rectangles.begin();
  for (const std::int64_t row : rows) {
    std::erase_if(spanning, [row](const Rectangle& r) { return r.first_row + r.rows <= row; });
    for (; next != rectangles.end() && next->first_row == row; ++next) {
      if (next->rows > 0) {
        spanning.push_back(*next);
      }
    }
    if (row < size.rows && !CoverColumns(spanning, size.columns)) {
      return false;
    }
  }
  return true;
}

bool AreSame(const SourceRegion& a, const SourceRegion& b) {
  return a.tensor == b.tensor && a.offsets == b.offsets && a.sizes == b.sizes;
}

class Cutter {
 public:
  Cutter(const RankLayout& layout, ExportPlan& plan) : layout_(layout), plan_(plan) {}

  absl::StatusOr<std::vector<NamedFile>> Run() {
    for (const OutputTensor& tensor : plan_.tensors) {
      sources_.emplace(tensor.name, &tensor);
    }
    std::vector<NamedFile> files;
    for (const RankFile& file : layout_.files) {
      std::unordered_set<std::string_view> names;
      for (const RankTensor& tensor : file.tensors) {
        if (!names.insert(tensor.name).second) {
          return Error(Reason::kTensorDuplicated, "the target has it twice in one file",
                       {.tensor = tensor.name, .file = file.file});
        }
        SLIPWAY_ASSIGN_OR_RETURN(OutputTensor output, Cut(tensor));
        outputs_.push_back(std::move(output));
      }
      files.push_back({.name = file.file, .tensor_count = static_cast<std::int32_t>(file.tensors.size())});
    }
    if (outputs_.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max())) {
      return Error(Reason::kLimitExceeded, "the ranks have more than 2^31 tensors");
    }
    SLIPWAY_RETURN_IF_ERROR(CheckAllUsed());
    plan_.tensors = std::move(outputs_);
    ReplaceTexts();
    plan_.warnings.insert(plan_.warnings.end(), layout_.warnings.begin(), layout_.warnings.end());
    return files;
  }

 private:
  absl::StatusOr<OutputTensor> Cut(const RankTensor& wanted) {
    OutputTensor output;
    output.name = wanted.name;
    output.shape = wanted.shape;
    const auto elements = CheckedVolume(wanted.shape);
    if (!elements) {
      return Error(Reason::kLimitExceeded, "has more than 2^63 elements", {.tensor = wanted.name});
    }
    if (wanted.constant) {
      return Constant(wanted, *elements, std::move(output));
    }
    SLIPWAY_RETURN_IF_ERROR(CheckSizes(wanted, *elements));
    bool first = true;
    std::size_t transposed = 0;
    for (const MatrixPart& part : wanted.parts) {
      if (part.tensor.empty()) {
        output.regions.push_back({.tensor = kZeros, .offsets = {0, 0}, .sizes = {part.rows, part.columns}});
        continue;
      }
      SLIPWAY_ASSIGN_OR_RETURN(const OutputTensor* const source, Source(wanted, part));
      SLIPWAY_RETURN_IF_ERROR(Take(*source, wanted, first, output));
      first = false;
      const bool is_transposed = IsStoredTransposed(plan_, *source);
      transposed += is_transposed ? 1 : 0;
      SLIPWAY_RETURN_IF_ERROR(AppendSlice(*source, is_transposed ? Transposed(part) : part, output.regions));
      used_[source].push_back({part.first_row, part.rows, part.first_column, part.columns});
    }
    if (first && !wanted.dtype) {
      return Error(Reason::kInternal, "the target makes it of nothing", {.tensor = wanted.name});
    }
    if (first) {  // a rank that has nothing but the vocabulary's padding
      output.dtype = *wanted.dtype;
      output.transform = {.add_one = false, .from = output.dtype, .to = output.dtype};
    }
    if (transposed > 0) {
      SLIPWAY_RETURN_IF_ERROR(Transpose(wanted, transposed, output));
    }
    if (!wanted.products.empty()) {
      SLIPWAY_RETURN_IF_ERROR(AddProducts(wanted, output));
    }
    SLIPWAY_RETURN_IF_ERROR(SetBytes(wanted.name, output));
    return output;
  }

  static absl::StatusOr<OutputTensor> Constant(const RankTensor& wanted, std::int64_t elements, OutputTensor output) {
    if (elements != 1 || !wanted.parts.empty()) {
      return Error(Reason::kInternal, "the target wants more than one constant", {.tensor = wanted.name});
    }
    output.dtype = DType::kF32;
    output.transform = {.add_one = false, .from = DType::kF32, .to = DType::kF32};
    output.quantized = QuantizedPart{.weight = -1, .role = StoredRole::kTensorScale, .constant = *wanted.constant};
    output.bytes = InfoOf(DType::kF32).bytes;
    return output;
  }

  static MatrixPart Transposed(const MatrixPart& part) {
    return {part.tensor, part.first_column, part.columns, part.first_row, part.rows};
  }

  // Of parts that are all stored transposed and equally high: each is a matrix to be transposed.
  static absl::Status Transpose(const RankTensor& wanted, std::size_t transposed, OutputTensor& output) {
    const MatrixPart& first = wanted.parts.front();
    const auto is_alike = [&first](const MatrixPart& part) { return part.rows == first.rows; };
    if (transposed != wanted.parts.size() || output.regions.size() != wanted.parts.size() || output.shape.size() != 2 ||
        !std::ranges::all_of(wanted.parts, is_alike)) {
      return Error(Reason::kCheckpointUnsupported,
                   fmt::format("is stored transposed, so it cannot be joined to {}: export from a Megatron checkpoint",
                               wanted.name),
                   {.tensor = first.tensor});
    }
    output.permutation = {.view = {static_cast<std::int64_t>(transposed), first.columns, first.rows},
                          .order = {0, 2, 1}};
    return absl::OkStatus();
  }

  // A product's factor, as it is in the checkpoint.
  absl::Status TakeFactor(const RankTensor& wanted, const MatrixPart& part, std::vector<SourceRegion>& regions,
                          DType& dtype) {
    SLIPWAY_ASSIGN_OR_RETURN(const OutputTensor* const source, Source(wanted, part));
    if (source->update || source->scales || source->column_factors != nullptr || source->transform.add_one ||
        !source->permutation.IsNone()) {
      return CannotBeCut(*source, "it is more than a copy, and the target multiplies it");
    }
    if (!regions.empty() && source->transform.from != dtype) {
      return Error(Reason::kCheckpointUnsupported,
                   fmt::format("is of another dtype than the others of its kind in {}", wanted.name),
                   {.tensor = source->name});
    }
    dtype = source->transform.from;
    used_[source].push_back({part.first_row, part.rows, part.first_column, part.columns});
    return AppendSlice(*source, part, regions);
  }

  absl::Status AddProducts(const RankTensor& wanted, OutputTensor& output) {
    const MatrixProduct& first = wanted.products.front();
    const auto blocks = static_cast<std::int64_t>(wanted.products.size());
    if (output.shape.size() != 2 || output.shape[0] % blocks != 0 || !output.permutation.IsNone() || output.scales) {
      return Error(Reason::kInternal, "the target adds products to what is no matrix of blocks",
                   {.tensor = wanted.name});
    }
    LowRankUpdate update;
    update.rank = first.matrix.rows;
    update.scale = 1;
    update.updated_rows = first.transposed.columns;
    update.block_rows = output.shape[0] / blocks;
    for (const MatrixProduct& product : wanted.products) {
      SLIPWAY_RETURN_IF_ERROR(TakeFactor(wanted, product.matrix, update.a, update.a_dtype));
      SLIPWAY_RETURN_IF_ERROR(TakeFactor(wanted, product.transposed, update.b, update.b_dtype));
      if (product.matrix.rows != update.rank || product.transposed.rows != update.rank ||
          product.matrix.columns != output.shape.back() || product.transposed.columns != update.updated_rows) {
        return Error(Reason::kInternal, "the target makes it of products that do not fit together",
                     {.tensor = wanted.name});
      }
    }
    if (!CanMerge(update, output.transform, output.shape[1])) {
      return Error(Reason::kLimitExceeded,
                   fmt::format("products of [{}, {}] and [{}, {}] are larger than what is computed", update.rank,
                               update.updated_rows, update.rank, output.shape[1]),
                   {.tensor = wanted.name});
    }
    output.update = std::move(update);
    return absl::OkStatus();
  }

  static absl::Status CheckSizes(const RankTensor& wanted, std::int64_t elements) {
    std::int64_t sum = 0;
    for (const MatrixPart& part : wanted.parts) {
      const auto volume = CheckedMultiply(part.rows, part.columns);
      const auto more = volume && *volume >= 0 ? CheckedAdd(sum, *volume) : std::nullopt;
      if (!more || part.columns != wanted.parts.front().columns) {
        return Error(Reason::kInternal, "the target makes it of parts that do not fit together",
                     {.tensor = wanted.name});
      }
      sum = *more;
    }
    return sum == elements
               ? absl::OkStatus()
               : Error(Reason::kInternal,
                       fmt::format("the target makes [{}] of {} elements", fmt::join(wanted.shape, ", "), sum),
                       {.tensor = wanted.name});
  }

  absl::StatusOr<const OutputTensor*> Source(const RankTensor& wanted, const MatrixPart& part) const {
    const auto found = sources_.find(part.tensor);
    if (found == sources_.end()) {
      return Error(Reason::kTensorMissing,
                   fmt::format("the target needs it for {}, but the model has none", wanted.name),
                   {.tensor = part.tensor});
    }
    return found->second;
  }

  // What is done to the source's elements is done to the output's.
  absl::Status Take(const OutputTensor& source, const RankTensor& wanted, bool first, OutputTensor& output) const {
    if (source.update) {
      return CannotBeCut(source, "an adapter is merged into it");
    }
    if (source.column_factors != nullptr) {
      return CannotBeCut(source, "its columns are multiplied by scales of inputs");
    }
    // One scale for all that is joined is that of the whole: parts of one matrix of the training framework's.
    const bool has_one_scale = source.scales && source.scales->regions.size() == 1 &&
                               CheckedVolume(source.scales->regions[0].sizes) == 1 && wanted.shape.size() == 2;
    const bool is_scaled_alike =
        has_one_scale && (first || (output.scales && AreSame(output.scales->regions[0], source.scales->regions[0])));
    if (source.scales.has_value() != is_scaled_alike || (!first && output.scales.has_value() != is_scaled_alike)) {
      return CannotBeCut(source, "its elements are codes under scales of their own");
    }
    if (source.transform.add_one && wanted.add_one) {
      return Error(Reason::kInternal, "the target adds one a second time", {.tensor = source.name});
    }
    const ElementTransform transform{.add_one = source.transform.add_one || wanted.add_one,
                                     .from = source.transform.from,
                                     .to = wanted.dtype.value_or(source.dtype)};
    if (!first && (transform.from != output.transform.from || transform.to != output.transform.to ||
                   transform.add_one != output.transform.add_one)) {
      return Error(Reason::kCheckpointUnsupported,
                   fmt::format("is of another dtype than what the target joins it with in {}", wanted.name),
                   {.tensor = source.name});
    }
    output.transform = transform;
    output.dtype = transform.to;
    output.scales = source.scales;
    if (output.scales) {
      output.scales->rows = wanted.shape.front();
      output.scales->columns = wanted.shape.back();
    }
    return absl::OkStatus();
  }

  absl::Status CheckAllUsed() {
    std::unordered_map<std::string_view, std::string_view> left_out;
    for (const LeftOut& out : layout_.left_out) {
      left_out.emplace(out.tensor, out.reason);
    }
    for (const OutputTensor& tensor : plan_.tensors) {
      const auto found = used_.find(&tensor);
      const bool is_left_out = left_out.contains(tensor.name);
      if (found == used_.end() && is_left_out) {
        continue;
      }
      if (found == used_.end() || is_left_out) {
        return Error(is_left_out ? Reason::kInternal : Reason::kTensorUnknown,
                     is_left_out ? "the target leaves it out and has it" : "the target has no place for it",
                     {.tensor = tensor.name});
      }
      std::vector<Rectangle>& rectangles = found->second;
      std::ranges::sort(rectangles, {},
                        [](const Rectangle& r) { return std::tuple(r.first_row, r.rows, r.first_column, r.columns); });
      rectangles.erase(std::unique(rectangles.begin(), rectangles.end()), rectangles.end());
      SLIPWAY_ASSIGN_OR_RETURN(const Shape shape, ShapeForTargets(plan_, tensor));
      if (!Cover(rectangles, MatrixSizeOf(shape))) {
        return Error(Reason::kTensorMissing, "the ranks do not have all of it", {.tensor = tensor.name});
      }
    }
    return absl::OkStatus();
  }

  void ReplaceTexts() {
    for (const TextFile& text : layout_.texts) {
      std::erase_if(plan_.texts, [&](const TextFile& old) { return old.path == text.path; });
      if (!text.content.empty()) {
        plan_.texts.push_back(text);
      }
    }
  }

  const RankLayout& layout_;
  ExportPlan& plan_;
  std::unordered_map<std::string_view, const OutputTensor*> sources_;
  std::unordered_map<const OutputTensor*, std::vector<Rectangle>> used_;
  std::vector<OutputTensor> outputs_;
};

}  // namespace

absl::StatusOr<HuggingFaceModel> HuggingFaceModelOf(const ExportPlan& plan) {
  HuggingFaceModel model;
  model.architecture = plan.architecture;
  if (model.architecture.empty()) {
    return Error(Reason::kArchitectureUnsupported,
                 "config.json names no architecture, which a target with ranks must know: add architectures to it, or "
                 "use --target huggingface",
                 {.file = "config.json"});
  }
  const auto config = std::ranges::find(plan.texts, "config.json", &TextFile::path);
  if (config != plan.texts.end()) {
    model.config = ordered_json::parse(config->content, nullptr, /*allow_exceptions=*/false);
  }
  if (!model.config.is_object()) {
    return Error(Reason::kInternal, "the plan has no config.json");
  }
  for (const OutputTensor& tensor : plan.tensors) {
    const absl::StatusOr<Shape> shape = ShapeForTargets(plan, tensor);
    // What cannot be cut is refused where a target asks for it.
    model.tensors.emplace(tensor.name,
                          HuggingFaceTensor{.shape = shape.ok() ? *shape : tensor.shape, .dtype = tensor.dtype});
  }
  return model;
}

absl::StatusOr<std::vector<NamedFile>> CutIntoRanks(const RankLayout& layout, ExportPlan& plan) {
  return Cutter(layout, plan).Run();
}

}  // namespace slipway::engine
