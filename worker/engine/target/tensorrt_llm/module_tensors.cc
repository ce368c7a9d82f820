#include "worker/engine/target/tensorrt_llm/module_tensors.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/error.h"

namespace slipway::engine::tensorrt_llm {
namespace {

constexpr std::int64_t kMaximumParts = std::int64_t{1} << 22;  // about half a gigabyte of them

std::span<const Source> SourcesOf(const ModuleRule& rule) {
  const auto end = std::ranges::find(rule.sources, std::string_view{}, &Source::module);
  return {rule.sources.begin(), end};
}

std::string NameOf(std::string_view prefix, std::string_view module, std::string_view suffix, std::int64_t expert = 0) {
  constexpr std::string_view kExpert = "{expert}";
  const std::size_t at = module.find(kExpert);
  return at == std::string_view::npos ? fmt::format("{}{}{}", prefix, module, suffix)
                                      : fmt::format("{}{}{}{}{}", prefix, module.substr(0, at), expert,
                                                    module.substr(at + kExpert.size()), suffix);
}

bool WantsBias(const ModuleRule& rule, const EngineModel& model) {
  switch (rule.bias) {
    case Bias::kNone:
      return false;
    case Bias::kAttention:
      return model.attention_bias;
    case Bias::kMlp:
      return model.mlp_bias;
    case Bias::kAlways:
      return true;
  }
  return false;
}

bool IsOfExperts(const ModuleRule& rule) {
  return rule.split == Split::kExpertRows || rule.split == Split::kExpertColumns;
}

// The head-th head of queries (kind 0), keys (1) or values (2), counted in heads from its module's first row.
std::int64_t HeadRow(HeadOrder order, const EngineModel& m, std::size_t kind, std::int64_t head) {
  switch (order) {
    case HeadOrder::kSeparate:
      return head;
    case HeadOrder::kJoined:
      return head + (kind == 0 ? 0 : m.heads + (kind == 1 ? 0 : m.key_value_heads));
    case HeadOrder::kGrouped: {
      const std::int64_t group = m.heads / m.key_value_heads;
      return kind == 0 ? head / group * (group + 2) + head % group : head * (group + 2) + group + (kind == 1 ? 0 : 1);
    }
  }
  return head;
}

}  // namespace

// Where a module is taken from and written to.
struct ModuleTensors::Place {
  std::string_view name_prefix;
  std::string_view source_prefix;
  std::int64_t rank = 0;
};

absl::Status ModuleTensors::AppendModule(const ModuleRule& rule, std::string_view name_prefix,
                                         std::string_view source_prefix, std::int64_t rank, RankFile& file) {
  const Place place{name_prefix, source_prefix, rank};
  SLIPWAY_RETURN_IF_ERROR(AppendTensor(rule, Kind::kWeight, place, file));
  return WantsBias(rule, model_) ? AppendTensor(rule, Kind::kBias, place, file) : RefuseBiases(rule, source_prefix);
}

absl::Status ModuleTensors::AppendTensor(const ModuleRule& rule, Kind kind, const Place& place, RankFile& file) {
  RankTensor tensor;
  tensor.name = fmt::format("{}{}.{}", place.name_prefix, rule.name, kind == Kind::kBias ? "bias" : "weight");
  tensor.dtype = rule.is_router ? DType::kF32 : model_.dtype;
  tensor.add_one = rule.is_norm && family_.zero_centered && kind == Kind::kWeight;
  const bool by_columns = rule.split == Split::kColumns && kind == Kind::kWeight;
  const bool by_rows = rule.split == Split::kRows;
  if (rule.split == Split::kHeads) {
    SLIPWAY_RETURN_IF_ERROR(AppendHeads(rule, kind, place, tensor));
  } else if (IsOfExperts(rule)) {
    SLIPWAY_RETURN_IF_ERROR(AppendExperts(rule, place, tensor));
  } else if (by_columns) {
    const Range share = Share(rule.columns(model_), place.rank, parallel_.tensor);
    SLIPWAY_RETURN_IF_ERROR(AppendColumns(rule, place.source_prefix, share, tensor));
  } else {
    const Range share = Share(rule.rows(model_), by_rows ? place.rank : 0, by_rows ? parallel_.tensor : 1);
    SLIPWAY_RETURN_IF_ERROR(AppendRows(rule, kind, place.source_prefix, share, tensor));
  }
  if (tensor.shape.empty()) {
    std::int64_t rows = 0;
    for (const MatrixPart& part : tensor.parts) {
      rows += part.rows;
    }
    tensor.shape = {rows};
    if (kind == Kind::kWeight && rule.columns != nullptr) {
      tensor.shape.push_back(tensor.parts.front().columns);
    }
  }
  file.tensors.push_back(std::move(tensor));
  return absl::OkStatus();
}

absl::Status ModuleTensors::AppendHeads(const ModuleRule& rule, Kind kind, const Place& place, RankTensor& tensor) {
  const std::int64_t columns = kind == Kind::kBias ? 1 : rule.columns(model_);
  const std::array<std::int64_t, 3> heads = {model_.heads, model_.key_value_heads, model_.key_value_heads};
  const std::int64_t joined_heads = heads[0] + heads[1] + heads[2];
  for (std::size_t kind_of_head = 0; kind_of_head < heads.size(); ++kind_of_head) {
    const std::string name =
        NameOf(place.source_prefix, rule.sources[kind_of_head].module, kind == Kind::kBias ? ".bias" : ".weight");
    const std::int64_t all = rule.order == HeadOrder::kSeparate ? heads[kind_of_head] : joined_heads;
    const Shape shape = kind == Kind::kBias ? Shape{all * model_.head_size} : Shape{all * model_.head_size, columns};
    SLIPWAY_RETURN_IF_ERROR(Check(name, shape, false));
    const Range mine = kind_of_head == 0 ? Share(model_.heads, place.rank, parallel_.tensor)
                                         : parallel_.KeyValueHeadsOf(place.rank, model_.key_value_heads);
    for (std::int64_t head = mine.first; head < mine.first + mine.count; ++head) {
      const std::int64_t row = HeadRow(rule.order, model_, kind_of_head, head) * model_.head_size;
      SLIPWAY_RETURN_IF_ERROR(AppendPart(tensor, {name, row, model_.head_size, 0, columns}));
    }
  }
  return absl::OkStatus();
}

absl::Status ModuleTensors::AppendRows(const ModuleRule& rule, Kind kind, std::string_view prefix, Range share,
                                       RankTensor& tensor) {
  const bool is_vector = kind == Kind::kBias || rule.columns == nullptr;
  const std::int64_t columns = is_vector ? 1 : rule.columns(model_);
  for (const Source& source : SourcesOf(rule)) {
    const std::string name = NameOf(prefix, source.module, kind == Kind::kBias ? ".bias" : ".weight");
    const std::int64_t rows = rule.rows(model_);
    const std::int64_t all = rows * source.parts;
    SLIPWAY_RETURN_IF_ERROR(Check(name, is_vector ? Shape{all} : Shape{all, columns}, rule.is_router));
    SLIPWAY_RETURN_IF_ERROR(AppendPart(tensor, {name, source.part * rows + share.first, share.count, 0, columns}));
  }
  return absl::OkStatus();
}

absl::Status ModuleTensors::AppendColumns(const ModuleRule& rule, std::string_view prefix, Range share,
                                          RankTensor& tensor) {
  const std::string name = NameOf(prefix, rule.sources[0].module, ".weight");
  const std::int64_t rows = rule.rows(model_);
  SLIPWAY_RETURN_IF_ERROR(Check(name, {rows, rule.columns(model_)}, false));
  return AppendPart(tensor, {name, 0, rows, share.first, share.count});
}

absl::Status ModuleTensors::AppendExperts(const ModuleRule& rule, const Place& place, RankTensor& tensor) {
  const Range experts = parallel_.ExpertsOf(place.rank, model_.experts);
  const std::int64_t rows = rule.rows(model_);
  const std::int64_t columns = rule.columns(model_);
  const bool by_rows = rule.split == Split::kExpertRows;
  const Range share = Share(by_rows ? rows : columns, parallel_.ExpertShareOf(place.rank), parallel_.expert_tensor);
  const std::span<const Source> sources = SourcesOf(rule);
  for (std::int64_t expert = experts.first; expert < experts.first + experts.count; ++expert) {
    for (const Source& source : sources) {
      const std::string name = NameOf(place.source_prefix, source.module, ".weight", expert);
      SLIPWAY_RETURN_IF_ERROR(Check(name, {rows, columns}, false));
      SLIPWAY_RETURN_IF_ERROR(AppendPart(tensor, by_rows ? MatrixPart{name, share.first, share.count, 0, columns}
                                                         : MatrixPart{name, 0, rows, share.first, share.count}));
    }
  }
  const auto blocks = static_cast<std::int64_t>(sources.size());
  tensor.shape =
      by_rows ? Shape{experts.count, blocks * share.count, columns} : Shape{experts.count, rows, share.count};
  return absl::OkStatus();
}

absl::Status ModuleTensors::AppendVocabulary(std::string name, const std::string& module, bool split, std::int64_t rank,
                                             RankFile& file) {
  const std::string source = module + ".weight";
  SLIPWAY_RETURN_IF_ERROR(Check(source, {model_.vocabulary, model_.hidden}, false));
  const std::int64_t ranks = split ? parallel_.tensor : 1;
  const std::int64_t rows = (model_.vocabulary + ranks - 1) / ranks;
  const std::int64_t first = std::min(split ? rank * rows : 0, model_.vocabulary);
  const std::int64_t stored = std::min(rows, model_.vocabulary - first);
  RankTensor tensor;
  tensor.name = std::move(name);
  tensor.shape = {rows, model_.hidden};
  tensor.dtype = model_.dtype;
  if (stored > 0) {
    SLIPWAY_RETURN_IF_ERROR(AppendPart(tensor, {source, first, stored, 0, model_.hidden}));
  }
  if (stored < rows) {
    SLIPWAY_RETURN_IF_ERROR(AppendPart(tensor, {"", 0, rows - stored, 0, model_.hidden}));
  }
  file.tensors.push_back(std::move(tensor));
  return absl::OkStatus();
}

absl::Status ModuleTensors::RefuseBiases(const ModuleRule& rule, std::string_view source_prefix) const {
  for (const Source& source : SourcesOf(rule)) {
    const std::string name = NameOf(source_prefix, source.module, ".bias");
    if (source_.tensors.contains(name)) {
      return Error(
          Reason::kOptionUnsupported,
          fmt::format("TensorRT-LLM's class of {} has no bias for it in this model; --target huggingface keeps it",
                      family_.architecture),
          {.tensor = name});
    }
  }
  return absl::OkStatus();
}

absl::Status ModuleTensors::Check(const std::string& tensor, const Shape& shape, bool is_router) {
  const auto found = source_.tensors.find(tensor);
  if (found == source_.tensors.end()) {
    return Error(Reason::kTensorMissing, fmt::format("TensorRT-LLM's class of {} needs it", family_.architecture),
                 {.tensor = tensor});
  }
  if (found->second.shape != shape) {
    return Error(Reason::kTensorShapeMismatch,
                 fmt::format("it is [{}], and [{}] by config.json", fmt::join(found->second.shape, ", "),
                             fmt::join(shape, ", ")),
                 {.tensor = tensor});
  }
  const DType dtype = found->second.dtype;
  if (!IsFloat(dtype) || !IsFloat(model_.dtype)) {
    return Error(Reason::kOptionUnsupported,
                 fmt::format("it holds {}; --target tensorrt-llm takes weights in FP16, BF16 or FP32",
                             InfoOf(IsFloat(dtype) ? model_.dtype : dtype).safetensors_name),
                 {.tensor = tensor});
  }
  if (rounded_.empty() && dtype != model_.dtype && !is_router) {
    rounded_ = tensor;
  }
  return absl::OkStatus();
}

// Rows that follow the last part's become part of it.
absl::Status ModuleTensors::AppendPart(RankTensor& tensor, MatrixPart part) {
  if (!tensor.parts.empty()) {
    MatrixPart& last = tensor.parts.back();
    if (last.tensor == part.tensor && last.first_row + last.rows == part.first_row &&
        last.first_column == part.first_column && last.columns == part.columns) {
      last.rows += part.rows;
      return absl::OkStatus();
    }
  }
  if (++parts_ > kMaximumParts) {
    return Error(Reason::kLimitExceeded, fmt::format("the ranks are made of more than {} pieces", kMaximumParts));
  }
  tensor.parts.push_back(std::move(part));
  return absl::OkStatus();
}

}  // namespace slipway::engine::tensorrt_llm
