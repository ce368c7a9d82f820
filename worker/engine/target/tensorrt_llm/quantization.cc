#include "worker/engine/target/tensorrt_llm/quantization.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "common/count_of.h"
#include "common/error.h"
#include "worker/engine/target/tensorrt_llm/dialect.h"

namespace slipway::engine::tensorrt_llm {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kMixed = "MIXED_PRECISION";
constexpr std::string_view kRowWise = "FP8_PER_CHANNEL_PER_TOKEN";

struct Since {
  std::string_view algorithm;
  Version version;
};
constexpr auto kSince = std::to_array<Since>({{kRowWise, {0, 13}}, {kMixed, {0, 14}}, {"NVFP4", {0, 17}}});
constexpr Version kAwqExperts = kOneZero;
constexpr Version kPadded{0, 13};  // builders from here on round the sizes of quantized layers up
// These transpose scales of groups only where there are more rows than groups.
constexpr Version kFirstTransposing{0, 14};
constexpr Version kLastTransposing{0, 17};

// A list of one's own replaces the builder's, which is this one. None of them is ever quantized.
constexpr auto kNeverQuantized = std::to_array<std::string_view>(
    {"lm_head", "router", "vocab_embedding", "position_embedding", "block_embedding", "shared_expert_gate"});
constexpr auto kRowWiseNorms = std::to_array<std::string_view>({"*ln_f", "*ln_embed"});

std::string_view AlgorithmOf(const RankModule& module) { return module.format->layout.algorithm; }

bool IsAwq(std::string_view algorithm) { return algorithm.ends_with("_AWQ"); }
bool IsNeverQuantized(const RankModule& module) {
  return std::ranges::any_of(kNeverQuantized, [&](std::string_view name) { return module.name.ends_with(name); });
}
bool IsOfValues(const RankModule& module) { return module.format->layout.tensors.empty(); }

absl::Status Refused(const RankModule& module, const std::string& message) {
  return Error(Reason::kOptionUnsupported, message, {.tensor = module.source});
}

// Sizes that the builder rounds up, so that tensors no longer fit: what they have to be multiples of, but for the
// ranks.
std::int64_t RoundedTo(const RankModule& module) {
  const std::string_view algorithm = AlgorithmOf(module);
  if (module.experts > 0) {
    return 1;
  }
  return algorithm == "W4A8_AWQ" ? std::max<std::int64_t>(128, module.group)
         : IsAwq(algorithm)      ? std::max<std::int64_t>(64, module.group)
         : IsOfValues(module)    ? 64
                                 : 1;
}

class Describer {
 public:
  Describer(const std::vector<RankModule>& modules, KvCache kv_cache, const RankRequest& request, Dialect dialect)
      : modules_(modules), kv_cache_(kv_cache), request_(request), dialect_(dialect) {}

  absl::StatusOr<RankQuantizationText> Describe(std::string_view text) {
    ordered_json config = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!config.is_object()) {
      return Error(Reason::kInternal, "the target has no config.json");
    }
    for (const RankModule& module : modules_) {
      if (module.format != nullptr) {
        SLIPWAY_RETURN_IF_ERROR(Check(module));
        first_ = first_ == nullptr ? &module : first_;
      }
    }
    if (first_ == nullptr) {
      return Error(Reason::kOptionUnsupported, "the recipe quantizes nothing that TensorRT-LLM quantizes");
    }
    SLIPWAY_RETURN_IF_ERROR(CheckKvCache());
    mixed_ = std::ranges::any_of(modules_, [&](const RankModule& module) {
      return module.format != nullptr && (module.format != first_->format || module.group != first_->group);
    });
    SLIPWAY_RETURN_IF_ERROR(mixed_ ? CheckMixture() : CheckSince(*first_, AlgorithmOf(*first_)));
    if (IsOfValues(*first_) && config["dtype"] == "float32") {
      return Refused(
          *first_, fmt::format("{} is made of FP16 or BF16 weights: give --dtype bf16 or fp16", AlgorithmOf(*first_)));
    }
    config["quantization"] = Quantization();
    result_.texts.push_back({"config.json", config.dump(2) + "\n"});
    if (mixed_) {
      result_.texts.push_back({"quant_cfg.json", LayersOfMixture().dump(2) + "\n"});
    }
    WarnOfSizes();
    return std::move(result_);
  }

 private:
  // Whether a version from `first` to `last` is named; what is wrong with such is a warning where none is.
  [[nodiscard]] bool IsNamed(Version first, Version last = {99, 0}) const {
    return dialect_.named && !(dialect_.version < first) && !(last < dialect_.version);
  }

  absl::Status Check(const RankModule& module) {
    const std::string_view algorithm = AlgorithmOf(module);
    if (module.experts > 0 && IsAwq(algorithm)) {
      SLIPWAY_RETURN_IF_ERROR(CheckVersion(module, fmt::format("{} of experts", algorithm), kAwqExperts));
    }
    return CheckSizes(module);
  }

  absl::Status CheckVersion(const RankModule& module, std::string_view what, Version since) {
    if (dialect_.named && dialect_.version < since) {
      return Refused(module, fmt::format("TensorRT-LLM {} does not know {}; {} and later do",
                                         ToString(dialect_.version), what, ToString(since)));
    }
    if (!dialect_.named) {
      Warn(fmt::format("TensorRT-LLM knows {} from version {} on", what, ToString(since)));
    }
    return absl::OkStatus();
  }

  absl::Status CheckSince(const RankModule& module, std::string_view algorithm) {
    const auto since = std::ranges::find(kSince, algorithm, &Since::algorithm);
    return since == kSince.end() ? absl::OkStatus() : CheckVersion(module, algorithm, since->version);
  }

  absl::Status CheckSizes(const RankModule& module) {
    const std::int64_t tensor = request_.tensor_parallel;
    const std::int64_t unit = RoundedTo(module);
    const std::int64_t rows = module.rows * (module.cut_columns ? 1 : tensor);
    const std::int64_t columns = module.columns * (module.cut_columns ? tensor : 1);
    if (rows % (unit * tensor) != 0 || columns % (unit * tensor) != 0) {
      if (IsNamed(kPadded)) {
        return Refused(module, fmt::format("TensorRT-LLM {} builds {} only where both sizes of {}, {} x {}, are "
                                           "multiples of {} (that is {} a rank of --tensor-parallel {}): take fewer "
                                           "ranks, leave the module out with a rule of --recipe, or choose --target "
                                           "huggingface",
                                           ToString(dialect_.version), AlgorithmOf(module), module.name, rows, columns,
                                           unit * tensor, unit, tensor));
      }
      if (!dialect_.named) {
        rounded_.push_back(&module);
      }
    }
    if (IsAwq(AlgorithmOf(module)) && module.experts == 0 && module.rows <= module.columns / module.group) {
      if (IsNamed(kFirstTransposing, kLastTransposing)) {
        return Refused(module, fmt::format("TensorRT-LLM {} takes groups of {} only where a rank has more rows of {} "
                                           "than groups a row, and it has {} and {}: take fewer ranks, or another "
                                           "version",
                                           ToString(dialect_.version), module.group, module.name, module.rows,
                                           module.columns / module.group));
      }
      if (!dialect_.named) {
        flat_.push_back(&module);
      }
    }
    constexpr std::int64_t kRows = 128;
    constexpr std::int64_t kColumns = 64;
    if (AlgorithmOf(module) == "NVFP4" && (module.rows % kRows != 0 || module.columns % kColumns != 0)) {
      uneven_.push_back(&module);
    }
    return absl::OkStatus();
  }

  absl::Status CheckKvCache() const {
    return kv_cache_ != KvCache::kNvfp4
               ? absl::OkStatus()
               : Error(Reason::kOptionUnsupported,
                       "--kv-cache nvfp4: TensorRT-LLM's engines have no place for its scales; fp8 would work");
  }

  // Whether the format can be one of several.
  absl::Status CheckMixture() {
    for (const RankModule& module : modules_) {
      if (module.format == nullptr) {
        continue;
      }
      SLIPWAY_RETURN_IF_ERROR(CheckSince(module, AlgorithmOf(module)));
      if (IsOfValues(module) || AlgorithmOf(module) == kRowWise) {
        return Refused(module, fmt::format("{} cannot be one of several formats in TensorRT-LLM's checkpoints: "
                                           "quantize all modules so, or choose --target huggingface",
                                           module.format->format->name));
      }
      if (module.experts == 0) {
        continue;
      }
      const std::string layer = module.name.substr(0, module.name.rfind('.'));
      for (const RankModule& other : modules_) {
        if (other.experts > 0 && other.name.starts_with(layer + ".") &&
            (other.format != module.format || other.group != module.group)) {
          return Refused(module, fmt::format("is of the experts of {}, which TensorRT-LLM quantizes alike or not at "
                                             "all: change the recipe's rules",
                                             layer));
        }
      }
    }
    return CheckSince(*first_, kMixed);
  }

  [[nodiscard]] ordered_json LayerOf(const RankModule& module) const {
    const std::string_view algorithm = AlgorithmOf(module);
    ordered_json layer{{"quant_algo", algorithm}};
    if (IsAwq(algorithm)) {
      layer["group_size"] = module.group;
      layer["has_zero_point"] = false;
      layer["pre_quant_scale"] = true;
    } else if (algorithm == "NVFP4") {
      layer["group_size"] = module.group;
    }
    return layer;
  }

  [[nodiscard]] ordered_json KvCacheAlgorithm() const {
    return kv_cache_ == KvCache::kFp8 ? ordered_json("FP8") : ordered_json();
  }

  [[nodiscard]] ordered_json Quantization() const {
    ordered_json json{{"quant_algo", mixed_ ? kMixed : AlgorithmOf(*first_)},
                      {"kv_cache_quant_algo", KvCacheAlgorithm()}};
    if (!mixed_) {
      const ordered_json layer = LayerOf(*first_);
      json.update(layer);
      json["exclude_modules"] = Excluded();
    }
    return json;
  }

  // Of a mixture, what is not listed is not quantized.
  [[nodiscard]] ordered_json LayersOfMixture() const {
    ordered_json layers = ordered_json::object();
    for (const RankModule& module : modules_) {
      if (module.format != nullptr) {
        layers[module.name] = LayerOf(module);
      }
    }
    return {{"quant_algo", kMixed}, {"kv_cache_quant_algo", KvCacheAlgorithm()}, {"quantized_layers", layers}};
  }

  // Patterns of whole module names. Weight-only builders compare with names of weights, too.
  [[nodiscard]] std::vector<std::string> Excluded() const {
    std::vector<std::string> excluded;
    const bool of_values = IsOfValues(*first_);
    const auto add = [&](const std::string& name) {
      excluded.push_back(name);
      if (of_values) {
        excluded.push_back(name + ".weight");
      }
    };
    for (const std::string_view name : kNeverQuantized) {
      add(fmt::format("*{}", name));
    }
    const bool row_wise = AlgorithmOf(*first_) == kRowWise;
    if (row_wise) {
      excluded.insert(excluded.end(), kRowWiseNorms.begin(), kRowWiseNorms.end());
    }
    for (const RankModule& module : modules_) {
      if (module.format != nullptr || IsNeverQuantized(module)) {
        continue;
      }
      add(module.name);
      if (row_wise) {  // the norm before it would quantize its input
        AddNormBefore(module.name, excluded);
      }
    }
    return excluded;
  }

  static void AddNormBefore(std::string_view module, std::vector<std::string>& excluded) {
    constexpr std::pair<std::string_view, std::string_view> kNorms[] = {{"attention.qkv", "input_layernorm"},
                                                                        {"mlp.fc", "post_layernorm"}};
    for (const auto& [name, norm] : kNorms) {
      if (module.ends_with(name)) {
        excluded.push_back(fmt::format("{}{}", module.substr(0, module.size() - name.size()), norm));
      }
    }
  }

  void Warn(std::string warning) {
    if (std::ranges::find(result_.warnings, warning) == result_.warnings.end()) {
      result_.warnings.push_back(std::move(warning));
    }
  }

  void WarnOfSizes() {
    const auto say = [this](const std::vector<const RankModule*>& modules, std::string_view what) {
      if (!modules.empty()) {
        const RankModule& one = *modules.front();
        Warn(fmt::format("{} such as {}, {} x {} on a rank: {}",
                         CountOf(static_cast<std::int64_t>(modules.size()), "quantized module"), one.name, one.rows,
                         one.columns, what));
      }
    };
    say(rounded_, fmt::format("TensorRT-LLM from version 0.13 on builds {} only where sizes of the whole module are "
                              "multiples of {} for each rank of --tensor-parallel",
                              AlgorithmOf(*first_), RoundedTo(*first_)));
    say(flat_, "TensorRT-LLM 0.14 to 0.17 takes groups only where there are more rows than groups a row");
    say(uneven_, "TensorRT-LLM's kernels want whole blocks of 128 rows and 64 columns of NVFP4");
  }

  const std::vector<RankModule>& modules_;
  const KvCache kv_cache_;
  const RankRequest& request_;
  const Dialect dialect_;
  const RankModule* first_ = nullptr;  // that is quantized
  bool mixed_ = false;
  std::vector<const RankModule*> rounded_;
  std::vector<const RankModule*> flat_;
  std::vector<const RankModule*> uneven_;
  RankQuantizationText result_;
};

}  // namespace

absl::StatusOr<RankQuantizationText> DescribeQuantization(const std::vector<RankModule>& modules, KvCache kv_cache,
                                                          const RankRequest& request, std::string_view config) {
  SLIPWAY_ASSIGN_OR_RETURN(const Dialect dialect, FindDialect(request.version));
  return Describer(modules, kv_cache, request, dialect).Describe(config);
}

}  // namespace slipway::engine::tensorrt_llm

namespace slipway::engine {

// Keys and values of small models are far below E4M3's largest: a scale below one is of no use to them, and versions
// until 0.13 read one whatever is written.
const RankQuantization kTensorRtLlmQuantization = {
    .formats = tensorrt_llm::QuantizedFormats(),
    .never_quantized = tensorrt_llm::kNeverQuantized,
    .attention_weight = "attention.qkv.weight",
    .kv_cache_scale = "kv_cache_scaling_factor",
    .least_kv_cache_scale = 1,
    .describe = tensorrt_llm::DescribeQuantization,
};

}  // namespace slipway::engine
