#include "tests/support/checkpoint_builder.h"

#include <fstream>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "tests/support/pickle_writer.h"
#include "tests/support/saved_tensor.h"
#include "tests/support/torch_writer.h"

namespace slipway::test {
namespace {

std::vector<SavedTensor> LlamaTensors(const LlamaCheckpoint& c) {
  const std::int64_t head = c.hidden / c.heads;
  const std::int64_t qkv = (c.heads + 2 * c.kv_heads) * head;
  const std::int64_t ranks = c.tensor_ranks;
  const std::string attention = "decoder.layers.self_attention.";
  std::vector<SavedTensor> tensors;
  tensors.push_back(Shared("embedding.word_embeddings.weight", {c.vocabulary, c.hidden}, false, 0, ranks));
  tensors.push_back(
      Shared(attention + "linear_qkv.layer_norm_weight", {c.layers, c.hidden}, true, std::nullopt, ranks));
  tensors.push_back(Shared(attention + "linear_qkv.weight", {c.layers, qkv, c.hidden}, true, 1, ranks));
  tensors.push_back(Shared(attention + "linear_proj.weight", {c.layers, c.hidden, c.heads * head}, true, 2, ranks));
  tensors.push_back(
      Shared("decoder.layers.mlp.linear_fc1.layer_norm_weight", {c.layers, c.hidden}, true, std::nullopt, ranks));
  tensors.push_back(Shared("decoder.layers.mlp.linear_fc1.weight", {c.layers, 2 * c.ffn, c.hidden}, true, 1, ranks, 2));
  tensors.push_back(Shared("decoder.layers.mlp.linear_fc2.weight", {c.layers, c.hidden, c.ffn}, true, 2, ranks));
  tensors.push_back(Shared("decoder.final_layernorm.weight", {c.hidden}, false, std::nullopt, ranks));
  if (!c.tied) {
    tensors.push_back(Shared("output_layer.weight", {c.vocabulary, c.hidden}, false, 0, ranks));
  }
  return tensors;
}

std::ofstream Open(const std::filesystem::path& path) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.exceptions(std::ios::failbit | std::ios::badbit);
  return out;
}

void WriteText(const std::filesystem::path& path, std::string_view text) {
  std::ofstream out = Open(path);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
}

// bfloat16 with exponents near one: finite, and distinct enough for a misplaced row to show.
void WriteRandom(std::ostream& out, std::int64_t size, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string block;
  for (std::int64_t written = 0; written < size; written += 2) {
    const std::uint64_t bits = random();
    const std::uint64_t value = (bits & 0x807F) | ((0x78 + ((bits >> 16) & 7)) << 7);
    block += static_cast<char>(value & 0xFF);
    block += static_cast<char>(value >> 8);
    if (block.size() >= (1 << 16) || written + 2 >= size) {
      out.write(block.data(), static_cast<std::streamsize>(block.size()));
      block.clear();
    }
  }
}

std::uint64_t Seed(const SavedTensor& tensor, std::size_t item) {
  std::uint64_t seed = 0xcbf29ce484222325;  // FNV-1a
  for (const char c : tensor.name + "#" + std::to_string(item)) {
    seed = (seed ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  return seed;
}

void WriteItem(std::ofstream& out, const SavedTensor& tensor, std::size_t index, Fill fill, SavedItem& item) {
  const Extents& sizes = item.sizes_in_item.empty() ? item.sizes : item.sizes_in_item;
  const std::int64_t elements = Volume(sizes);
  const std::uint64_t seed = Seed(tensor, index);
  const TorchStorage storage{.size = elements * 2, .write = [fill, seed](std::ostream& stream, std::int64_t size) {
                               if (fill == Fill::kRandom) {
                                 WriteRandom(stream, size, seed);
                               } else {
                                 stream.seekp(size, std::ios::cur);
                               }
                             }};
  item.position = out.tellp();
  item.length = WriteTorchArchive(out, "archive", TensorPickle("BFloat16Storage", sizes, elements), {storage});
}

void WriteItems(const std::filesystem::path& directory, const LlamaCheckpoint& checkpoint,
                std::vector<SavedTensor>& tensors) {
  for (std::int64_t rank = 0; rank < checkpoint.tensor_ranks; ++rank) {
    const std::string file = fmt::format("__{}_0.distcp", rank);
    std::ofstream out = Open(directory / file);
    for (SavedTensor& tensor : tensors) {
      for (std::size_t i = 0; i < tensor.items.size(); ++i) {
        if (tensor.items[i].rank == rank && tensor.items[i].stored) {
          tensor.items[i].file = file;
          WriteItem(out, tensor, i, checkpoint.fill, tensor.items[i]);
        }
      }
    }
  }
}

void Size(PickleWriter& pickle, const Extents& extents) {
  pickle.Global("torch", "Size").Mark().Mark();
  for (const std::int64_t extent : extents) {
    pickle.Integer(extent);
  }
  pickle.Tuple().Tuple().Reduce();
}

constexpr std::string_view kMetadataModule = "torch.distributed.checkpoint.metadata";

// A dataclass: an empty instance, then its fields as key and value up to EndObject.
void BeginObject(PickleWriter& pickle, std::string_view module, std::string_view name) {
  pickle.Global(module, name).EmptyTuple().NewObject().EmptyDictionary().Mark();
}
void EndObject(PickleWriter& pickle) { pickle.SetItems().Build(); }

void Chunks(PickleWriter& pickle, const SavedTensor& tensor) {
  pickle.EmptyList().Mark();
  for (const SavedItem& item : tensor.items) {
    BeginObject(pickle, kMetadataModule, "ChunkStorageMetadata");
    Size(pickle.Text("offsets"), item.offsets);
    Size(pickle.Text("sizes"), item.sizes);
    EndObject(pickle);
  }
  pickle.Appends();
}

void TensorMetadata(PickleWriter& pickle, const SavedTensor& tensor) {
  pickle.Text(tensor.name);
  BeginObject(pickle, kMetadataModule, "TensorStorageMetadata");
  pickle.Text("properties").Global(kMetadataModule, "TensorProperties").EmptyTuple().NewObject();
  pickle.Mark().Global("torch", tensor.dtype);
  pickle.Global("torch.serialization", "_get_layout").Mark().Text("torch.strided").Tuple().Reduce();
  pickle.Boolean(false).Global(kMetadataModule, "_MEM_FORMAT_ENCODING").Mark().Integer(0).Tuple().Reduce();
  pickle.Boolean(false).Tuple().Build();
  Size(pickle.Text("size"), tensor.shape);
  pickle.Text("chunks");
  Chunks(pickle, tensor);
  EndObject(pickle);
}

void StorageEntry(PickleWriter& pickle, const SavedTensor& tensor, const SavedItem& item) {
  BeginObject(pickle, kMetadataModule, "MetadataIndex");
  pickle.Text("fqn").Text(tensor.name);
  Size(pickle.Text("offset"), item.offsets);
  pickle.Text("index").None();
  EndObject(pickle);
  BeginObject(pickle, "torch.distributed.checkpoint.filesystem", "_StorageInfo");
  pickle.Text("relative_path").Text(item.file);
  pickle.Text("offset").Integer(item.position).Text("length").Integer(item.length);
  EndObject(pickle);
}

void CallSystem(PickleWriter& pickle) { pickle.Global("os", "system").Mark().Text("true").Tuple().Reduce(); }

// An object of its own in the index.
struct Object {
  std::string name;
  std::string file;
  std::int64_t position = 0;
  std::int64_t length = 0;
};

void StorageEntry(PickleWriter& pickle, const Object& object) {
  BeginObject(pickle, kMetadataModule, "MetadataIndex");
  pickle.Text("fqn").Text(object.name).Text("index").None();
  EndObject(pickle);
  BeginObject(pickle, "torch.distributed.checkpoint.filesystem", "_StorageInfo");
  pickle.Text("relative_path").Text(object.file);
  pickle.Text("offset").Integer(object.position).Text("length").Integer(object.length);
  EndObject(pickle);
}

std::string Index(const std::vector<SavedTensor>& tensors, const std::vector<Object>& objects, Damage damage) {
  PickleWriter pickle(4);
  BeginObject(pickle, kMetadataModule, "Metadata");
  pickle.Text("state_dict_metadata").EmptyDictionary().Mark();
  for (const SavedTensor& tensor : tensors) {
    TensorMetadata(pickle, tensor);
  }
  for (const Object& object : objects) {
    pickle.Text(object.name).Global(kMetadataModule, "BytesStorageMetadata").EmptyTuple().NewObject();
  }
  pickle.SetItems().Text("planner_data").EmptyDictionary().Text("storage_data").EmptyDictionary().Mark();
  for (const SavedTensor& tensor : tensors) {
    for (const SavedItem& item : tensor.items) {
      if (item.stored) {
        StorageEntry(pickle, tensor, item);
      }
    }
  }
  for (const Object& object : objects) {
    StorageEntry(pickle, object);
  }
  pickle.SetItems().Text("storage_meta");
  if (damage == Damage::kForbiddenGlobal) {
    CallSystem(pickle);
  } else {
    pickle.None();
  }
  EndObject(pickle);
  return pickle.Finish();
}

// The arguments that Megatron-LM keeps of a llama run, as far as an export looks at them.
void Arguments(PickleWriter& pickle, const LlamaCheckpoint& c) {
  const auto integer = [&](std::string_view name, std::int64_t value) { pickle.Text(name).Integer(value); };
  const auto flag = [&](std::string_view name, bool value) { pickle.Text(name).Boolean(value); };
  BeginObject(pickle, "argparse", "Namespace");
  integer("num_layers", c.layers);
  integer("hidden_size", c.hidden);
  integer("ffn_hidden_size", c.ffn);
  integer("num_attention_heads", c.heads);
  integer("num_query_groups", c.kv_heads);
  integer("kv_channels", c.hidden / c.heads);
  integer("padded_vocab_size", c.vocabulary);
  integer("vocab_size", c.vocabulary);
  integer("make_vocab_size_divisible_by", 1);
  integer("max_position_embeddings", 4096);
  integer("seq_length", 4096);
  integer("rotary_base", 500000);
  integer("tensor_model_parallel_size", c.tensor_ranks);
  integer("pipeline_model_parallel_size", c.pipeline_ranks);
  flag("group_query_attention", true);
  flag("swiglu", true);
  flag("add_bias_linear", false);
  flag("add_qkv_bias", false);
  flag("qk_layernorm", false);
  flag("rotary_interleaved", false);
  flag("use_rope_scaling", false);
  flag("apply_layernorm_1p", false);
  flag("untie_embeddings_and_output_weights", !c.tied);
  flag("bf16", true);
  flag("fp16", false);
  pickle.Text("position_embedding_type").Text("rope").Text("normalization").Text("RMSNorm");
  pickle.Text("norm_epsilon").Float(1e-5).Text("rotary_percent").Float(1.0).Text("init_method_std").Float(0.02);
  pickle.Text("params_dtype").Global("torch", "bfloat16");
  pickle.Text("num_experts").None().Text("virtual_pipeline_model_parallel_size").None();
  EndObject(pickle);
}

void WriteCommonState(const std::filesystem::path& path, const LlamaCheckpoint& checkpoint) {
  PickleWriter pickle(2);
  pickle.EmptyDictionary().Mark().Text("args");
  Arguments(pickle, checkpoint);
  pickle.Text("checkpoint_version").Float(3.0).Text("iteration").Integer(checkpoint.iteration);
  if (checkpoint.damage == Damage::kForbiddenGlobalInCommon) {
    CallSystem(pickle.Text("opt_param_scheduler"));
  }
  pickle.SetItems();
  std::ofstream out = Open(path);
  WriteTorchArchive(out, "common", pickle.Finish(), {});
}

// What common.pt holds, each value an archive of its own.
std::vector<Object> WriteCommonObjects(const std::filesystem::path& directory, const LlamaCheckpoint& checkpoint) {
  std::vector<Object> objects;
  const std::string file = "__0_1.distcp";
  std::ofstream out = Open(directory / file);
  const auto add = [&](std::string_view name, const std::function<void(PickleWriter&)>& value) {
    PickleWriter pickle(2);
    value(pickle);
    Object object{.name = std::string(name), .file = file, .position = out.tellp()};
    object.length = WriteTorchArchive(out, "archive", pickle.Finish(), {});
    objects.push_back(std::move(object));
  };
  add("args", [&](PickleWriter& pickle) { Arguments(pickle, checkpoint); });
  add("checkpoint_version", [&](PickleWriter& pickle) {
    pickle.Float(3.0);
    if (checkpoint.damage == Damage::kForbiddenGlobalInCommon) {
      CallSystem(pickle);
    }
  });
  add("iteration", [&](PickleWriter& pickle) { pickle.Integer(checkpoint.iteration); });
  add("rng_state.0.np_rng_state", [](PickleWriter& pickle) { CallSystem(pickle); });  // never read
  return objects;
}

void CheckShape(const LlamaCheckpoint& c) {
  const std::int64_t ranks = c.tensor_ranks;
  if (ranks <= 0 || c.heads <= 0 || c.kv_heads <= 0 || c.hidden % c.heads != 0 || c.heads % c.kv_heads != 0 ||
      c.vocabulary % ranks != 0 || c.ffn % ranks != 0 || c.heads % ranks != 0 || c.kv_heads % ranks != 0) {
    throw std::runtime_error("the sizes do not divide by the heads and ranks");
  }
}

}  // namespace

void WriteLlamaCheckpoint(const std::filesystem::path& root, const LlamaCheckpoint& checkpoint) {
  CheckShape(checkpoint);
  const std::filesystem::path directory = root / fmt::format("iter_{:07}", checkpoint.iteration);
  std::filesystem::create_directories(directory);
  std::vector<SavedTensor> tensors = LlamaTensors(checkpoint);
  DamageTensors(checkpoint.damage, tensors, checkpoint.tensor_ranks);
  WriteItems(directory, checkpoint, tensors);
  DamageIndex(checkpoint.damage, tensors);
  for (SavedTensor& tensor : tensors) {
    tensor.name.insert(0, checkpoint.prefix);
  }
  std::vector<Object> objects;
  if (checkpoint.plain) {
    objects = WriteCommonObjects(directory, checkpoint);
  } else {
    WriteCommonState(directory / "common.pt", checkpoint);
    WriteText(directory / "metadata.json", R"({"sharded_backend": "torch_dist", "sharded_backend_version": 1, )"
                                           R"("common_backend": "torch", "common_backend_version": 1})");
  }
  WriteText(directory / ".metadata", Index(tensors, objects, checkpoint.damage));
  WriteText(root / "latest_checkpointed_iteration.txt", std::to_string(checkpoint.iteration));
  DamageFiles(checkpoint.damage, directory);
}

}  // namespace slipway::test
