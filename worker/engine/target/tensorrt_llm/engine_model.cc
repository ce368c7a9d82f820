#include "worker/engine/target/tensorrt_llm/engine_model.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/model/json_fields.h"
#include "worker/engine/target/tensorrt_llm/family.h"

namespace slipway::engine::tensorrt_llm {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaximumCount = std::int64_t{1} << 20;  // of layers, heads, experts, and of a head's size

struct Activation {
  std::string_view hugging_face;
  std::string_view engine;
};

// The engine's gelu is the one with tanh, which is what all of these mean or come closest to.
constexpr Activation kActivations[] = {
    {"silu", "silu"},     {"swish", "silu"},         {"gelu", "gelu"}, {"gelu_pytorch_tanh", "gelu"},
    {"gelu_new", "gelu"}, {"relu2", "squared-relu"}, {"relu", "relu"},
};

absl::Status Lacks(std::string_view field) {
  return Error(Reason::kConfigurationInvalid, fmt::format("config.json lacks {}", field));
}

absl::Status ReadSizes(JsonFields& config, EngineModel& m) {
  m.hidden = config.Size({"hidden_size", "n_embd"}).value_or(0);
  m.layers = config.Size({"num_hidden_layers", "n_layer"}).value_or(0);
  m.heads = config.Size({"num_attention_heads", "n_head"}).value_or(0);
  m.key_value_heads = config.Size({"num_key_value_heads", "num_kv_heads"}).value_or(m.heads);
  m.head_size = config.Size({"head_dim"}).value_or(m.heads > 0 ? m.hidden / m.heads : 0);
  m.ffn = config.Size({"intermediate_size", "ffn_hidden_size", "n_inner"}).value_or(4 * m.hidden);
  m.vocabulary = config.Size({"vocab_size"}).value_or(0);
  m.positions = config.Size({"max_position_embeddings", "n_positions"}).value_or(0);
  m.norm_epsilon =
      config.Number({"rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "norm_epsilon", "norm_eps"}).value_or(0);
  return config.status();
}

absl::Status ReadExperts(JsonFields& config, EngineModel& m) {
  m.experts = config.Size({"num_local_experts", "num_experts", "n_routed_experts"}).value_or(0);
  m.active_experts = config.Size({"num_experts_per_tok"}).value_or(0);
  SLIPWAY_RETURN_IF_ERROR(config.status());
  return m.experts > 1 && m.active_experts > 0 && m.active_experts <= m.experts
             ? absl::OkStatus()
             : Error(Reason::kConfigurationInvalid,
                     fmt::format("config.json: {} of {} experts a token", m.active_experts, m.experts));
}

// `gated`: the engine has a gate where the activation's name is that of one, and knows two such names.
absl::Status ReadActivation(JsonFields& config, bool gated, EngineModel& m) {
  const std::string name =
      config.Text({"hidden_activation", "hidden_act", "activation_function", "activation"}).value_or("gelu");
  SLIPWAY_RETURN_IF_ERROR(config.status());
  const auto found = std::ranges::find(kActivations, name, &Activation::hugging_face);
  const bool has_gated_name = found != std::end(kActivations) && (found->engine == "silu" || found->engine == "gelu");
  if (found == std::end(kActivations) || (gated && !has_gated_name)) {
    return Error(Reason::kOptionUnsupported,
                 fmt::format("TensorRT-LLM's engines do not know the activation {}; --target huggingface keeps it",
                             name.substr(0, 100)));
  }
  m.activation = found->engine;
  return absl::OkStatus();
}

absl::Status ReadWindow(JsonFields& config, EngineModel& m) {
  const bool is_on = config.Flag({"use_sliding_window"}).value_or(true);
  SLIPWAY_RETURN_IF_ERROR(config.status());
  const json* window = config.Find({"sliding_window"});  // some spell one that is switched off as 0
  if (is_on && window != nullptr && window->is_number_integer() && window->get<std::int64_t>() > 0) {
    m.window = window->get<std::int64_t>();
  }
  return absl::OkStatus();
}

absl::Status ReadEmbeddings(const HuggingFaceModel& source, const Family& family, EngineModel& m) {
  const std::string name = fmt::format("{}.weight", family.embedding);
  m.prefix = family.prefix;
  auto embedding = source.tensors.find(m.prefix + name);
  if (embedding == source.tensors.end()) {
    m.prefix.clear();  // a model saved without its head
    embedding = source.tensors.find(name);
  }
  if (embedding == source.tensors.end()) {
    return Error(Reason::kTensorMissing, "the model has no embeddings",
                 {.tensor = fmt::format("{}{}", family.prefix, name)});
  }
  m.dtype = embedding->second.dtype;
  // A head that is stored counts, whatever config.json says: that it is the embeddings once more is not known here.
  m.tied = !source.tensors.contains(fmt::format("{}.weight", family.head));
  const auto said = source.config.find("tie_word_embeddings");
  m.has_head_of_its_own = !m.tied && said != source.config.end() && *said == true;
  return absl::OkStatus();
}

bool HasBias(const HuggingFaceModel& source, const Family& family, const EngineModel& m, const ModuleRule& rule) {
  return source.tensors.contains(fmt::format("{}{}.0.{}.bias", m.prefix, family.layers, rule.sources[0].module));
}

void ReadBiases(const HuggingFaceModel& source, const Family& family, EngineModel& m) {
  for (const ModuleRule& rule : family.rules) {
    if (rule.split == Split::kHeads) {
      m.attention_bias = HasBias(source, family, m, rule);
    } else if (rule.bias == Bias::kMlp) {
      m.mlp_bias = HasBias(source, family, m, rule);
    }
  }
}

absl::Status CheckSizes(const EngineModel& m, const Family& family) {
  struct Size {
    std::string_view name;
    std::int64_t value;
    std::int64_t maximum;
  };
  for (const Size& size : {Size{"hidden_size", m.hidden, kMaximumExtent},
                           {"num_hidden_layers", m.layers, kMaximumCount},
                           {"num_attention_heads", m.heads, kMaximumCount},
                           {"num_key_value_heads", m.key_value_heads, kMaximumCount},
                           {"head_dim", m.head_size, kMaximumCount},
                           {"vocab_size", m.vocabulary, kMaximumExtent},
                           {"max_position_embeddings", m.positions, kMaximumExtent}}) {
    if (size.value <= 0) {
      return Lacks(size.name);
    }
    if (size.value > size.maximum) {
      return Error(Reason::kLimitExceeded,
                   fmt::format("config.json: {} is {}, above {}", size.name, size.value, size.maximum));
    }
  }
  if (m.experts > kMaximumCount) {
    return Error(Reason::kLimitExceeded, fmt::format("config.json: {} experts, above {}", m.experts, kMaximumCount));
  }
  if (m.experts > 0 && m.expert_ffn <= 0) {
    return Lacks("moe_intermediate_size");
  }
  if (m.norm_epsilon <= 0) {
    return m.norm_epsilon == 0 ? Lacks("the norms' epsilon")
                               : Error(Reason::kConfigurationInvalid,
                                       fmt::format("config.json: the norms' epsilon is {}", m.norm_epsilon));
  }
  if (m.heads % m.key_value_heads != 0) {
    return Error(Reason::kConfigurationInvalid,
                 fmt::format("config.json: {} heads of queries, {} of keys", m.heads, m.key_value_heads));
  }
  if (family.plain_head_size && m.heads * m.head_size != m.hidden) {
    return Error(Reason::kOptionUnsupported,
                 fmt::format("TensorRT-LLM's class of {} has heads of hidden_size / num_attention_heads, not of {}; "
                             "--target huggingface keeps them",
                             family.architecture, m.head_size));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<EngineModel> LearnEngineModel(const HuggingFaceModel& source, const json& config, const Family& family) {
  EngineModel model;
  JsonFields fields(config, "config.json");
  SLIPWAY_RETURN_IF_ERROR(ReadSizes(fields, model));
  if (std::ranges::any_of(family.rules, &ModuleRule::is_router)) {
    SLIPWAY_RETURN_IF_ERROR(ReadExperts(fields, model));
  }
  SLIPWAY_RETURN_IF_ERROR(ReadActivation(fields, model.experts > 0 || family.gated_name, model));
  SLIPWAY_RETURN_IF_ERROR(ReadWindow(fields, model));
  SLIPWAY_ASSIGN_OR_RETURN(model.rope, ReadRope(config, family.latent_attention));
  SLIPWAY_RETURN_IF_ERROR(ReadEmbeddings(source, family, model));
  ReadBiases(source, family, model);
  if (family.learn != nullptr) {
    SLIPWAY_RETURN_IF_ERROR(family.learn(source, fields, model));
  }
  SLIPWAY_RETURN_IF_ERROR(fields.status());
  SLIPWAY_RETURN_IF_ERROR(CheckSizes(model, family));
  if (!model.rope.long_rope.is_null() && model.position_embedding != "long_rope") {
    return Error(Reason::kOptionUnsupported,
                 fmt::format("TensorRT-LLM's class of {} knows no longrope; --target huggingface keeps it",
                             family.architecture));
  }
  return model;
}

}  // namespace slipway::engine::tensorrt_llm
