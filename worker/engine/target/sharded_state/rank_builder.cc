#include "worker/engine/target/sharded_state/rank_builder.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::engine::sharded_state {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kOutputLayer = "lm_head.weight";
constexpr const char* kFinalNorm = "model.norm.weight";

RankTensor Tensor(std::string name, Shape shape) {
  RankTensor tensor;
  tensor.name = std::move(name);
  tensor.shape = std::move(shape);
  return tensor;
}

MatrixPart Zeros(std::int64_t rows, std::int64_t columns) {
  MatrixPart part;
  part.rows = rows;
  part.columns = columns;
  return part;
}

}  // namespace

absl::StatusOr<RankFile> RankBuilder::Build(const Stage& stage, std::int64_t rank, std::string file) {
  rank_ = rank;
  narrow_.clear();
  wide_.clear();
  // Of tied tensors in one process the engine stores one, under the name that is first in the alphabet.
  if (stage.embedding && !(sizes_.tied && stage.output)) {
    AddVocabulary(kEmbedding, kEmbedding);
  }
  for (std::int64_t layer = stage.first_layer; layer < stage.first_layer + stage.layers && status_.ok(); ++layer) {
    AddLayer(layer);
  }
  if (stage.output) {
    AddCopy(kFinalNorm, kFinalNorm, {sizes_.hidden});
    AddVocabulary(kOutputLayer, sizes_.tied ? kEmbedding : kOutputLayer);
  }
  if (!status_.ok()) {
    return status_;
  }
  // Wide elements first: every tensor then begins at a multiple of its elements' size.
  std::ranges::move(narrow_, std::back_inserter(wide_));
  return RankFile{std::move(file), std::move(wide_)};
}

RankBuilder::Slice RankBuilder::OwnKeyValueRows() const {
  const std::int64_t heads = sizes_.key_value_heads;
  const Slice own = heads >= ranks_ ? Own(heads) : Slice{rank_ * heads / ranks_, 1};
  return {own.first * sizes_.head, own.count * sizes_.head};
}

void RankBuilder::AddLayer(std::int64_t layer) {
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  for (const char* norm : {"input_layernorm.weight", "post_attention_layernorm.weight"}) {
    AddCopy(prefix + norm, prefix + norm, {sizes_.hidden});
  }
  AddAttention(prefix + "self_attn.");
  if (sizes_.HasExperts(layer)) {
    AddExperts(prefix);
  } else {
    AddDense(prefix + "mlp.");
  }
}

void RankBuilder::AddAttention(const std::string& prefix) {
  const std::int64_t queries = sizes_.heads * sizes_.head;
  const std::int64_t keys = sizes_.key_value_heads * sizes_.head;
  const Slice own_queries{Own(sizes_.heads).first * sizes_.head, Own(sizes_.heads).count * sizes_.head};
  AddJoined(
      prefix, "qkv_proj",
      {{"q_proj", queries, own_queries}, {"k_proj", keys, OwnKeyValueRows()}, {"v_proj", keys, OwnKeyValueRows()}},
      sizes_.qkv_bias);
  AddDividedColumns(prefix + "o_proj", queries, sizes_.output_bias);
  if (family_.qk_norm) {
    for (const char* norm : {"q_norm.weight", "k_norm.weight"}) {
      AddCopy(prefix + norm, prefix + norm, {sizes_.head});
    }
  }
  if (engine_.attention_scales) {
    AddScales(prefix + "attn.");
  }
  if (engine_.attention_scales && quantized_) {
    AddScalesOfFiles(prefix + "attn.");
  }
}

void RankBuilder::AddScales(const std::string& prefix) {
  for (const char* scale : {"_k_scale", "_prob_scale", "_q_scale", "_v_scale"}) {
    RankTensor tensor = Tensor(prefix + scale, {});
    tensor.dtype = DType::kF32;
    tensor.constant = 1.0F;
    Finish(std::move(tensor));
  }
}

void RankBuilder::AddScalesOfFiles(const std::string& prefix) {
  for (const char* of : {"k", "q", "v"}) {
    RankTensor scale = Tensor(fmt::format("{}{}_scale", prefix, of), {1});
    scale.dtype = DType::kF32;
    scale.constant = 1.0F;
    Finish(std::move(scale));
    RankTensor zero_point = Tensor(fmt::format("{}{}_zero_point", prefix, of), {1});
    zero_point.dtype = dtype_;
    zero_point.parts.push_back(Zeros(1, 1));
    Finish(std::move(zero_point));
  }
}

void RankBuilder::AddDense(const std::string& prefix) {
  AddJoined(prefix, "gate_up_proj",
            {{"gate_proj", sizes_.ffn, Own(sizes_.ffn)}, {"up_proj", sizes_.ffn, Own(sizes_.ffn)}}, sizes_.mlp_bias);
  AddDividedColumns(prefix + "down_proj", sizes_.ffn, sizes_.mlp_bias);
}

void RankBuilder::AddExperts(const std::string& layer) {
  const EngineExpertNames& names = family_.*engine_.experts;
  const HuggingFaceExpertNames& from = family_.experts;
  const std::string module = layer + std::string(from.module);
  AddCopy(layer + std::string(names.router), module + "gate.weight", {sizes_.experts, sizes_.hidden});
  const Slice own = Own(sizes_.expert_ffn);
  const Slice hidden{0, sizes_.hidden};
  RankTensor gate_up = Tensor(layer + std::string(names.gate_up), {sizes_.experts, 2 * own.count, sizes_.hidden});
  RankTensor down = Tensor(layer + std::string(names.down), {sizes_.experts, sizes_.hidden, own.count});
  for (std::int64_t expert = 0; expert < sizes_.experts && status_.ok(); ++expert) {
    const auto weight = [&](std::string_view name) {
      return fmt::format("{}experts.{}.{}.weight", module, expert, name);
    };
    for (const std::string_view half : {from.gate, from.up}) {
      AddPart(gate_up, weight(half), {sizes_.expert_ffn, sizes_.hidden}, own, hidden);
    }
    AddPart(down, weight(from.down), {sizes_.hidden, sizes_.expert_ffn}, hidden, own);
  }
  Finish(std::move(gate_up));
  Finish(std::move(down));
}

void RankBuilder::AddVocabulary(std::string_view name, const std::string& source) {
  const Slice own = Own(sizes_.padded_vocabulary);
  const std::int64_t first = std::min(own.first, sizes_.vocabulary);
  const std::int64_t stored = std::min(own.first + own.count, sizes_.vocabulary) - first;
  RankTensor tensor = Tensor(std::string(name), {own.count, sizes_.hidden});
  AddPart(tensor, source, {sizes_.vocabulary, sizes_.hidden}, {first, stored}, {0, sizes_.hidden});
  if (stored == 0) {
    tensor.parts.clear();
  }
  if (stored < own.count) {
    tensor.parts.push_back(Zeros(own.count - stored, sizes_.hidden));
  }
  Finish(std::move(tensor));
}

void RankBuilder::AddCopy(const std::string& name, const std::string& source, const Shape& shape) {
  RankTensor tensor = Tensor(name, shape);
  AddPart(tensor, source, shape, {0, shape.front()}, {0, shape.size() > 1 ? shape.back() : 1});
  Finish(std::move(tensor));
}

void RankBuilder::AddJoined(const std::string& prefix, std::string_view name,
                            std::initializer_list<DividedRows> modules, bool bias) {
  std::int64_t rows = 0;
  for (const DividedRows& module : modules) {
    rows += module.own.count;
  }
  const std::string joined = prefix + std::string(name);
  RankTensor weight = Tensor(joined + ".weight", {rows, sizes_.hidden});
  RankTensor biases = Tensor(joined + ".bias", {rows});
  for (const DividedRows& module : modules) {
    const std::string source = prefix + std::string(module.module);
    AddPart(weight, source + ".weight", {module.rows, sizes_.hidden}, module.own, {0, sizes_.hidden});
    if (bias) {
      AddPart(biases, source + ".bias", {module.rows}, module.own, {0, 1});
    }
  }
  Finish(std::move(weight));
  if (bias) {
    Finish(std::move(biases));
  }
}

void RankBuilder::AddDividedColumns(const std::string& module, std::int64_t columns, bool bias) {
  const Slice own = Own(columns);
  RankTensor tensor = Tensor(module + ".weight", {sizes_.hidden, own.count});
  AddPart(tensor, tensor.name, {sizes_.hidden, columns}, {0, sizes_.hidden}, own);
  Finish(std::move(tensor));
  if (bias) {
    AddCopy(module + ".bias", module + ".bias", {sizes_.hidden});
  }
}

void RankBuilder::AddPart(RankTensor& tensor, const std::string& source, const Shape& shape, Slice rows,
                          Slice columns) {
  if (!status_.ok()) {
    return;
  }
  const absl::StatusOr<DType> dtype = sources_.Take(source, shape);
  if (!dtype.ok()) {
    status_ = dtype.status();
  } else if (tensor.dtype.value_or(*dtype) != *dtype) {
    status_ = Error(Reason::kCheckpointUnsupported,
                    fmt::format("{}: it is {}, but what {} joins with it is {}: use --dtype, or --target huggingface",
                                engine_.target, InfoOf(*dtype).safetensors_name, engine_.name,
                                InfoOf(*tensor.dtype).safetensors_name),
                    {.tensor = source});
  } else {
    tensor.dtype = *dtype;
    dtype_ = *dtype;
    tensor.parts.push_back({source, rows.first, rows.count, columns.first, columns.count});
  }
}

void RankBuilder::Finish(RankTensor tensor) {
  if (status_.ok()) {
    const bool wide = InfoOf(*tensor.dtype).bytes > InfoOf(DType::kBF16).bytes;
    (wide ? wide_ : narrow_).push_back(std::move(tensor));
  }
}

}  // namespace slipway::engine::sharded_state
