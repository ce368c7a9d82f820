// What vLLM and SGLang could not load is refused before anything is written, by name and with what would work.
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/worker/engine/target/sharded_state_goldens.h"
#include "worker/engine/target/sharded_state/sharded_state.h"

namespace slipway::engine {
namespace {

using test::Llama;
using test::Ranks;
using test::ReadGolden;
using testing::HasSubstr;

struct Refusal {
  const char* what;
  Reason reason;
  const char* says;
  std::function<void(HuggingFaceModel&, RankRequest&)> change;
};

void ExpectRefusals(const std::vector<Refusal>& refusals, const HuggingFaceModel& model) {
  for (const auto& [what, reason, says, change] : refusals) {
    HuggingFaceModel changed = model;
    RankRequest request = Ranks(2);
    change(changed, request);
    const absl::Status status = VllmShardedLayout(changed, request).status();
    EXPECT_EQ(ReasonOf(status), reason) << what << ": " << Describe(status);
    EXPECT_THAT(Describe(status), HasSubstr(says)) << what;
  }
}

TEST(VllmSharded, RanksThatTheModelCannotBeSplitOverAreRefusedWithWhatWorks) {
  ExpectRefusals(
      {
          {"heads", Reason::kOptionUnsupported,
           "--tensor-parallel 3 does not divide the 4 attention heads; what works is 1, 2, 4",
           [](auto&, RankRequest& request) { request.tensor_parallel = 3; }},
          {"groups", Reason::kOptionUnsupported, "neither divides the 3 key and value heads",
           [](HuggingFaceModel& model, auto&) { model.config["num_key_value_heads"] = 3; }},
          {"ffn", Reason::kOptionUnsupported, "feed-forward size 255",
           [](HuggingFaceModel& model, auto&) { model.config["intermediate_size"] = 255; }},
          {"stages", Reason::kOptionUnsupported, "--pipeline-parallel 3 is more than the 2 layers",
           [](auto&, RankRequest& request) { request.pipeline_parallel = 3; }},
          {"experts", Reason::kOptionUnsupported, "leave out --expert-parallel",
           [](auto&, RankRequest& request) { request.expert_parallel = 2; }},
          {"too many", Reason::kInvalidArgument, "1025",
           [](auto&, RankRequest& request) { request.tensor_parallel = 1025; }},
          {"none", Reason::kInvalidArgument, "0", [](auto&, RankRequest& request) { request.tensor_parallel = 0; }},
      },
      Llama());
  RankRequest stages = Ranks(1, 2);
  EXPECT_EQ(ReasonOf(SglangShardedLayout(Llama(), stages).status()), Reason::kOptionUnsupported);
}

TEST(VllmSharded, MoreRanksThanExpertsAreRefusedAsVllmDoes) {
  HuggingFaceModel model = ReadGolden("qwen3-moe_tp1").model;
  model.config["num_local_experts"] = 1;
  const absl::Status status = VllmShardedLayout(model, Ranks(2)).status();
  EXPECT_EQ(ReasonOf(status), Reason::kOptionUnsupported);
  EXPECT_THAT(Describe(status), HasSubstr("more than the 1 expert,"));
}

TEST(VllmSharded, ModelsThatItHasNoNamesForAreRefusedWithWhatWouldWork) {
  const auto quantize = [](HuggingFaceModel& model, auto&) {
    model.tensors["model.layers.1.mlp.up_proj.weight"].dtype = DType::kF8E4M3;
  };
  ExpectRefusals(
      {
          {"family", Reason::kArchitectureUnsupported, "--target huggingface",
           [](HuggingFaceModel& model, auto&) { model.architecture = "Gemma3ForCausalLM"; }},
          {"config", Reason::kOptionUnsupported, "--target huggingface",
           [](HuggingFaceModel& model, auto&) {
             model.config["quantization_config"] = {{"quant_method", "fp8"}};
           }},
          {"codes", Reason::kOptionUnsupported, "model.layers.1.mlp.up_proj.weight", quantize},
          {"unknown", Reason::kTensorUnknown, "model.layers.1.mlp.up_proj.bias",
           [](HuggingFaceModel& model, auto&) {
             model.tensors["model.layers.1.mlp.up_proj.bias"] = {{256}, DType::kBF16};
           }},
          {"missing", Reason::kTensorMissing, "model.layers.1.self_attn.k_proj.weight",
           [](HuggingFaceModel& model, auto&) { model.tensors.erase("model.layers.1.self_attn.k_proj.weight"); }},
          {"shape", Reason::kTensorShapeMismatch, "model.layers.1.mlp.down_proj.weight",
           [](HuggingFaceModel& model, auto&) {
             model.tensors["model.layers.1.mlp.down_proj.weight"].shape = {128, 255};
           }},
          {"dtypes", Reason::kCheckpointUnsupported, "model.layers.0.self_attn.k_proj.weight",
           [](HuggingFaceModel& model, auto&) {
             model.tensors["model.layers.0.self_attn.k_proj.weight"].dtype = DType::kF32;
           }},
      },
      Llama());
}

TEST(VllmSharded, SizesOfNonsenseAreRefusedBeforeAnythingIsMadeOfThem) {
  const auto set = [](const char* field, const nlohmann::ordered_json& value) {
    return [field, value](HuggingFaceModel& model, auto&) { model.config[field] = value; };
  };
  constexpr std::int64_t kHuge = std::int64_t{1} << 39;
  ExpectRefusals(
      {
          {"no sizes", Reason::kConfigurationInvalid, "num_hidden_layers",
           [](HuggingFaceModel& model, auto&) { model.config = nlohmann::ordered_json::object(); }},
          {"no object", Reason::kConfigurationInvalid, "num_hidden_layers",
           [](HuggingFaceModel& model, auto&) { model.config = nlohmann::ordered_json::array(); }},
          {"layers", Reason::kConfigurationInvalid, "num_hidden_layers", set("num_hidden_layers", kHuge)},
          {"negative", Reason::kConfigurationInvalid, "hidden_size", set("hidden_size", -128)},
          {"text", Reason::kConfigurationInvalid, "vocab_size", set("vocab_size", "1000")},
          {"2^64 - 1", Reason::kConfigurationInvalid, "vocab_size",
           set("vocab_size", std::numeric_limits<std::uint64_t>::max())},
          {"heads", Reason::kConfigurationInvalid, "heads", set("num_attention_heads", kHuge)},
          {"head size", Reason::kConfigurationInvalid, "head_dim", set("head_dim", kHuge)},
          {"no head", Reason::kConfigurationInvalid, "heads",
           [](HuggingFaceModel& model, auto&) {
             model.config.erase("head_dim");
             model.config["num_attention_heads"] = 256;
           }},
          {"vocabulary", Reason::kTensorShapeMismatch, "model.embed_tokens.weight", set("vocab_size", kHuge)},
          {"flag", Reason::kConfigurationInvalid, "tie_word_embeddings", set("tie_word_embeddings", 1)},
      },
      Llama());
  ExpectRefusals(
      {
          {"experts", Reason::kConfigurationInvalid, "num_local_experts", set("num_local_experts", kHuge)},
          {"dense layers", Reason::kConfigurationInvalid, "mlp_only_layers", set("mlp_only_layers", {1.5})},
          {"dense layer", Reason::kConfigurationInvalid, "mlp_only_layers", set("mlp_only_layers", 1)},
          {"parts", Reason::kLimitExceeded, "parts of tensors",
           [](HuggingFaceModel& model, auto&) {
             model.config["num_hidden_layers"] = 1000;
             model.config["num_local_experts"] = 1000;
           }},
      },
      ReadGolden("qwen3-moe_tp1").model);
}

}  // namespace
}  // namespace slipway::engine
