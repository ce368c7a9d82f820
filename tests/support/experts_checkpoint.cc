#include "tests/support/experts_checkpoint.h"

#include <fstream>
#include <functional>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "tests/support/dist_index_writer.h"
#include "tests/support/pickle_writer.h"
#include "tests/support/torch_writer.h"

namespace slipway::test {
namespace {

using Extents = std::vector<std::int64_t>;

constexpr std::int64_t kArchiveBytes = 1200;     // around the elements of a torch archive, about
constexpr std::int64_t kExtraStateBytes = 1513;  // an empty extra state of Transformer Engine

std::ofstream Open(const std::filesystem::path& path) {
  std::ofstream out;
  out.exceptions(std::ios::failbit | std::ios::badbit);
  out.open(path, std::ios::binary | std::ios::trunc);
  return out;
}

// Writes the data files and makes the entries of the index.
class Entries {
 public:
  Entries(const ExpertsCheckpoint& checkpoint, const std::filesystem::path& directory)
      : c_(checkpoint), sizes_(static_cast<std::size_t>(c_.tensor_ranks * c_.expert_ranks), 0) {
    for (std::size_t file = 0; file < sizes_.size(); ++file) {
      files_.push_back(Open(directory / NameOf(static_cast<std::int64_t>(file))));
    }
  }

  std::vector<IndexedEntry> Make() {
    Shared("embedding.word_embeddings.weight", {c_.vocabulary, c_.hidden}, 0);
    for (std::int64_t layer = 0; layer < c_.layers; ++layer) {
      Layer(fmt::format("decoder.layers.{}.", layer), layer < c_.dense_layers);
    }
    Shared("decoder.final_layernorm.weight", {c_.hidden}, std::nullopt);
    ExtraState("decoder.final_layernorm.", 1);
    Shared("output_layer.weight", {c_.vocabulary, c_.hidden}, 0);
    return std::move(entries_);
  }
  [[nodiscard]] const std::vector<std::int64_t>& sizes() const { return sizes_; }

 private:
  void Layer(const std::string& layer, bool is_dense) {
    const std::string attention = layer + "self_attention.";
    Shared(layer + "input_layernorm.weight", {c_.hidden}, std::nullopt);
    Shared(attention + "linear_q_down_proj.weight", {c_.query_rank, c_.hidden}, std::nullopt);
    Shared(attention + "linear_q_up_proj.layer_norm_weight", {c_.query_rank}, std::nullopt);
    Shared(attention + "linear_q_up_proj.weight", {c_.heads * (c_.nope + c_.rope), c_.query_rank}, 0);
    Shared(attention + "linear_kv_down_proj.weight", {c_.key_value_rank + c_.rope, c_.hidden}, std::nullopt);
    Shared(attention + "linear_kv_up_proj.layer_norm_weight", {c_.key_value_rank}, std::nullopt);
    Shared(attention + "linear_kv_up_proj.weight", {c_.heads * (c_.nope + c_.value), c_.key_value_rank}, 0);
    Shared(attention + "linear_proj.weight", {c_.hidden, c_.heads * c_.value}, 1);
    for (const char* module : {"q_down_proj", "q_up_proj", "kv_down_proj", "kv_up_proj", "proj"}) {
      ExtraState(fmt::format("{}linear_{}.", attention, module), 1);
    }
    if (is_dense) {
      Shared(layer + "mlp.linear_fc1.layer_norm_weight", {c_.hidden}, std::nullopt);
      Feed(layer + "mlp.", c_.dense_ffn);
      return;
    }
    Shared(layer + "pre_mlp_layernorm.weight", {c_.hidden}, std::nullopt);
    Shared(layer + "mlp.router.weight", {c_.experts, c_.hidden}, std::nullopt);
    Shared(layer + "mlp.router.expert_bias", {c_.experts}, std::nullopt, "float32");
    Feed(layer + "mlp.shared_experts.", c_.shared_experts * c_.expert_ffn);
    Experts(layer + "mlp.experts.experts.");
  }

  void Feed(const std::string& module, std::int64_t ffn) {
    Shared(module + "linear_fc1.weight", {2 * ffn, c_.hidden}, 0, "bfloat16", 2);
    Shared(module + "linear_fc2.weight", {c_.hidden, ffn}, 1);
    ExtraState(module + "linear_fc1.", 1);
    ExtraState(module + "linear_fc2.", 1);
  }

  // Stacked, a block for each expert, rank and half of gate and up.
  void Experts(const std::string& module) {
    const std::int64_t part = c_.expert_ffn / c_.tensor_ranks;
    IndexedEntry fc1 = {module + "linear_fc1.weight", "bfloat16", {c_.experts, 2 * c_.expert_ffn, c_.hidden}, {}};
    IndexedEntry fc2 = {module + "linear_fc2.weight", "bfloat16", {c_.experts, c_.hidden, c_.expert_ffn}, {}};
    for (std::int64_t expert = 0; expert < c_.experts; ++expert) {
      const std::int64_t group = expert / (c_.experts / c_.expert_ranks);
      for (std::int64_t rank = 0; rank < c_.tensor_ranks; ++rank) {
        const std::int64_t file = group * c_.tensor_ranks + rank;
        for (const std::int64_t half : {0, 1}) {
          AddBlock(fc1, {expert, half * c_.expert_ffn + rank * part, 0}, {1, part, c_.hidden}, file);
        }
        AddBlock(fc2, {expert, 0, rank * part}, {1, c_.hidden, part}, file);
      }
    }
    AddWeight(std::move(fc1));
    AddWeight(std::move(fc2));
    ExtraState(module + "linear_fc1.", c_.experts);
    ExtraState(module + "linear_fc2.", c_.experts);
  }

  // Along `axis`, each rank has one part of each half; without it, rank 0 has all.
  void Shared(std::string name, Extents shape, std::optional<std::size_t> axis, std::string dtype = "bfloat16",
              std::int64_t halves = 1) {
    IndexedEntry entry = {std::move(name), std::move(dtype), std::move(shape), {}};
    const std::int64_t parts = axis ? halves * c_.tensor_ranks : 1;
    for (std::int64_t part = 0; part < parts; ++part) {
      Extents offsets(entry.shape.size(), 0);
      Extents sizes = entry.shape;
      if (axis) {
        sizes[*axis] /= parts;
        offsets[*axis] = part * sizes[*axis];
      }
      AddBlock(entry, std::move(offsets), std::move(sizes), part % c_.tensor_ranks);
    }
    AddWeight(std::move(entry));
  }

  void ExtraState(const std::string& module, std::int64_t shards) {
    for (std::int64_t shard = 0; shard < shards; ++shard) {
      IndexedEntry entry = {fmt::format("{}_extra_state/shard_{}_{}", module, shard, shards), {}, {}, {}};
      const std::int64_t file = shard * c_.tensor_ranks * c_.expert_ranks / shards;
      entry.blocks.push_back({{}, {}, NameOf(file), sizes_[static_cast<std::size_t>(file)], kExtraStateBytes});
      sizes_[static_cast<std::size_t>(file)] += kExtraStateBytes;
      entries_.push_back(std::move(entry));
    }
  }

  void AddBlock(IndexedEntry& entry, Extents offsets, Extents sizes, std::int64_t file) {
    const std::int64_t elements = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{1}, std::multiplies<>());
    const bool is_single = entry.dtype == "float32";
    const std::int64_t bytes = elements * (is_single ? 4 : 2);
    std::int64_t& end = sizes_[static_cast<std::size_t>(file)];
    std::int64_t length = bytes + kArchiveBytes;
    if (c_.whole) {
      std::ofstream& out = files_[static_cast<std::size_t>(file)];
      out.seekp(end);
      const auto skip = [](std::ostream& stream, std::int64_t size) { stream.seekp(size, std::ios::cur); };
      length = WriteTorchArchive(out, "archive",
                                 TensorPickle(is_single ? "FloatStorage" : "BFloat16Storage", sizes, elements),
                                 {{.size = bytes, .write = skip}});
    }
    entry.blocks.push_back({std::move(offsets), std::move(sizes), NameOf(file), end, length});
    end += length;
  }

  // States lie where their weight does: they are never read.
  void AddWeight(IndexedEntry entry) {
    if (c_.optimizer) {
      for (const char* kind : {"exp_avg", "exp_avg_sq", "fp32_param"}) {
        IndexedEntry state = entry;
        state.name = fmt::format("optimizer.state.{}.{}", kind, entry.name);
        state.dtype = "float32";
        entries_.push_back(std::move(state));
      }
    }
    entries_.push_back(std::move(entry));
  }

  static std::string NameOf(std::int64_t file) { return fmt::format("__{}_0.distcp", file); }

  const ExpertsCheckpoint& c_;
  std::vector<IndexedEntry> entries_;
  std::vector<std::int64_t> sizes_;
  std::vector<std::ofstream> files_;
};

// The arguments that Megatron-LM keeps of such a run, as far as an export looks at them.
std::string CommonState(const ExpertsCheckpoint& c) {
  PickleWriter pickle(2);
  pickle.EmptyDictionary().Mark().Text("args");
  pickle.Global("argparse", "Namespace").EmptyTuple().NewObject().EmptyDictionary().Mark();
  for (const auto& [name, value] : std::vector<std::pair<const char*, std::int64_t>>{
           {"num_layers", c.layers},
           {"hidden_size", c.hidden},
           {"ffn_hidden_size", c.dense_ffn},
           {"num_attention_heads", c.heads},
           {"q_lora_rank", c.query_rank},
           {"kv_lora_rank", c.key_value_rank},
           {"qk_head_dim", c.nope},
           {"qk_pos_emb_head_dim", c.rope},
           {"v_head_dim", c.value},
           {"padded_vocab_size", c.vocabulary},
           {"vocab_size", c.vocabulary},
           {"max_position_embeddings", 131072},
           {"rotary_base", 50000},
           {"num_experts", c.experts},
           {"moe_router_topk", c.active_experts},
           {"moe_ffn_hidden_size", c.expert_ffn},
           {"moe_shared_expert_intermediate_size", c.shared_experts * c.expert_ffn},
           {"tensor_model_parallel_size", c.tensor_ranks},
           {"pipeline_model_parallel_size", 1},
           {"expert_model_parallel_size", c.expert_ranks},
           {"expert_tensor_parallel_size", c.tensor_ranks}}) {
    pickle.Text(name).Integer(value);
  }
  for (const auto& [name, value] :
       std::vector<std::pair<const char*, bool>>{{"multi_latent_attention", true},
                                                 {"swiglu", true},
                                                 {"add_bias_linear", false},
                                                 {"add_qkv_bias", false},
                                                 {"qk_layernorm", true},
                                                 {"moe_router_enable_expert_bias", true},
                                                 {"apply_layernorm_1p", false},
                                                 {"bf16", true},
                                                 {"untie_embeddings_and_output_weights", true}}) {
    pickle.Text(name).Boolean(value);
  }
  pickle.Text("position_embedding_type").Text("rope").Text("rope_type").Text("rope").Text("normalization");
  pickle.Text("RMSNorm").Text("moe_router_score_function").Text("sigmoid").Text("norm_epsilon").Float(1e-6);
  pickle.Text("moe_router_topk_scaling_factor").Float(2.827).Text("rotary_percent").Float(1.0);
  pickle.Text("params_dtype").Global("torch", "bfloat16").Text("moe_layer_freq").EmptyList().Mark();
  for (std::int64_t layer = 0; layer < c.layers; ++layer) {
    pickle.Integer(layer < c.dense_layers ? 0 : 1);
  }
  pickle.Appends().SetItems().Build();
  pickle.Text("checkpoint_version").Float(3.0).Text("iteration").Integer(100).SetItems();
  return pickle.Finish();
}

}  // namespace

ExpertsCheckpoint TinyExpertsOf(ExpertsCheckpoint checkpoint) {
  checkpoint.hidden = 16;
  checkpoint.dense_ffn = 32;
  checkpoint.expert_ffn = 8;
  checkpoint.heads = 4;
  checkpoint.query_rank = 8;
  checkpoint.key_value_rank = 8;
  checkpoint.nope = 4;
  checkpoint.rope = 2;
  checkpoint.value = 4;
  checkpoint.vocabulary = 128;
  checkpoint.whole = true;
  return checkpoint;
}

void WriteExpertsCheckpoint(const std::filesystem::path& root, const ExpertsCheckpoint& checkpoint) {
  const ExpertsCheckpoint& c = checkpoint;
  if (c.tensor_ranks <= 0 || c.expert_ranks <= 0 || c.experts % c.expert_ranks != 0 ||
      c.expert_ffn % c.tensor_ranks != 0 || c.dense_ffn % c.tensor_ranks != 0 || c.heads % c.tensor_ranks != 0 ||
      c.vocabulary % c.tensor_ranks != 0) {
    throw std::runtime_error("the sizes do not divide by the ranks");
  }
  const std::filesystem::path directory = root / "iter_0000100";
  std::filesystem::create_directories(directory);
  std::vector<std::int64_t> sizes;
  {
    Entries entries(checkpoint, directory);
    Open(directory / ".metadata") << DistIndexWriter().Write(entries.Make());
    sizes = entries.sizes();
  }
  for (std::size_t rank = 0; rank < sizes.size(); ++rank) {
    std::filesystem::resize_file(directory / fmt::format("__{}_0.distcp", rank),
                                 static_cast<std::uintmax_t>(sizes[rank]));
  }
  std::ofstream common = Open(directory / "common.pt");
  WriteTorchArchive(common, "common", CommonState(checkpoint), {});
  Open(directory / "metadata.json") << R"({"sharded_backend": "torch_dist", "sharded_backend_version": 1, )"
                                       R"("common_backend": "torch", "common_backend_version": 1})";
  Open(root / "latest_checkpointed_iteration.txt") << "100";
}

}  // namespace slipway::test
