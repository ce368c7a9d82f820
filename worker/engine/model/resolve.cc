#include "worker/engine/model/resolve.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::engine {
namespace {

using Stated = StatedConfiguration;
using Tensors = std::map<std::string, CanonicalTensor>;
using Notes = std::vector<std::string>;

constexpr std::int64_t kMaximumLayers = 1 << 16;
constexpr std::int64_t kMaximumHeads = 1 << 16;
constexpr std::int64_t kMaximumHeadDimension = 1 << 16;

template <typename Value>
struct Field {
  std::string_view name;
  std::optional<Value> Stated::*member;
};

// What must be the same wherever it is stated.
constexpr auto kSizes = std::to_array<Field<std::int64_t>>({
    {"num_layers", &Stated::layers},
    {"hidden_size", &Stated::hidden_size},
    {"ffn_hidden_size", &Stated::ffn_hidden_size},
    {"num_attention_heads", &Stated::attention_heads},
    {"num_query_groups", &Stated::query_groups},
    {"kv_channels", &Stated::head_dimension},
});

// What the arguments know better.
constexpr auto kSettings = std::make_tuple(
    Field<std::int64_t>{"max_position_embeddings", &Stated::maximum_positions},
    Field<double>{"layernorm_epsilon", &Stated::norm_epsilon},
    Field<bool>{"apply_layernorm_1p", &Stated::zero_centered_gamma},
    Field<bool>{"share_embeddings_and_output_weights", &Stated::tied_embeddings}, Field<bool>{"swiglu", &Stated::gated},
    Field<std::string>{"activation", &Stated::activation}, Field<std::string>{"normalization", &Stated::normalization},
    Field<bool>{"add_qkv_bias", &Stated::qkv_bias}, Field<bool>{"add_bias_linear", &Stated::linear_bias},
    Field<bool>{"qk_layernorm", &Stated::qk_norm}, Field<double>{"rotary_base", &Stated::rotary_base},
    Field<double>{"rope_scaling_factor", &Stated::llama3_rope_factor},
    Field<double>{"rotary_seq_len_interpolation_factor", &Stated::linear_rope_factor},
    Field<std::int64_t>{"window_size", &Stated::sliding_window},
    Field<double>{"init_method_std", &Stated::initializer_range});

// FP32 is what the model computes in: 1e-05 and 9.999999747378752e-06 are one epsilon.
template <typename Value>
bool Same(const Value& a, const Value& b) {
  if constexpr (std::is_same_v<Value, double>) {
    return static_cast<float>(a) == static_cast<float>(b);
  } else {
    return a == b;
  }
}

template <typename Value>
void MergeSetting(const Field<Value>& field, const Stated& hf_config, Stated& merged, Notes& notes) {
  const std::optional<Value>& theirs = hf_config.*field.member;
  std::optional<Value>& ours = merged.*field.member;
  if (!theirs) {
    return;
  }
  if (!ours) {
    ours = theirs;
  } else if (Same(*ours, *theirs)) {
    ours = theirs;  // as the user spells it
  } else {
    notes.push_back(fmt::format("{}: the training arguments say {}, --hf-config says {}; the arguments are followed",
                                field.name, *ours, *theirs));
  }
}

absl::StatusOr<Stated> Merge(const Stated& arguments, const Stated& hf_config, Notes& notes) {
  Stated merged = arguments;
  for (const auto& [name, member] : kSizes) {
    const auto& theirs = hf_config.*member;
    if (theirs && merged.*member && *theirs != *(merged.*member)) {
      return Error(Reason::kConfigurationInvalid,
                   fmt::format("{} is {} in the training arguments and {} in --hf-config: another model's directory?",
                               name, *(merged.*member), *theirs));
    }
    if (theirs) {
      merged.*member = theirs;
    }
  }
  std::apply([&](const auto&... fields) { (MergeSetting(fields, hf_config, merged, notes), ...); }, kSettings);
  // Models round their vocabulary up; arguments have the tokenizer's size.
  if (hf_config.vocabulary_size) {
    merged.vocabulary_size = hf_config.vocabulary_size;
  }
  if (!merged.parameters_dtype) {
    merged.parameters_dtype = hf_config.parameters_dtype;
  }
  return merged;
}

// What tensors tell. Layer 0 stands for all of them; differences between layers show when the plan is built.
class Shapes {
 public:
  explicit Shapes(const Tensors& tensors) : tensors_(tensors) {}

  [[nodiscard]] bool Has(const std::string& name) const { return tensors_.contains(name); }
  // The extent of `axis`, or nullopt where there is no such tensor or axis.
  [[nodiscard]] std::optional<std::int64_t> Extent(const std::string& name, std::size_t axis) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() || axis >= found->second.shape.size() ? std::nullopt
                                                                         : std::optional(found->second.shape[axis]);
  }
  [[nodiscard]] std::optional<DType> Type(const std::string& name) const {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? std::nullopt : std::optional(found->second.dtype);
  }
  [[nodiscard]] std::int64_t Layers() const;

 private:
  const Tensors& tensors_;
};

std::int64_t Shapes::Layers() const {
  constexpr std::string_view kPrefix = "decoder.layers.";
  std::int64_t layers = 0;
  for (auto at = tensors_.lower_bound(std::string(kPrefix)); at != tensors_.end() && at->first.starts_with(kPrefix);
       ++at) {
    std::int64_t layer = 0;
    const char* first = at->first.data() + kPrefix.size();
    if (std::from_chars(first, at->first.data() + at->first.size(), layer).ec == std::errc() &&
        layer < kMaximumLayers) {
      layers = std::max(layers, layer + 1);
    }
  }
  return layers;
}

constexpr const char* kEmbedding = "embedding.word_embeddings.weight";
constexpr const char* kQkv = "decoder.layers.0.self_attention.linear_qkv.weight";
constexpr const char* kProjection = "decoder.layers.0.self_attention.linear_proj.weight";
constexpr const char* kFc1 = "decoder.layers.0.mlp.linear_fc1.weight";
constexpr const char* kFc2 = "decoder.layers.0.mlp.linear_fc2.weight";

void DeriveSizes(const Shapes& shapes, Stated& stated) {
  const auto fill = [](std::optional<std::int64_t>& value, std::optional<std::int64_t> evidence) {
    value = value ? value : evidence;
  };
  fill(stated.layers, shapes.Layers());
  fill(stated.hidden_size, shapes.Extent(kEmbedding, 1));
  fill(stated.ffn_hidden_size, shapes.Extent(kFc2, 1));
  const std::int64_t heads = stated.attention_heads.value_or(0);
  if (heads > 0) {
    if (const auto columns = shapes.Extent(kProjection, 1)) {
      fill(stated.head_dimension, *columns / heads);
    }
    if (const auto rows = shapes.Extent(kQkv, 0); rows && stated.head_dimension.value_or(0) > 0) {
      fill(stated.query_groups, (*rows / *stated.head_dimension - heads) / 2);
    }
  }
}

void DeriveSwitches(const Shapes& shapes, Stated& stated) {
  const auto fill = [](std::optional<bool>& value, bool evidence) { value = value ? value : evidence; };
  fill(stated.tied_embeddings, !shapes.Has("output_layer.weight"));
  fill(stated.qkv_bias, shapes.Has("decoder.layers.0.self_attention.linear_qkv.bias"));
  fill(stated.linear_bias, shapes.Has("decoder.layers.0.mlp.linear_fc2.bias"));
  fill(stated.qk_norm, shapes.Has("decoder.layers.0.self_attention.q_layernorm.weight"));
  const auto rows = shapes.Extent(kFc1, 0);
  const auto width = shapes.Extent(kFc2, 1);
  fill(stated.gated, rows && width && *rows / 2 == *width && *rows % 2 == 0);
  if (!stated.normalization) {
    stated.normalization = shapes.Has("decoder.final_layernorm.bias") ? "LayerNorm" : "RMSNorm";
  }
}

absl::Status CheckBounds(const ModelConfiguration& c) {
  struct Bound {
    std::string_view name;
    std::int64_t value;
    std::int64_t maximum;
  };
  constexpr std::int64_t kMaximumWidth = std::int64_t{1} << 30;
  for (const Bound& bound :
       {Bound{"num_layers", c.layers, kMaximumLayers}, Bound{"hidden_size", c.hidden_size, kMaximumWidth},
        Bound{"ffn_hidden_size", c.ffn_hidden_size, kMaximumWidth},
        Bound{"num_attention_heads", c.attention_heads, kMaximumHeads},
        Bound{"num_query_groups", c.query_groups, kMaximumHeads},
        Bound{"kv_channels", c.head_dimension, kMaximumHeadDimension},
        Bound{"vocab_size", c.vocabulary_size, kMaximumWidth}}) {
    if (bound.value <= 0 || bound.value > bound.maximum) {
      return Error(Reason::kConfigurationInvalid,
                   bound.value == 0
                       ? fmt::format("{} is neither stated nor to be seen in the tensors", bound.name)
                       : fmt::format("{} is {}, not between 1 and {}", bound.name, bound.value, bound.maximum));
    }
  }
  if (c.attention_heads % c.query_groups != 0) {
    return Error(Reason::kConfigurationInvalid,
                 fmt::format("num_attention_heads {} is not a multiple of num_query_groups {}", c.attention_heads,
                             c.query_groups));
  }
  return absl::OkStatus();
}

absl::Status SetVocabulary(const Shapes& shapes, const Stated& stated, ModelConfiguration& c, Notes& notes) {
  c.padded_vocabulary_size = shapes.Extent(kEmbedding, 0).value_or(0);
  c.vocabulary_size = stated.vocabulary_size.value_or(c.padded_vocabulary_size);
  if (c.vocabulary_size > c.padded_vocabulary_size && c.padded_vocabulary_size > 0) {
    return Error(Reason::kTensorShapeMismatch,
                 fmt::format("the vocabulary has {} words, the embedding only {} rows", c.vocabulary_size,
                             c.padded_vocabulary_size),
                 {.tensor = kEmbedding});
  }
  if (!stated.vocabulary_size) {
    notes.push_back(fmt::format("vocab_size is not stated: all {} rows of the embedding are taken, padding included",
                                c.padded_vocabulary_size));
  }
  return absl::OkStatus();
}

// Megatron's default where nothing states or shows the value.
template <typename Value>
Value OrDefault(const std::optional<Value>& stated, Value fallback, std::string_view name, Notes& notes) {
  if (!stated) {
    notes.push_back(fmt::format("{} is not stated: Megatron's default {} is taken", name, fallback));
  }
  return stated.value_or(fallback);
}

void SetNumbers(const Stated& stated, ModelConfiguration& c, Notes& notes) {
  c.norm_epsilon = OrDefault(stated.norm_epsilon, c.norm_epsilon, "layernorm_epsilon", notes);
  c.rotary_base = OrDefault(stated.rotary_base, c.rotary_base, "rotary_base", notes);
  c.maximum_positions = stated.maximum_positions.value_or(0);
  c.zero_centered_gamma = stated.zero_centered_gamma.value_or(false);
  c.initializer_range = stated.initializer_range;
  const auto nonzero = [](auto value) { return value.value_or(0) > 0 ? value : std::nullopt; };
  c.llama3_rope_factor = nonzero(stated.llama3_rope_factor);
  c.linear_rope_factor = nonzero(stated.linear_rope_factor);
  c.sliding_window = nonzero(stated.sliding_window);
}

}  // namespace

absl::StatusOr<ModelConfiguration> ResolveConfiguration(const Stated& arguments, const Stated& hf_config,
                                                        const Tensors& tensors, Notes& notes) {
  SLIPWAY_ASSIGN_OR_RETURN(Stated stated, Merge(arguments, hf_config, notes));
  const Shapes shapes(tensors);
  DeriveSizes(shapes, stated);
  DeriveSwitches(shapes, stated);

  ModelConfiguration c;
  SLIPWAY_RETURN_IF_ERROR(SetVocabulary(shapes, stated, c, notes));
  c.layers = stated.layers.value_or(0);
  c.hidden_size = stated.hidden_size.value_or(0);
  c.ffn_hidden_size = stated.ffn_hidden_size.value_or(0);
  c.attention_heads = stated.attention_heads.value_or(0);
  c.query_groups = stated.query_groups.value_or(0);
  c.head_dimension = stated.head_dimension.value_or(0);
  c.tied_embeddings = *stated.tied_embeddings;
  c.gated = *stated.gated;
  c.activation = stated.activation.value_or("silu");
  c.normalization = *stated.normalization;
  c.qkv_bias = *stated.qkv_bias;
  c.linear_bias = *stated.linear_bias;
  c.qk_norm = *stated.qk_norm;
  SetNumbers(stated, c, notes);
  c.parameters_dtype = stated.parameters_dtype.value_or(shapes.Type(kEmbedding).value_or(DType::kBF16));
  SLIPWAY_RETURN_IF_ERROR(CheckBounds(c));
  if (c.maximum_positions == 0) {
    return Error(Reason::kConfigurationInvalid, "max_position_embeddings is stated nowhere");
  }
  return c;
}

}  // namespace slipway::engine
