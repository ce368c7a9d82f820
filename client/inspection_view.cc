#include "client/inspection_view.h"

#include <utility>
#include <vector>

#include <fmt/format.h>

#include "client/human.h"
#include "client/json_text.h"
#include "client/table.h"

namespace slipway {
namespace {

using Json = nlohmann::ordered_json;
using Pairs = std::vector<std::pair<std::string, std::string>>;

// Phrases with commas between; empty ones are left out.
class Phrases {
 public:
  void Add(const std::string& phrase) {
    if (!phrase.empty()) {
      text_ += (text_.empty() ? "" : ", ") + phrase;
    }
  }
  // "NAME VALUE" of a member that is there and not zero.
  void Add(const char* name, const Json& object, const char* key) {
    const Json& value = At(object, key);
    if (!value.is_null() && value != 0) {
      Add(fmt::format("{} {}", name, TextOf(value)));
    }
  }
  // A switch that is on.
  void AddIf(const char* name, const Json& object, const char* key) {
    if (At(object, key) == true) {
      Add(name);
    }
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// "DeepseekV3ForCausalLM (deepseek_v3): DeepSeek-V3, R1".
std::string Family(const Json& inspection) {
  const std::string name = TextAt(inspection, "architecture");
  if (name.empty()) {
    return "not recognized";
  }
  const std::string summary = TextAt(inspection, "summary");
  return fmt::format("{} ({}){}{}", name, TextAt(inspection, "model_type"), summary.empty() ? "" : ": ", summary);
}

std::string Parameters(const Json& inspection) {
  std::string text = HumanParameters(IntegerAt(inspection, "parameters"));
  if (const std::int64_t active = IntegerAt(inspection, "active_parameters"); active > 0) {
    text += fmt::format(", of which {} are active for a token", HumanParameters(active));
  }
  return text;
}

// "61: 1 dense, 60 with experts"; of models that are not all of one kind, mixers too.
std::string Layers(const Json& c) {
  const Json& counts = At(c, "layer_counts");
  Phrases kinds;
  const auto add = [&](const char* key, const char* phrase) {
    if (IntegerAt(counts, key) > 0) {
      kinds.Add(fmt::format("{} {}", IntegerAt(counts, key), phrase));
    }
  };
  const bool mixed = IntegerAt(counts, "mamba") > 0 || IntegerAt(counts, "linear_attention") > 0;
  if (mixed) {
    add("mamba", "Mamba");
    add("linear_attention", "linear attention");
    add("attention", "full attention");
  }
  if (mixed || IntegerAt(counts, "experts") > 0) {
    add("dense", "dense");
    add("experts", "with experts");
  }
  if (const std::int64_t predictions = IntegerAt(c, "prediction_layers"); predictions > 0) {
    kinds.Add(fmt::format("and {} that predict further tokens", predictions));
  }
  const std::string layers = TextAt(c, "layers");
  return layers.empty() || kinds.text().empty() ? layers : fmt::format("{}: {}", layers, kinds.text());
}

std::string Widths(const Json& c) {
  Phrases text;
  text.Add("hidden", c, "hidden_size");
  text.Add("feed-forward", c, "ffn_hidden_size");
  text.Add("vocabulary", c, "vocabulary_size");
  if (IntegerAt(c, "padded_vocabulary_size") > IntegerAt(c, "vocabulary_size")) {
    text.Add("padded to", c, "padded_vocabulary_size");
  }
  text.Add("positions", c, "maximum_positions");
  return text.text();
}

std::string Attention(const Json& c) {
  Phrases text;
  text.Add("heads", c, "attention_heads");
  if (const Json& latent = At(c, "latent_attention"); latent.is_object()) {
    text.Add("latent");
    text.Add("rank of queries", latent, "query_rank");
    text.Add("of keys and values", latent, "key_value_rank");
    text.Add("dimension without positions", latent, "nope_dimension");
    text.Add("with", latent, "rope_dimension");
    text.Add("of values", latent, "value_dimension");
  } else {
    text.Add("KV heads", c, "query_groups");
    text.Add("head dimension", c, "head_dimension");
  }
  text.AddIf("norms of queries and keys", c, "qk_norm");
  text.AddIf("bias of queries, keys and values", c, "qkv_bias");
  text.AddIf("gates of queries", c, "attention_gate");
  text.AddIf("beside the feed-forward", c, "parallel_attention");
  text.Add("sliding window", c, "sliding_window");
  text.Add("indexer heads", At(c, "indexer"), "heads");
  text.Add("indexed tokens", At(c, "indexer"), "tokens");
  return text.text();
}

std::string Experts(const Json& c) {
  const Json& experts = At(c, "experts");
  Phrases text;
  text.Add(TextAt(experts, "count"));
  text.Add("active", experts, "active");
  text.Add("shared", experts, "shared");
  text.Add("feed-forward", experts, "ffn_hidden_size");
  text.Add("latent", experts, "latent_size");
  text.Add("groups", experts, "groups");
  text.Add("active groups", experts, "active_groups");
  text.Add("scores by", experts, "score_function");
  text.Add("scaled by", experts, "scaling");
  return text.text();
}

std::string Positions(const Json& c) {
  Phrases text;
  text.Add(TextAt(c, "position_embedding"));
  text.Add("base", c, "rotary_base");
  if (const Json& part = At(c, "rotary_percent"); part.is_number() && part != 1.0) {
    text.Add("of each head", c, "rotary_percent");
  }
  text.Add("Llama 3's factor", c, "llama3_rope_factor");
  text.Add("linear factor", c, "linear_rope_factor");
  text.Add("YaRN factor", At(c, "yarn"), "factor");
  text.Add("from positions", At(c, "yarn"), "original_positions");
  return text.text();
}

std::string LinearAttention(const Json& c) {
  const Json& linear = At(c, "linear_attention");
  Phrases text;
  text.Add("key heads", linear, "key_heads");
  text.Add("value heads", linear, "value_heads");
  text.Add("key dimension", linear, "key_dimension");
  text.Add("value dimension", linear, "value_dimension");
  text.Add("kernel", linear, "kernel");
  return text.text();
}

std::string Mamba(const Json& c) {
  const Json& mamba = At(c, "mamba");
  Phrases text;
  text.Add("heads", mamba, "heads");
  text.Add("head dimension", mamba, "head_dimension");
  text.Add("groups", mamba, "groups");
  text.Add("state", mamba, "state_dimension");
  text.Add("kernel", mamba, "kernel");
  return text.text();
}

std::string Settings(const Json& c) {
  Phrases text;
  text.Add(TextAt(c, "normalization"));
  text.Add("epsilon", c, "norm_epsilon");
  text.AddIf("stored minus 1", c, "zero_centered_gamma");
  text.Add((At(c, "gated") == true ? "gated " : "") + TextAt(c, "activation"));
  text.AddIf("bias of linear layers", c, "linear_bias");
  text.AddIf("tied embeddings", c, "tied_embeddings");
  for (const Json& phrase : At(c, "special")) {
    text.Add(TextOf(phrase));
  }
  return text.text();
}

// As people abbreviate it: "TP 2, PP 1, EP 64".
std::string Layout(const Json& layout) {
  Phrases text;
  text.Add("TP", layout, "tensor_parallel");
  text.Add("PP", layout, "pipeline_parallel");
  text.Add("VPP", layout, "virtual_pipeline_parallel");
  text.Add("EP", layout, "expert_parallel");
  text.Add("ETP", layout, "expert_tensor_parallel");
  text.Add("CP", layout, "context_parallel");
  text.Add("DP", layout, "data_parallel");
  return text.text();
}

std::string Stored(const Json& inspection) {
  Phrases dtypes;
  for (const auto& [name, count] : At(inspection, "dtypes").items()) {
    dtypes.Add(fmt::format("{} {}", HumanCount(count.is_number() ? count.get<std::int64_t>() : 0), name));
  }
  const std::int64_t pieces = IntegerAt(inspection, "piece_count");
  const Json& files = At(inspection, "files");
  return fmt::format("{} ({}){}, {}, in {} of {}", HumanCount(IntegerAt(inspection, "tensor_count"), "tensor"),
                     dtypes.text(), pieces > 0 ? " in " + HumanCount(pieces, "piece") : "",
                     HumanBytes(IntegerAt(inspection, "weight_bytes")), HumanCount(IntegerAt(files, "count"), "file"),
                     HumanBytes(IntegerAt(files, "bytes")));
}

std::string Format(const Json& inspection) {
  Phrases text;
  text.Add(TextAt(inspection, "format"));
  text.Add("version", inspection, "checkpoint_version");
  const std::string writer = TextAt(inspection, "writer");
  text.Add(writer.empty() ? "" : "written by " + writer);
  text.Add("iteration", inspection, "iteration");
  return text.text();
}

void AddList(const char* name, const Json& list, Pairs& pairs) {
  if (list.is_array()) {
    for (const Json& entry : list) {
      pairs.emplace_back(name, TextOf(entry));
    }
  }
}

// What stands between the checkpoint and an export, each with what to do about it.
void AddProblems(const Json& inspection, Pairs& pairs) {
  const Json& problems = At(inspection, "problems");
  const Json& advice = At(inspection, "advice");
  if (!problems.is_array() || problems.empty()) {
    pairs.emplace_back("export", "possible: `slipway plan` shows what it would write");
    return;
  }
  for (std::size_t i = 0; i < problems.size(); ++i) {
    pairs.emplace_back("problem", TextOf(problems[i]));
    pairs.emplace_back("to do", advice.is_array() && i < advice.size() ? TextOf(advice[i]) : "");
  }
}

std::string RenderTensors(const Json& tensors, int width) {
  if (!tensors.is_array()) {
    return "";
  }
  Table table({{.title = "TENSOR", .minimum = 24},
               {.title = "DTYPE"},
               {.title = "SHAPE"},
               {.title = "PIECES", .align_right = true},
               {.title = "SIZE", .align_right = true}});
  for (const Json& tensor : tensors) {
    table.AddRow({TextAt(tensor, "name"), TextAt(tensor, "dtype"), TextAt(tensor, "shape"), TextAt(tensor, "pieces"),
                  HumanBytes(IntegerAt(tensor, "bytes"))});
  }
  return "\n" + table.Render(width);
}

}  // namespace

std::string RenderInspection(const Json& inspection, int width) {
  const Json& c = At(inspection, "configuration");
  Pairs pairs = {{"checkpoint", TextAt(inspection, "path")},
                 {"format", Format(inspection)},
                 {"model", Family(inspection)},
                 {"parameters", Parameters(inspection)},
                 {"layers", Layers(c)},
                 {"sizes", Widths(c)},
                 {"attention", Attention(c)},
                 {"linear", LinearAttention(c)},
                 {"mamba", Mamba(c)},
                 {"experts", Experts(c)},
                 {"positions", Positions(c)},
                 {"settings", Settings(c)},
                 {"pattern", TextAt(c, "layer_pattern")},
                 {"quantized", TextAt(c, "quantization")},
                 {"parallel", Layout(At(inspection, "layout"))},
                 {"stored", Stored(inspection)}};
  AddList("fits too", At(inspection, "alternatives"), pairs);
  AddList("note", At(inspection, "notes"), pairs);
  AddProblems(inspection, pairs);
  return RenderPairs(pairs, width) + RenderIgnored(At(inspection, "ignored"), width) +
         RenderTensors(At(inspection, "tensors"), width);
}

}  // namespace slipway
