#include "worker/engine/target/sharded_state/dimensions.h"

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/checked_math.h"
#include "common/count_of.h"
#include "common/error.h"
#include "common/parallel_size.h"
#include "worker/engine/model/json_fields.h"

namespace slipway::engine::sharded_state {
namespace {

constexpr std::int64_t kMaximumLayers = 100'000;
constexpr std::int64_t kMaximumExperts = 100'000;

std::int64_t PaddedVocabulary(const Engine& engine, std::int64_t vocabulary, std::int64_t ranks) {
  const auto padded = [vocabulary](std::int64_t multiple) { return (vocabulary + multiple - 1) / multiple * multiple; };
  const std::int64_t usual = padded(kVocabularyPadding);
  return engine.pads_to_ranks && usual % ranks != 0 ? padded(kVocabularyPadding * ranks) : usual;
}

// Why a model cannot be split over so many ranks; empty if it can.
std::string Complaint(const Engine& engine, const Family& family, const Dimensions& sizes, std::int64_t ranks) {
  const std::int64_t groups = sizes.key_value_heads;
  if (sizes.heads % ranks != 0) {
    return fmt::format("does not divide the {} attention heads", sizes.heads);
  }
  if (groups >= ranks ? groups % ranks != 0 : ranks % groups != 0) {
    return fmt::format("neither divides the {} key and value heads nor is a multiple of them", groups);
  }
  if (sizes.ffn % ranks != 0) {
    return fmt::format("does not divide the feed-forward size {}", sizes.ffn);
  }
  if (sizes.expert_ffn % ranks != 0) {
    return fmt::format("does not divide the feed-forward size {} of the experts", sizes.expert_ffn);
  }
  if (family.ranks_within_experts && ranks > sizes.experts) {
    return fmt::format("is more than the {}, which {} refuses", CountOf(sizes.experts, "expert"), engine.name);
  }
  const std::int64_t padded = PaddedVocabulary(engine, sizes.vocabulary, ranks);
  return padded % ranks != 0 ? fmt::format("does not divide the padded vocabulary of {}", padded) : "";
}

absl::Status CheckRanks(const Engine& engine, const Family& family, const Dimensions& sizes,
                        const RankRequest& request) {
  const std::string complaint = Complaint(engine, family, sizes, request.tensor_parallel);
  if (!complaint.empty()) {
    constexpr std::size_t kShown = 10;
    std::vector<std::int64_t> good;
    for (std::int64_t ranks = 1; ranks <= kMaximumParallelSize && good.size() < kShown; ++ranks) {
      if (Complaint(engine, family, sizes, ranks).empty()) {
        good.push_back(ranks);
      }
    }
    return Error(Reason::kOptionUnsupported, fmt::format("{}: --tensor-parallel {} {}; what works is {}", engine.target,
                                                         request.tensor_parallel, complaint, fmt::join(good, ", ")));
  }
  if (request.pipeline_parallel > sizes.layers) {
    return Error(Reason::kOptionUnsupported,
                 fmt::format("{}: --pipeline-parallel {} is more than the {} layers: use at most {}", engine.target,
                             request.pipeline_parallel, sizes.layers, sizes.layers));
  }
  return absl::OkStatus();
}

// How many parts of tensors the ranks have together, at most.
std::int64_t Parts(const Dimensions& sizes, std::int64_t ranks) {
  constexpr std::int64_t kOfALayer = 20;  // attention with its biases and scales, norms, a feed-forward layer
  return ranks * sizes.layers * (kOfALayer + 3 * sizes.experts);
}

absl::Status CheckParts(const Engine& engine, const Dimensions& sizes, std::int64_t ranks) {
  // 100 layers of 128 experts on 100 ranks; a part takes about 130 bytes.
  constexpr std::int64_t kMaximumParts = std::int64_t{4} << 20;
  const std::int64_t parts = Parts(sizes, ranks);
  return parts <= kMaximumParts
             ? absl::OkStatus()
             : Error(Reason::kLimitExceeded,
                     fmt::format("{}: {} ranks need about {} parts of tensors, more than {}: use fewer, or --target "
                                 "huggingface",
                                 engine.target, ranks, parts, kMaximumParts));
}

// Reads config.json's fields; those that are needed and not there are an error.
class SizeReader {
 public:
  explicit SizeReader(const nlohmann::json& config) : fields_(config, "config.json") {}

  std::int64_t Needed(const char* name, std::int64_t maximum = kMaximumExtent) {
    return Known(fields_.Size({name}), name, maximum);
  }
  std::int64_t Needed(std::initializer_list<const char*> names, std::int64_t maximum) {
    return Known(fields_.Size(names), *names.begin(), maximum);
  }
  std::optional<std::int64_t> Given(const char* name) { return fields_.Size({name}); }
  bool Flag(const char* name) { return fields_.Flag({name}).value_or(false); }
  std::set<std::int64_t> Numbers(const char* name) {
    std::set<std::int64_t> numbers;
    const nlohmann::json* list = fields_.Find({name});
    if (list == nullptr) {
      return numbers;
    }
    const auto is_number = [](const nlohmann::json& item) { return item.is_number_integer(); };
    if (!list->is_array() || !std::ranges::all_of(*list, is_number)) {
      Fail(fmt::format("config.json: {} is not a list of layers", name));
      return numbers;
    }
    for (const nlohmann::json& item : *list) {
      numbers.insert(item.get<std::int64_t>());
    }
    return numbers;
  }
  void Fail(const std::string& message) {
    status_ = status_.ok() ? Error(Reason::kConfigurationInvalid, message) : status_;
  }
  [[nodiscard]] absl::Status status() const { return fields_.status().ok() ? status_ : fields_.status(); }

 private:
  // 1 in the place of what is wrong, so that it can be computed with until the error is asked for.
  std::int64_t Known(std::optional<std::int64_t> value, const char* name, std::int64_t maximum) {
    if (!value) {
      Fail(fmt::format("config.json does not say {}", name));
    } else if (*value > maximum) {
      Fail(fmt::format("config.json: {} is {}, more than any model's", name, *value));
    }
    return value && *value <= maximum ? *value : 1;
  }

  JsonFields fields_;
  absl::Status status_;
};

void ReadAttention(const Family& family, SizeReader& config, Dimensions& sizes) {
  sizes.hidden = config.Needed("hidden_size");
  sizes.heads = config.Needed("num_attention_heads");
  sizes.key_value_heads = config.Given("num_key_value_heads").value_or(sizes.heads);
  sizes.head = config.Given("head_dim").value_or(sizes.hidden / sizes.heads);
  const auto rows = CheckedMultiply(sizes.heads, sizes.head);
  if (sizes.head == 0 || sizes.key_value_heads > sizes.heads || !rows || *rows > kMaximumExtent) {
    config.Fail(fmt::format("config.json: {} heads and {} of keys and values do not go with head_dim {}", sizes.heads,
                            sizes.key_value_heads, sizes.head));
  }
  sizes.output_bias = family.attention_bias == AttentionBias::kConfigured && config.Flag("attention_bias");
  sizes.qkv_bias = family.attention_bias == AttentionBias::kQkv || sizes.output_bias;
}

void ReadExperts(const Family& family, SizeReader& config, Dimensions& sizes) {
  sizes.experts = config.Needed({"num_local_experts", "num_experts"}, kMaximumExperts);
  sizes.expert_ffn = config.Needed(family.experts.ffn_size);
  sizes.sparse_step = config.Given("decoder_sparse_step").value_or(1);
  sizes.dense_layers = config.Numbers("mlp_only_layers");
}

bool HasDenseLayers(const Dimensions& sizes) {
  for (std::int64_t layer = 0; layer < sizes.layers; ++layer) {
    if (!sizes.HasExperts(layer)) {
      return true;
    }
  }
  return false;
}

}  // namespace

absl::StatusOr<Dimensions> ReadDimensions(const Engine& engine, const Family& family, const HuggingFaceModel& model,
                                          const RankRequest& request) {
  const nlohmann::json json = model.config;
  SizeReader config(json);
  Dimensions sizes;
  sizes.layers = config.Needed("num_hidden_layers", kMaximumLayers);
  ReadAttention(family, config, sizes);
  if (!family.experts.module.empty()) {
    ReadExperts(family, config, sizes);
  }
  if (HasDenseLayers(sizes)) {
    sizes.ffn = config.Needed("intermediate_size");
    sizes.mlp_bias = family.mlp_bias && engine.mlp_bias && config.Flag("mlp_bias");
  }
  sizes.vocabulary = config.Needed("vocab_size");
  sizes.tied = config.Flag("tie_word_embeddings");
  SLIPWAY_RETURN_IF_ERROR(config.status());
  SLIPWAY_RETURN_IF_ERROR(CheckRanks(engine, family, sizes, request));
  SLIPWAY_RETURN_IF_ERROR(CheckParts(engine, sizes, request.tensor_parallel));
  sizes.padded_vocabulary = PaddedVocabulary(engine, sizes.vocabulary, request.tensor_parallel);
  return sizes;
}

std::vector<std::int64_t> LayersOfStages(std::int64_t layers, std::int64_t stages) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(stages), layers / stages);
  for (std::size_t i = 0; i < static_cast<std::size_t>(layers % stages); ++i) {
    ++counts[counts.size() - 2 - i];
  }
  return counts;
}

}  // namespace slipway::engine::sharded_state
