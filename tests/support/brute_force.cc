#include "tests/support/brute_force.h"

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "worker/engine/checkpoint/archive.h"

namespace slipway::test {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    throw std::runtime_error("cannot read " + path);
  }
  return {std::istreambuf_iterator<char>(in), {}};
}

std::int64_t Volume(std::span<const std::int64_t> shape) {
  std::int64_t volume = 1;
  for (const std::int64_t extent : shape) {
    volume *= extent;
  }
  return volume;
}

// Indices of element `number` of a block of that shape, in C order.
engine::Shape IndicesOf(std::int64_t number, const engine::Shape& sizes) {
  engine::Shape indices(sizes.size(), 0);
  for (std::size_t axis = sizes.size(); axis-- > 0;) {
    indices[axis] = number % sizes[axis];
    number /= sizes[axis];
  }
  return indices;
}

engine::Shape ContiguousStrides(const engine::Shape& sizes) {
  engine::Shape strides(sizes.size(), 1);
  for (std::size_t axis = sizes.size(); axis-- > 1;) {
    strides[axis - 1] = strides[axis] * sizes[axis];
  }
  return strides;
}

std::int64_t Dot(const engine::Shape& a, const engine::Shape& b) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += a[i] * b[i];
  }
  return sum;
}

// Rows [first, first + count) of a tensor.
DenseTensor Rows(const DenseTensor& tensor, std::int64_t first, std::int64_t count) {
  DenseTensor rows = tensor;
  const auto row_bytes = tensor.bytes.size() / static_cast<std::size_t>(tensor.shape.at(0));
  rows.shape[0] = count;
  rows.bytes =
      tensor.bytes.substr(static_cast<std::size_t>(first) * row_bytes, static_cast<std::size_t>(count) * row_bytes);
  return rows;
}

DenseTensor Stack(const DenseTensor& above, const DenseTensor& below) {
  if (above.shape.empty()) {
    return below;
  }
  DenseTensor stacked = above;
  stacked.shape[0] += below.shape[0];
  stacked.bytes += below.bytes;
  return stacked;
}

using Tensors = std::map<std::string, DenseTensor>;

// A group of query heads, then its key head, then its value head, group after group.
void SplitQkv(const DenseTensor& qkv, const LlamaHeads& h, const std::string& prefix, const std::string& suffix,
              Tensors& out) {
  const std::int64_t queries = h.heads / h.kv_heads;
  if (qkv.shape.at(0) != (h.heads + 2 * h.kv_heads) * h.dimension) {
    throw std::runtime_error("linear_qkv has other rows than the golden's configuration says");
  }
  DenseTensor q;
  DenseTensor k;
  DenseTensor v;
  std::int64_t row = 0;
  for (std::int64_t group = 0; group < h.kv_heads; ++group) {
    q = Stack(q, Rows(qkv, row, queries * h.dimension));
    row += queries * h.dimension;
    k = Stack(k, Rows(qkv, row, h.dimension));
    row += h.dimension;
    v = Stack(v, Rows(qkv, row, h.dimension));
    row += h.dimension;
  }
  out[prefix + "self_attn.q_proj." + suffix] = q;
  out[prefix + "self_attn.k_proj." + suffix] = k;
  out[prefix + "self_attn.v_proj." + suffix] = v;
}

// The first linear of an MLP: [gate; up] where it has twice the rows that the second has columns.
void SplitFirstLinear(const DenseTensor& first, const DenseTensor& second, const std::string& prefix, Tensors& out) {
  const std::int64_t columns = second.shape.at(1);
  if (first.shape.at(0) == columns) {
    out[prefix + "up_proj.weight"] = first;
    return;
  }
  if (first.shape.at(0) != 2 * columns) {
    throw std::runtime_error("the linears of " + prefix + " do not go together");
  }
  out[prefix + "gate_proj.weight"] = Rows(first, 0, columns);
  out[prefix + "up_proj.weight"] = Rows(first, columns, columns);
}

// `stem` is the beginning of the layer's canonical names.
void AddLayerTensor(const Tensors& canonical, const std::string& stem, const std::string& prefix,
                    const std::string& name, const LlamaHeads& heads, Tensors& out) {
  static const std::map<std::string, std::string> kNames = {
      {"input_layernorm.weight", "input_layernorm.weight"},
      {"pre_mlp_layernorm.weight", "post_attention_layernorm.weight"},
      {"self_attention.linear_proj.weight", "self_attn.o_proj.weight"},
      {"self_attention.q_layernorm.weight", "self_attn.q_norm.weight"},
      {"self_attention.k_layernorm.weight", "self_attn.k_norm.weight"},
      {"self_attention.linear_q_down_proj.weight", "self_attn.q_a_proj.weight"},
      {"self_attention.linear_q_up_proj.weight", "self_attn.q_b_proj.weight"},
      {"self_attention.linear_kv_down_proj.weight", "self_attn.kv_a_proj_with_mqa.weight"},
      {"self_attention.linear_kv_up_proj.weight", "self_attn.kv_b_proj.weight"},
      {"self_attention.kv_layernorm.weight", "self_attn.kv_a_layernorm.weight"},
      {"mlp.router.weight", "mlp.gate.weight"},
      {"mlp.router.expert_bias", "mlp.gate.e_score_correction_bias"},
  };
  const DenseTensor& tensor = canonical.at(stem + name);
  constexpr std::string_view kFirst = "linear_fc1.weight";
  constexpr std::string_view kSecond = "linear_fc2.weight";
  if (name == "self_attention.linear_qkv.weight" || name == "self_attention.linear_qkv.bias") {
    SplitQkv(tensor, heads, prefix, name.substr(name.rfind('.') + 1), out);
  } else if (name.starts_with("mlp.") && name.ends_with(kFirst)) {
    const std::string module = name.substr(0, name.size() - kFirst.size());
    SplitFirstLinear(tensor, canonical.at(stem + module + std::string(kSecond)), prefix + module, out);
  } else if (name.starts_with("mlp.") && name.ends_with(kSecond)) {
    out[prefix + name.substr(0, name.size() - kSecond.size()) + "down_proj.weight"] = tensor;
  } else if (name == "self_attention.q_layernorm.weight" &&
             canonical.contains(stem + "self_attention.linear_q_up_proj.weight")) {
    out[prefix + "self_attn.q_a_layernorm.weight"] = tensor;
  } else if (const auto found = kNames.find(name); found != kNames.end()) {
    out[prefix + found->second] = tensor;
  } else if (name.starts_with("mixer.")) {
    out[prefix + name] = tensor;
  } else {
    throw std::runtime_error("no rule for " + name);
  }
}

constexpr std::string_view kLayers = "decoder.layers.";
constexpr std::string_view kPredictors = "mtp.layers.";

// A multi-token prediction layer is one more layer after the decoder's.
void AddPredictorTensor(const Tensors& canonical, const std::string& name, const LlamaHeads& heads, Tensors& out) {
  constexpr std::string_view kInner = "transformer_layer.";
  std::int64_t layers = 0;
  while (canonical.contains(std::string(kLayers) + std::to_string(layers) + ".self_attention.linear_proj.weight")) {
    ++layers;
  }
  const std::size_t dot = name.find('.', kPredictors.size());
  const std::int64_t number = layers + std::stoll(name.substr(kPredictors.size(), dot - kPredictors.size()));
  const std::string prefix = "model.layers." + std::to_string(number) + ".";
  const std::string inside = name.substr(dot + 1);
  if (inside.starts_with(kInner)) {
    AddLayerTensor(canonical, name.substr(0, dot + 1) + std::string(kInner), prefix, inside.substr(kInner.size()),
                   heads, out);
  } else {
    out[prefix + (inside == "final_layernorm.weight" ? "shared_head.norm.weight" : inside)] = canonical.at(name);
  }
}

std::string Replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t found = text.find(from);
  return found == std::string::npos ? text : text.replace(found, from.size(), to);
}

// Families that spell the same tensors otherwise, by what the golden's names show.
Tensors AsTheGoldenSpells(const Tensors& tensors, const Tensors& golden) {
  using Spellings = std::vector<std::pair<std::string_view, std::string_view>>;
  static const Spellings kMixtral = {
      {".mlp.", ".block_sparse_moe."}, {".gate_proj.", ".w1."}, {".down_proj.", ".w2."}, {".up_proj.", ".w3."}};
  static const Spellings kNemotronH = {{"model.layers.", "backbone.layers."},
                                       {"model.norm.", "backbone.norm_f."},
                                       {"model.embed_tokens.", "backbone.embeddings."},
                                       {".input_layernorm.", ".norm."},
                                       {".post_attention_layernorm.", ".norm."},
                                       {".self_attn.", ".mixer."},
                                       {".mlp.", ".mixer."}};
  const auto shows = [&golden](std::string_view part) {
    return std::ranges::any_of(golden,
                               [part](const auto& entry) { return entry.first.find(part) != std::string::npos; });
  };
  const Spellings spellings = shows(".block_sparse_moe.") ? kMixtral : shows("backbone.") ? kNemotronH : Spellings();
  Tensors renamed;
  for (const auto& [name, tensor] : tensors) {
    std::string spelled = name;
    for (const auto& [from, to] : spellings) {
      spelled = Replaced(std::move(spelled), from, to);
    }
    renamed[spelled] = tensor;
  }
  return renamed;
}

absl::StatusOr<Tensors> ReadAllCanonical(const engine::Checkpoint& checkpoint) {
  SLIPWAY_ASSIGN_OR_RETURN(const auto canonical, engine::Canonicalize(checkpoint));
  Tensors tensors;
  for (const auto& [name, tensor] : canonical) {
    SLIPWAY_ASSIGN_OR_RETURN(tensors[name], ReadCanonical(checkpoint, tensor));
  }
  return tensors;
}

}  // namespace

Tensors ReadSafetensors(const std::string& path) {
  const std::string file = ReadFile(path);
  std::uint64_t header_bytes = 0;
  for (std::size_t i = 8; i-- > 0;) {
    header_bytes = header_bytes * 256 + static_cast<unsigned char>(file.at(i));
  }
  const auto header = nlohmann::json::parse(file.substr(8, header_bytes));
  Tensors tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") {
      const auto begin = entry["data_offsets"][0].get<std::size_t>();
      const auto end = entry["data_offsets"][1].get<std::size_t>();
      tensors[name] = {entry["dtype"], entry["shape"], file.substr(8 + header_bytes + begin, end - begin)};
    }
  }
  return tensors;
}

absl::StatusOr<DenseTensor> ReadStored(const engine::Checkpoint& checkpoint, const engine::StoredTensor& tensor) {
  const engine::DTypeInfo& dtype = engine::InfoOf(tensor.dtype);
  const auto element = static_cast<std::size_t>(dtype.bytes);
  DenseTensor dense{std::string(dtype.safetensors_name), {tensor.shape.begin(), tensor.shape.end()}, {}};
  const auto elements = static_cast<std::size_t>(Volume(dense.shape));
  dense.bytes.resize(elements * element);
  std::vector<bool> written(elements);
  std::size_t count = 0;
  for (const engine::Piece& stored : tensor.pieces) {
    engine::Piece piece = stored;
    if (piece.in_archive) {
      SLIPWAY_ASSIGN_OR_RETURN(piece, engine::LocateElements(checkpoint, tensor, stored));
    }
    std::string bytes(static_cast<std::size_t>(piece.length), '\0');
    SLIPWAY_RETURN_IF_ERROR(checkpoint.files[static_cast<std::size_t>(piece.file)].file->ReadAt(
        piece.position, std::as_writable_bytes(std::span(bytes))));
    const engine::Shape strides = piece.strides.empty() ? ContiguousStrides(piece.sizes) : piece.strides;
    for (std::int64_t number = 0; number < Volume(piece.sizes); ++number) {
      engine::Shape indices = IndicesOf(number, piece.sizes);
      const auto from = static_cast<std::size_t>(Dot(indices, strides)) * element;
      for (std::size_t axis = 0; axis < indices.size(); ++axis) {
        indices[axis] += piece.offsets[axis];
      }
      const auto to = static_cast<std::size_t>(Dot(indices, ContiguousStrides(tensor.shape)));
      if (written.at(to)) {
        return absl::InternalError(tensor.name + ": an element is covered twice");
      }
      written[to] = true;
      ++count;
      dense.bytes.replace(to * element, element, bytes.substr(from, element));
    }
  }
  return count == elements ? absl::StatusOr<DenseTensor>(std::move(dense))
                           : absl::InternalError(tensor.name + ": the pieces do not cover it");
}

absl::StatusOr<DenseTensor> ReadCanonical(const engine::Checkpoint& checkpoint, const engine::CanonicalTensor& tensor) {
  DenseTensor whole;
  for (const engine::CanonicalPart& part : tensor.parts) {
    SLIPWAY_ASSIGN_OR_RETURN(DenseTensor dense,
                             ReadStored(checkpoint, checkpoint.tensors[static_cast<std::size_t>(part.stored)]));
    for (const std::int64_t index : part.fixed) {
      dense = Rows(dense, index, 1);
      dense.shape.erase(dense.shape.begin());
    }
    whole = Stack(whole, dense);
  }
  return whole;
}

std::string Permuted(const std::string& bytes, std::size_t element_bytes, const engine::Shape& view,
                     const std::vector<std::uint8_t>& order) {
  engine::Shape shape;
  for (const std::uint8_t axis : order) {
    shape.push_back(view[axis]);
  }
  const engine::Shape strides = ContiguousStrides(view);
  std::string permuted;
  for (std::int64_t number = 0; number < Volume(view); ++number) {
    const engine::Shape indices = IndicesOf(number, shape);
    std::int64_t from = 0;
    for (std::size_t axis = 0; axis < order.size(); ++axis) {
      from += indices[axis] * strides[order[axis]];
    }
    permuted.append(bytes, static_cast<std::size_t>(from) * element_bytes, element_bytes);
  }
  return permuted;
}

LlamaHeads ReadHeads(const std::string& directory) {
  const auto config = nlohmann::json::parse(ReadFile(directory + "/config.json"));
  const std::int64_t heads = config["num_attention_heads"];
  const std::int64_t hidden = config["hidden_size"];
  const bool has_dimension = config.contains("head_dim") && !config["head_dim"].is_null();
  return {heads, config.value("num_key_value_heads", heads),
          has_dimension ? config["head_dim"].get<std::int64_t>() : hidden / heads};
}

Tensors ToHuggingFace(const Tensors& canonical, const LlamaHeads& heads) {
  static const std::map<std::string, std::string> kNames = {
      {"embedding.word_embeddings.weight", "model.embed_tokens.weight"},
      {"decoder.final_layernorm.weight", "model.norm.weight"},
      {"output_layer.weight", "lm_head.weight"},
  };
  Tensors out;
  for (const auto& [name, tensor] : canonical) {
    if (const auto found = kNames.find(name); found != kNames.end()) {
      out[found->second] = tensor;
    } else if (name.starts_with(kLayers)) {
      const std::size_t dot = name.find('.', kLayers.size());
      const std::string layer = name.substr(kLayers.size(), dot - kLayers.size());
      AddLayerTensor(canonical, name.substr(0, dot + 1), "model.layers." + layer + ".", name.substr(dot + 1), heads,
                     out);
    } else if (name.starts_with(kPredictors)) {
      AddPredictorTensor(canonical, name, heads, out);
    } else {
      throw std::runtime_error("no rule for " + name);
    }
  }
  return out;
}

DenseTensor FirstRows(const DenseTensor& tensor, std::int64_t rows) { return Rows(tensor, 0, rows); }

std::string CompareWithGolden(const engine::Checkpoint& checkpoint, const std::string& golden_directory) {
  const auto canonical = ReadAllCanonical(checkpoint);
  if (!canonical.ok()) {
    return Describe(canonical.status());
  }
  const Tensors golden = ReadSafetensors(golden_directory + "/model.safetensors");
  Tensors tensors = AsTheGoldenSpells(ToHuggingFace(*canonical, ReadHeads(golden_directory)), golden);
  std::string differences;
  for (const auto& [name, expected] : golden) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      differences += name + " is missing; ";
      continue;
    }
    const bool vocabulary = name.find(".embed") != std::string::npos || name == "lm_head.weight";
    if ((vocabulary ? FirstRows(found->second, expected.shape.at(0)) : found->second) != expected) {
      differences += name + " differs; ";
    }
    tensors.erase(found);
  }
  for (const auto& [name, tensor] : tensors) {
    differences += name + " is not in the golden; ";
  }
  return differences;
}

}  // namespace slipway::test
