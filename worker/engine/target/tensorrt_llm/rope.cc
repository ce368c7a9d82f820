#include "worker/engine/target/tensorrt_llm/rope.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <string>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/model/json_fields.h"

namespace slipway::engine::tensorrt_llm {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// Of linear scaling the first, of llama3 all.
constexpr auto kScalingFields =
    std::to_array<const char*>({"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"});

// The object of that name, or null.
json ObjectOf(const json& parent, const char* name) {
  const auto found = parent.is_object() ? parent.find(name) : parent.end();
  return found != parent.end() && found->is_object() ? *found : json(nullptr);
}

// A field that is there says how positions are rotated: one of another type is not passed over.
absl::Status CheckIsObject(const json& config, const char* name) {
  const auto found = config.find(name);
  return found == config.end() || found->is_null() || found->is_object()
             ? absl::OkStatus()
             : Error(Reason::kConfigurationInvalid, fmt::format("config.json: {} is not an object", name));
}

// rope_parameters holds those of all layers, or an object for each kind of layer.
struct Parameters {
  json all;
  json local;
};

Parameters ParametersOf(const json& config) {
  const json parameters = ObjectOf(config, "rope_parameters");
  const json full = ObjectOf(parameters, "full_attention");
  return {full.is_null() ? parameters : full, ObjectOf(parameters, "sliding_attention")};
}

absl::StatusOr<ordered_json> Factors(const json& scaling, const char* name) {
  const auto factors = scaling.find(name);
  const bool is_list = factors != scaling.end() && factors->is_array() && !factors->empty();
  if (!is_list || !std::ranges::all_of(*factors, [](const json& factor) { return factor.is_number(); })) {
    return Error(Reason::kConfigurationInvalid,
                 fmt::format("config.json: longrope's {} is not a list of numbers", name));
  }
  return ordered_json(*factors);
}

// Those that transformers has defaults for get these.
absl::Status ReadYarn(const json& scaling, Rope& rope) {
  JsonFields fields(scaling, "config.json's rope scaling");
  const std::string type = fields.Text({"rope_type", "type"}).value_or("default");
  SLIPWAY_RETURN_IF_ERROR(fields.status());
  const auto truncates = fields.Flag({"truncate"});
  if (type == "default" && fields.Number({"factor"}).value_or(1) == 1) {
    return fields.status();
  }
  if (fields.Number({"attention_factor"}) || !truncates.value_or(true)) {
    return Error(Reason::kOptionUnsupported,
                 "TensorRT-LLM's latent attention has no attention_factor or truncate of its own in yarn rope scaling; "
                 "--target huggingface keeps them");
  }
  if (type != "yarn") {
    return Error(Reason::kOptionUnsupported,
                 fmt::format("TensorRT-LLM's latent attention scales rotary positions by yarn, not by {}; --target "
                             "huggingface keeps it",
                             type.substr(0, 100)));
  }
  constexpr double kBetaFast = 32;
  rope.scaling = {{"beta_fast", fields.Number({"beta_fast"}).value_or(kBetaFast)},
                  {"beta_slow", fields.Number({"beta_slow"}).value_or(1)},
                  {"factor", fields.Number({"factor"}).value_or(0)},
                  {"mscale", fields.Number({"mscale"}).value_or(1)},
                  {"mscale_all_dim", fields.Number({"mscale_all_dim"}).value_or(0)},
                  {"original_max_position_embeddings", fields.Size({"original_max_position_embeddings"}).value_or(0)},
                  {"type", "yarn"}};
  SLIPWAY_RETURN_IF_ERROR(fields.status());
  return rope.scaling["factor"] > 0 && rope.scaling["original_max_position_embeddings"] > 0
             ? absl::OkStatus()
             : Error(Reason::kConfigurationInvalid,
                     "config.json: yarn rope scaling needs a factor above 0 and original_max_position_embeddings");
}

absl::Status ReadScaling(const json& scaling, Rope& rope) {
  JsonFields fields(scaling, "config.json's rope scaling");
  const std::string type = fields.Text({"rope_type", "type"}).value_or("default");
  SLIPWAY_RETURN_IF_ERROR(fields.status());
  if (type == "longrope" || type == "su") {
    SLIPWAY_ASSIGN_OR_RETURN(rope.long_rope["short_factor"], Factors(scaling, "short_factor"));
    SLIPWAY_ASSIGN_OR_RETURN(rope.long_rope["long_factor"], Factors(scaling, "long_factor"));
    return absl::OkStatus();
  }
  if (type == "default") {
    return absl::OkStatus();
  }
  if (type != "linear" && type != "llama3") {
    return Error(Reason::kOptionUnsupported,
                 fmt::format("TensorRT-LLM's engines scale rotary positions by linear or llama3, not by {}; --target "
                             "huggingface keeps it",
                             type.substr(0, 100)));
  }
  // Versions differ in which of the two names they read.
  rope.scaling = {{"type", type}, {"rope_type", type}};
  for (const char* name : kScalingFields) {
    if (fields.Number({name})) {
      rope.scaling[name] = scaling[name];
    }
  }
  SLIPWAY_RETURN_IF_ERROR(fields.status());
  const std::size_t needed = type == "llama3" ? kScalingFields.size() : 1;
  for (const char* name : std::span(kScalingFields).first(needed)) {
    if (!rope.scaling.contains(name)) {
      return Error(Reason::kConfigurationInvalid, fmt::format("config.json: {} rope scaling lacks {}", type, name));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Rope> ReadRope(const json& config, bool is_latent) {
  for (const char* name : {"rope_parameters", "rope_scaling"}) {
    SLIPWAY_RETURN_IF_ERROR(CheckIsObject(config, name));
  }
  const Parameters parameters = ParametersOf(config);
  const json nothing = json::object();
  JsonFields top(config, "config.json");
  JsonFields all(parameters.all.is_null() ? nothing : parameters.all, "config.json's rope_parameters");
  JsonFields local(parameters.local.is_null() ? nothing : parameters.local, "config.json's rope_parameters");

  Rope rope;
  const auto inner_base = all.Number({"rope_theta"});
  rope.base = top.Number({"rope_theta", "rotary_emb_base"}).value_or(inner_base.value_or(rope.base));
  const auto inner_fraction = all.Number({"partial_rotary_factor"});
  rope.fraction = top.Number({"partial_rotary_factor", "rotary_pct"}).value_or(inner_fraction.value_or(rope.fraction));
  const auto inner_local_base = local.Number({"rope_theta"});
  rope.local_base = top.Number({"rope_local_base_freq"});
  rope.local_base = rope.local_base ? rope.local_base : inner_local_base;
  for (const JsonFields* fields : {&top, &all, &local}) {
    SLIPWAY_RETURN_IF_ERROR(fields->status());
  }
  if (rope.base <= 0 || rope.fraction <= 0 || rope.fraction > 1) {
    return Error(
        Reason::kConfigurationInvalid,
        fmt::format("config.json: rotary positions over {} of each head with base {}", rope.fraction, rope.base));
  }
  const json scaling = ObjectOf(config, "rope_scaling");
  const json& stated = scaling.is_null() ? parameters.all : scaling;
  if (!stated.is_null()) {
    SLIPWAY_RETURN_IF_ERROR(is_latent ? ReadYarn(stated, rope) : ReadScaling(stated, rope));
  }
  return rope;
}

}  // namespace slipway::engine::tensorrt_llm
