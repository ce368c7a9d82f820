// What a table of a family is: how the modules of one of TensorRT-LLM's classes are made of Hugging Face's.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "worker/engine/model/json_fields.h"
#include "worker/engine/target/tensorrt_llm/dialect.h"
#include "worker/engine/target/tensorrt_llm/engine_model.h"

namespace slipway::engine::tensorrt_llm {

// How a module is shared out among the ranks of a stage.
enum class Split : std::uint8_t {
  kNone,           // each has all of it
  kRows,           // its share of the rows of each source, one source below the other
  kColumns,        // its share of the columns; the bias is whole on each
  kHeads,          // its share of heads: queries, then keys, then values
  kExpertRows,     // as kRows, of each of its experts
  kExpertColumns,  // as kColumns, of each of its experts
};

// Where heads lie in Hugging Face's modules.
enum class HeadOrder : std::uint8_t {
  kSeparate,  // three modules
  kJoined,    // one: all queries, all keys, all values
  kGrouped,   // one: group by group the queries, the key, the value
};

// Which of the model's switches says whether a module has a bias.
enum class Bias : std::uint8_t { kNone, kAttention, kMlp, kAlways };

// In which layers a module is, of a model whose first layers are dense and the others of experts.
enum class Layers : std::uint8_t { kAll, kDense, kOfExperts };

using Extent = std::int64_t (*)(const EngineModel&);
using Condition = bool (*)(const EngineModel&);

// A Hugging Face module, or the part-th of `parts` equal blocks of its rows.
struct Source {
  std::string_view module = {};
  std::uint8_t part = 0;
  std::uint8_t parts = 1;
};

// Names are relative to the layer: "attention.qkv" of "transformer.layers.0.", "self_attn.q_proj" of "model.layers.0.".
// "{expert}" stands for each expert's number.
struct ModuleRule {
  std::string_view name;
  Split split = Split::kNone;
  std::array<Source, 3> sources;  // as many as have a name
  Extent rows = nullptr;          // of each source; of kHeads the heads say it
  Extent columns = nullptr;       // null: the weight is a vector
  Bias bias = Bias::kNone;
  HeadOrder order = HeadOrder::kSeparate;
  bool is_norm = false;
  bool is_router = false;  // FP32, whatever the model is in
  Condition when = nullptr;
  Layers layers = Layers::kAll;
};

struct Family {
  std::string_view architecture;  // Hugging Face's class
  std::string_view engine;        // config.json's architecture
  Version since = kOldest;
  std::string_view prefix = "model.";
  std::string_view embedding = "embed_tokens";
  std::string_view position_embedding = {};  // of learned positions
  std::string_view layers = "layers";
  std::string_view final_norm = "norm";
  std::string_view head = "lm_head";
  std::span<const ModuleRule> rules;  // of a layer
  bool layer_norm = false;            // norms have biases
  bool zero_centered = false;         // Hugging Face stores norms minus one, the engine as they are
  bool gated_name = false;            // hidden_act tells the gate ("swiglu"), not the class
  bool shards_embedding = false;      // over the vocabulary, where there are several ranks
  bool has_stages = true;             // can be split into stages
  bool has_window = false;            // the engine's config.json says over how many positions attention looks back
  bool plain_head_size = false;       // heads times their size must be the hidden size
  bool latent_attention = false;      // latent_attention.cc makes the tensors that no rule can
  bool is_quantized = true;           // the class is known to take quantized weights
  std::optional<Version> only = std::nullopt;  // other versions have other tensors or keys
  // What only this family's config.json says; may refuse. Null: nothing.
  absl::Status (*learn)(const HuggingFaceModel& source, JsonFields& config, EngineModel& model) = nullptr;
  // Adds the family's own keys to the engine's config.json. `config` is Hugging Face's. Null: none.
  void (*describe)(const EngineModel& model, const nlohmann::json& config, nlohmann::ordered_json& engine) = nullptr;
};

}  // namespace slipway::engine::tensorrt_llm
