#include "worker/engine/plan/rank_weights.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include <fmt/format.h>

#include "common/count_of.h"
#include "common/error.h"
#include "worker/engine/plan/linear_weights.h"
#include "worker/engine/plan/matrix_slice.h"
#include "worker/engine/plan/output_size.h"
#include "worker/engine/plan/refusal.h"
#include "worker/engine/quantize/quantizer.h"

namespace slipway::engine {
namespace {

// Modules whose inputs share a scale: fused siblings, of all experts of a layer.
std::string InputKeyOf(std::string_view module) {
  std::string key = FusedNameOf(module);
  constexpr std::string_view kExperts = ".experts.";
  const std::size_t at = key.find(kExperts);
  const std::size_t end = at == std::string::npos ? at : key.find('.', at + kExperts.size());
  return end == std::string::npos ? key : key.replace(at + kExperts.size(), end - at - kExperts.size(), "*");
}

bool HasTensorScale(const QuantizedWeight& weight) {
  return weight.coding.sharing == Sharing::kTensor || IsTwoLevel(weight.coding.rule) ||
         Stores(*weight.layout, StoredRole::kFloat8Scale);
}

// The rows of the pieces, whole, one below the other.
absl::Status TakeWholeRows(std::span<const RankPiece> pieces, QuantizedWeight& weight) {
  const RankPiece& first = pieces.front();
  const OutputTensor& source = first.weight->values;
  OutputTensor values = weight.values;
  if (pieces.size() == 1 && first.part->rows == first.weight->rows) {
    values = source;
    values.name = weight.values.name;
    values.dtype = weight.values.dtype;
    values.transform = weight.values.transform;
  } else {
    if (!values.permutation.IsNone() || values.scales || values.update) {
      return Error(Reason::kInternal, "what was joined so is not cut with scales of whole rows",
                   {.tensor = values.name});
    }
    values.regions.clear();
    for (const RankPiece& piece : pieces) {
      SLIPWAY_RETURN_IF_ERROR(AppendSlice(piece.weight->values,
                                          {.tensor = piece.part->tensor,
                                           .first_row = piece.part->first_row,
                                           .rows = piece.part->rows,
                                           .first_column = 0,
                                           .columns = piece.weight->columns},
                                          values.regions));
    }
    values.shape = {weight.rows, first.weight->columns};
    SLIPWAY_RETURN_IF_ERROR(SetBytes(values.name, values));
  }
  weight.values = std::move(values);
  return absl::OkStatus();
}

// Whether modules that are joined have each its own scale, as they have in a Hugging Face directory: not those of one
// expert, and not where the format shares it.
bool KeepsScalesApart(const QuantizedWeight& weight) {
  return weight.stack == 1 && !weight.format->shares_tensor_scale &&
         std::ranges::any_of(weight.layout->tensors, [](const LayoutTensor& stored) {
           return stored.role == StoredRole::kTensorScale && stored.joined != JoinedScales::kOne;
         });
}

// Scales of rows are of whole rows, so that they are the same on each rank that has some of the columns.
absl::Status KeepColumns(std::span<const RankPiece> pieces, QuantizedWeight& weight) {
  const RankPiece& first = pieces.front();
  if (weight.coding.sharing != Sharing::kRow || first.part->columns == first.weight->columns) {
    return absl::OkStatus();
  }
  // Columns are kept by whole bytes of codes, and by whole words of them.
  constexpr std::int64_t kCodesInWord = 4;
  if (weight.coding.packing == Packing::kWords &&
      (first.part->first_column % kCodesInWord != 0 || first.part->columns % kCodesInWord != 0)) {
    return Refused(
        first.weight->module,
        fmt::format("is cut to {} columns on a rank for {}, which are no whole words of {} codes: take fewer "
                    "ranks, leave the module out with a rule of --recipe, or choose another format",
                    first.part->columns, weight.values.name, kCodesInWord));
  }
  weight.first_kept_column = first.part->first_column;
  weight.kept_columns = first.part->columns;
  weight.columns = first.weight->columns;
  return TakeWholeRows(pieces, weight);
}

// Squares that share a scale lie within one module, and within what a rank has of it.
absl::Status CheckSquares(std::span<const RankPiece> pieces, const QuantizedWeight& weight) {
  if (weight.coding.sharing != Sharing::kSquare) {
    return absl::OkStatus();
  }
  const std::int64_t square = weight.coding.group;
  for (const RankPiece& piece : pieces) {
    const MatrixPart& part = *piece.part;
    const bool whole_rows = part.rows % square == 0 || (pieces.size() == 1 && part.rows == piece.weight->rows);
    const bool whole_columns = part.columns % square == 0 || part.columns == piece.weight->columns;
    if (!whole_rows || !whole_columns) {
      return Refused(piece.weight->module,
                     fmt::format("has {} x {} in {}, which are no whole blocks of {} x {}: leave the module out with a "
                                 "rule of --recipe, or choose another format, or another --tensor-parallel",
                                 part.rows, part.columns, weight.values.name, square, square));
    }
  }
  return absl::OkStatus();
}

// Where the target keeps a scale of the input for each module that is joined, as a Hugging Face directory has them.
void TakeInputAmaxes(std::span<const RankPiece> pieces, QuantizedWeight& weight) {
  const auto stored = std::ranges::find_if(weight.layout->tensors, [](const LayoutTensor& tensor) {
    return tensor.role == StoredRole::kInputScale || tensor.role == StoredRole::kInputScaleReciprocal;
  });
  if (stored == weight.layout->tensors.end() || stored->joined == JoinedScales::kOne) {
    return;
  }
  const bool one_an_expert = weight.stack > 1 && stored->joined == JoinedScales::kEachButOne;
  const std::size_t alike = one_an_expert ? pieces.size() / static_cast<std::size_t>(weight.stack) : 1;
  weight.input_amaxes.assign(pieces.size() / alike, 0);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    float& amax = weight.input_amaxes[i / alike];
    amax = std::max(amax, pieces[i].weight->input_amax.value_or(0));
  }
}

// Given ranges of blocks, cut as the weight is.
absl::Status TakeAmaxes(std::span<const RankPiece> pieces, QuantizedWeight& weight) {
  const auto given =
      std::ranges::count_if(pieces, [](const RankPiece& piece) { return piece.weight->amaxes.has_value(); });
  if (given == 0) {
    return absl::OkStatus();
  }
  if (given != std::ssize(pieces)) {
    return Refused(pieces.front().weight->module,
                   fmt::format("was calibrated with ranges of its blocks, and some that it is joined with in {} were "
                               "not",
                               weight.values.name));
  }
  StoredAmaxes amaxes = *pieces.front().weight->amaxes;
  amaxes.regions.clear();
  amaxes.rows = weight.rows;
  const std::int64_t block = weight.coding.sharing == Sharing::kGroup ? weight.coding.group : weight.columns;
  amaxes.columns = weight.columns / block;
  for (const RankPiece& piece : pieces) {
    const StoredAmaxes& source = *piece.weight->amaxes;
    OutputTensor grid;
    grid.name = piece.weight->values.name;
    grid.regions = source.regions;
    grid.shape =
        source.columns == 1 &&
                std::ranges::all_of(source.regions, [](const SourceRegion& region) { return region.sizes.size() < 2; })
            ? Shape{source.rows}
            : Shape{source.rows, source.columns};
    const bool whole_rows = weight.coding.sharing == Sharing::kRow;
    SLIPWAY_RETURN_IF_ERROR(AppendSlice(grid,
                                        {.tensor = grid.name,
                                         .first_row = piece.part->first_row,
                                         .rows = piece.part->rows,
                                         .first_column = whole_rows ? 0 : piece.part->first_column / block,
                                         .columns = whole_rows ? 1 : piece.part->columns / block},
                                        amaxes.regions));
  }
  weight.amaxes = std::move(amaxes);
  return absl::OkStatus();
}

}  // namespace

RankWeights::RankWeights(const Ranges* ranges, std::string_view target, std::span<const QuantizedWeight> whole,
                         ExportPlan& plan)
    : ranges_(ranges), target_(target), plan_(plan) {
  for (const QuantizedWeight& weight : whole) {
    fused_[FusedNameOf(weight.module)].push_back(&weight);
    if (weight.input_amax) {
      float& amax = input_amaxes_[InputKeyOf(weight.module)];
      amax = std::max(amax, *weight.input_amax);
    }
  }
}

absl::StatusOr<QuantizedWeight> RankWeights::Make(const RankTensor& wanted, std::span<const RankPiece> pieces,
                                                  OutputTensor cut) {
  if (pieces.empty() || pieces.size() != wanted.parts.size()) {
    return Error(Reason::kInternal, "the target joins a quantized matrix with something else", {.tensor = wanted.name});
  }
  const QuantizedWeight& first = *pieces.front().weight;
  QuantizedWeight weight;
  weight.stack = wanted.shape.size() > 2 ? wanted.shape.front() : 1;
  weight.columns = wanted.shape.back();
  weight.rows = wanted.shape[wanted.shape.size() - 2] * weight.stack;
  weight.format = first.format;
  weight.layout = first.layout;
  weight.coding = first.coding;
  const std::int64_t columns = weight.columns;
  const std::int32_t group = weight.coding.sharing == Sharing::kGroup ? weight.coding.group : 0;
  if (const auto why = weight.stack <= 0
                           ? std::string("there are no experts")
                           : WhyNot(*weight.format, *weight.layout, weight.rows / weight.stack, columns, group)) {
    return Refused(first.module, fmt::format("cannot be stored as {} in {} on a rank: {}; take fewer ranks, leave the "
                                             "module out with a rule of --recipe, or choose another format",
                                             weight.format->name, wanted.name, *why));
  }
  weight.values = std::move(cut);
  SLIPWAY_RETURN_IF_ERROR(CheckSquares(pieces, weight));
  SLIPWAY_RETURN_IF_ERROR(KeepColumns(pieces, weight));
  SLIPWAY_RETURN_IF_ERROR(TakeAmaxes(pieces, weight));
  SLIPWAY_RETURN_IF_ERROR(TakePreQuantScale(pieces, columns, weight));
  if (weight.layout->activations == Activations::kStatic) {
    weight.input_amax = input_amaxes_[InputKeyOf(first.module)];
    TakeInputAmaxes(pieces, weight);
  }
  SLIPWAY_RETURN_IF_ERROR(TakeScaleGroups(pieces, weight));
  return weight;
}

// Of inputs that joined modules share: `columns` of them from the part's first on.
absl::Status RankWeights::TakePreQuantScale(std::span<const RankPiece> pieces, std::int64_t columns,
                                            QuantizedWeight& weight) {
  if (!Stores(*weight.layout, StoredRole::kPreQuantScale)) {
    return absl::OkStatus();
  }
  for (const RankPiece& piece : pieces) {
    const auto [at, fresh] = input_scales_.emplace(InputKeyOf(piece.weight->module), piece.weight);
    const auto& known = at->second->pre_quant_scale;
    const auto& given = piece.weight->pre_quant_scale;
    if (!fresh && ((known == nullptr) != (given == nullptr) || (known != nullptr && *known != *given))) {
      return Refused(piece.weight->module,
                     fmt::format("has other factors of its input (pre_quant_scale) than {}, and --target {} has one "
                                 "for both: calibrate them together",
                                 at->second->module, target_));
    }
  }
  const QuantizedWeight& first = *pieces.front().weight;
  const auto begin = static_cast<std::size_t>(pieces.front().part->first_column);
  const auto count = static_cast<std::size_t>(columns);
  if (first.pre_quant_scale == nullptr) {
    auto& ones = ones_[count];
    ones = ones == nullptr ? std::make_shared<const std::vector<float>>(count, 1.0F) : ones;
    weight.pre_quant_scale = ones;
    ++without_scales_;
    example_ = example_.empty() ? first.module : example_;
    return absl::OkStatus();
  }
  const std::vector<float>& all = *first.pre_quant_scale;
  if (begin + count > all.size()) {
    return Error(Reason::kTensorShapeMismatch,
                 fmt::format("has {} factors of its input, {} are needed", all.size(), begin + count),
                 {.tensor = first.module});
  }
  weight.pre_quant_scale =
      count == all.size() ? first.pre_quant_scale
                          : std::make_shared<const std::vector<float>>(all.data() + begin, all.data() + begin + count);
  return absl::OkStatus();
}

// One a matrix of the stack, or one a module.
absl::Status RankWeights::TakeScaleGroups(std::span<const RankPiece> pieces, QuantizedWeight& weight) {
  if (!HasTensorScale(weight)) {
    return absl::OkStatus();
  }
  const bool apart = KeepsScalesApart(weight) && pieces.size() > 1;
  const std::int64_t matrix_rows = weight.rows / weight.stack;
  std::int64_t row = 0;
  for (const RankPiece& piece : pieces) {
    const std::int64_t matrix = apart ? std::ssize(weight.scale_rows) : row / matrix_rows;
    row += piece.part->rows;
    if (apart) {
      weight.scale_rows.push_back(piece.part->rows);
    }
    const std::int32_t group = ScaleGroupOf(*piece.weight, weight);
    weight.scale_group = matrix == 0 && weight.scale_group < 0 ? group : weight.scale_group;
    if (group != weight.scale_group + matrix || (!apart && row > (matrix + 1) * matrix_rows)) {
      return Error(Reason::kInternal, fmt::format("its scale cannot be that of {}", piece.weight->module),
                   {.tensor = weight.values.name});
    }
    std::vector<std::int32_t>& weights = plan_.scale_groups[static_cast<std::size_t>(group)].weights;
    if (const auto index = static_cast<std::int32_t>(plan_.quantized.size());
        weights.empty() || weights.back() != index) {
      weights.push_back(index);
    }
  }
  return absl::OkStatus();
}

// That of all modules that share it, wherever they are: their whole values.
std::int32_t RankWeights::ScaleGroupOf(const QuantizedWeight& source, const QuantizedWeight& weight) {
  const bool apart = KeepsScalesApart(weight);
  const std::string name = apart ? source.module : FusedNameOf(source.module);
  const auto [at, fresh] = groups_.emplace(name, static_cast<std::int32_t>(plan_.scale_groups.size()));
  if (!fresh) {
    return at->second;
  }
  ScaleGroup& group = plan_.scale_groups.emplace_back();
  bool all_given = ranges_ != nullptr;
  float amax = 0;
  for (const QuantizedWeight* const member : apart ? std::vector<const QuantizedWeight*>{&source} : fused_.at(name)) {
    OutputTensor& values = group.measured.emplace_back(member->values);
    values.dtype = weight.values.dtype;
    values.transform = weight.values.transform;
    const auto given = ranges_ == nullptr ? decltype(ranges_->modules.end())() : ranges_->modules.find(member->module);
    all_given = all_given && given != ranges_->modules.end() && given->second.weight_amax.has_value();
    amax = all_given ? std::max(amax, *given->second.weight_amax) : amax;
  }
  if (all_given) {
    group.amax = amax;
  }
  return at->second;
}

void RankWeights::Warn() const {
  if (without_scales_ > 0) {
    plan_.warnings.push_back(
        fmt::format("{} of ranks, of modules such as {}, have no factors of the input from a calibration: ones are "
                    "stored",
                    CountOf(without_scales_, "tensor"), example_));
  }
}

}  // namespace slipway::engine
