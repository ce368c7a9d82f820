#include "worker/engine/target/sharded_state/sharded_state.h"

#include <numeric>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/worker/engine/target/sharded_state_goldens.h"
#include "worker/engine/target/sharded_state/dimensions.h"

namespace slipway::engine {
namespace {

using nlohmann::json;
using test::Llama;
using test::Ranks;
using test::ReadGolden;
using test::ShardedStateGolden;
using testing::ElementsAre;
using testing::HasSubstr;

json ToJson(const RankTensor& tensor) {
  json entry{{"shape", std::vector<std::int64_t>(tensor.shape.begin(), tensor.shape.end())}};
  entry["dtype"] = tensor.dtype ? std::string(InfoOf(*tensor.dtype).safetensors_name) : "none";
  if (tensor.constant) {
    entry["constant"] = *tensor.constant;
    return entry;
  }
  for (const MatrixPart& part : tensor.parts) {
    entry["parts"].push_back({part.tensor, part.first_row, part.rows, part.first_column, part.columns});
  }
  return entry;
}

// As the goldens have them: {file: {tensor: ...}}.
json FilesOf(const RankLayout& layout) {
  json files;
  for (const RankFile& file : layout.files) {
    std::string name = file.file;
    name.replace(name.find("{part}"), 6, "0");
    for (const RankTensor& tensor : file.tensors) {
      EXPECT_FALSE(files[name].contains(tensor.name)) << tensor.name << " is there twice";
      files[name][tensor.name] = ToJson(tensor);
    }
  }
  return files;
}

std::vector<std::string> NamesOf(const RankFile& file) {
  std::vector<std::string> names;
  for (const RankTensor& tensor : file.tensors) {
    names.push_back(tensor.name);
  }
  return names;
}

const RankTensor& Find(const RankFile& file, const std::string& name) {
  static const RankTensor kNone;
  for (const RankTensor& tensor : file.tensors) {
    if (tensor.name == name) {
      return tensor;
    }
  }
  ADD_FAILURE() << file.file << " has no " << name;
  return kNone;
}

bool Has(const RankFile& file, const std::string& name) {
  return testing::Value(NamesOf(file), testing::Contains(name));
}

struct NamedGolden {
  const char* name;
  std::int64_t ranks;
};
constexpr NamedGolden kGoldens[] = {{"llama_tp1", 1},      {"llama_tp2", 2},     {"llama-tied_tp1", 1},
                                    {"llama-tied_tp2", 2}, {"qwen2_tp4", 4},     {"qwen3_tp2", 2},
                                    {"mixtral_tp2", 2},    {"qwen3-moe_tp1", 1}, {"qwen3-moe_tp2", 2}};

TEST(VllmSharded, RanksHoldTheRowsAndColumnsThatVllmSaved) {
  for (const auto& [name, ranks] : kGoldens) {
    const ShardedStateGolden golden = ReadGolden(name);
    const auto layout = VllmShardedLayout(golden.model, Ranks(ranks));
    ASSERT_TRUE(layout.ok()) << name << ": " << Describe(layout.status());
    const json files = FilesOf(*layout);
    EXPECT_EQ(files, golden.files) << name << json::diff(golden.files, files).dump(1).substr(0, 2000);
    EXPECT_TRUE(layout->left_out.empty());
  }
}

TEST(SglangSharded, IsTheSameUnderItsOwnNamesAndWithoutScalesOfAttention) {
  for (const auto& [name, ranks] : kGoldens) {
    const ShardedStateGolden golden = ReadGolden(name);
    json expected;
    for (const auto& [file, tensors] : golden.files.items()) {
      for (const auto& [tensor, entry] : tensors.items()) {
        std::string own = tensor;
        for (const auto& [from, to] : {std::pair(".experts.gate.", ".gate."), std::pair(".routed_experts.", ".")}) {
          if (const std::size_t at = own.find(from); at != std::string::npos) {
            own.replace(at, std::string(from).size(), to);
          }
        }
        if (own.find(".attn._") == std::string::npos) {
          expected[file][own] = entry;
        }
      }
    }
    const auto layout = SglangShardedLayout(golden.model, Ranks(ranks));
    ASSERT_TRUE(layout.ok()) << name << ": " << Describe(layout.status());
    EXPECT_EQ(FilesOf(*layout), expected) << name;
  }
}

TEST(VllmSharded, RanksBeyondTheKeyAndValueHeadsShareThem) {
  HuggingFaceModel model = Llama();  // 4 heads of 32, 2 of keys and values
  const RankLayout layout = VllmShardedLayout(model, Ranks(4)).value();
  for (std::int64_t rank = 0; rank < 4; ++rank) {
    const auto& parts =
        Find(layout.files[static_cast<std::size_t>(rank)], "model.layers.1.self_attn.qkv_proj.weight").parts;
    ASSERT_EQ(parts.size(), 3U);
    EXPECT_EQ(parts[0].first_row, rank * 32);
    for (const std::size_t key_or_value : {1U, 2U}) {
      EXPECT_EQ(parts[key_or_value].first_row, rank / 2 * 32);
      EXPECT_EQ(parts[key_or_value].rows, 32);
    }
  }
}

TEST(VllmSharded, BiasesFollowTheirRowsAndThoseOfDividedColumnsAreWholeOnEveryRank) {
  HuggingFaceModel model = Llama();
  model.config["attention_bias"] = true;
  model.config["mlp_bias"] = true;
  for (const int layer : {0, 1}) {
    for (const auto& [module, rows] :
         {std::pair("self_attn.q_proj", 128), std::pair("self_attn.k_proj", 64), std::pair("self_attn.v_proj", 64),
          std::pair("self_attn.o_proj", 128), std::pair("mlp.gate_proj", 256), std::pair("mlp.up_proj", 256),
          std::pair("mlp.down_proj", 128)}) {
      model.tensors[fmt::format("model.layers.{}.{}.bias", layer, module)] = {{rows}, DType::kBF16};
    }
  }
  const auto layout = VllmShardedLayout(model, Ranks(2));
  ASSERT_TRUE(layout.ok()) << Describe(layout.status());
  const RankFile& file = layout->files[1];
  const std::string layer = "model.layers.1.";
  EXPECT_EQ(ToJson(Find(file, layer + "self_attn.qkv_proj.bias"))["parts"],
            json({{layer + "self_attn.q_proj.bias", 64, 64, 0, 1},
                  {layer + "self_attn.k_proj.bias", 32, 32, 0, 1},
                  {layer + "self_attn.v_proj.bias", 32, 32, 0, 1}}));
  EXPECT_EQ(ToJson(Find(file, layer + "mlp.gate_up_proj.bias"))["parts"],
            json({{layer + "mlp.gate_proj.bias", 128, 128, 0, 1}, {layer + "mlp.up_proj.bias", 128, 128, 0, 1}}));
  for (const std::string whole : {"self_attn.o_proj.bias", "mlp.down_proj.bias"}) {
    EXPECT_EQ(ToJson(Find(file, layer + whole))["parts"], json::array({{layer + whole, 0, 128, 0, 1}}));
  }
  // SGLang's feed-forward layers have none.
  EXPECT_EQ(ReasonOf(SglangShardedLayout(model, Ranks(2)).status()), Reason::kTensorUnknown);
}

TEST(VllmSharded, StagesKeepTheNumbersOfLayersAndTheEndsHaveTheVocabulary) {
  const RankLayout layout = VllmShardedLayout(Llama(), Ranks(2, 2)).value();
  ASSERT_EQ(layout.files.size(), 4U);
  EXPECT_EQ(layout.files[1].file, "model-pp-0-tp-1-part-{part}.safetensors");
  EXPECT_EQ(layout.files[2].file, "model-pp-1-tp-0-part-{part}.safetensors");
  EXPECT_TRUE(Has(layout.files[1], "model.embed_tokens.weight"));
  EXPECT_TRUE(Has(layout.files[1], "model.layers.0.mlp.down_proj.weight"));
  EXPECT_FALSE(Has(layout.files[1], "lm_head.weight"));
  EXPECT_FALSE(Has(layout.files[1], "model.norm.weight"));
  EXPECT_FALSE(Has(layout.files[2], "model.embed_tokens.weight"));
  EXPECT_FALSE(Has(layout.files[2], "model.layers.0.mlp.down_proj.weight"));
  EXPECT_TRUE(Has(layout.files[2], "model.layers.1.mlp.down_proj.weight"));
  EXPECT_TRUE(Has(layout.files[2], "lm_head.weight"));
  EXPECT_TRUE(Has(layout.files[2], "model.norm.weight"));
}

TEST(VllmSharded, TheFirstAndTheLastOfSeveralStagesBothHaveATiedEmbedding) {
  const RankLayout layout = VllmShardedLayout(ReadGolden("llama-tied_tp1").model, Ranks(1, 2)).value();
  EXPECT_TRUE(Has(layout.files[0], "model.embed_tokens.weight"));
  EXPECT_FALSE(Has(layout.files[1], "model.embed_tokens.weight"));
  EXPECT_EQ(Find(layout.files[1], "lm_head.weight").parts.front().tensor, "model.embed_tokens.weight");
}

TEST(VllmSharded, FamiliesWithExpertsHaveBothEndsOnEveryStage) {
  for (const char* name : {"mixtral_tp2", "qwen3-moe_tp1"}) {
    HuggingFaceModel model = ReadGolden(name).model;
    const RankLayout layout = VllmShardedLayout(model, Ranks(1, 2)).value();
    for (const RankFile& file : layout.files) {
      for (const char* end : {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}) {
        EXPECT_TRUE(Has(file, end)) << name << " " << file.file << " " << end;
      }
    }
    model.config["tie_word_embeddings"] = true;
    model.tensors.erase("lm_head.weight");
    const RankLayout tied = VllmShardedLayout(model, Ranks(1, 2)).value();
    for (const RankFile& file : tied.files) {
      EXPECT_FALSE(Has(file, "model.embed_tokens.weight")) << name << " " << file.file;
      EXPECT_EQ(Find(file, "lm_head.weight").parts.front().tensor, "model.embed_tokens.weight");
    }
  }
}

TEST(VllmSharded, LayersThatRemainGoToTheStagesBeforeTheLast) {
  using sharded_state::LayersOfStages;
  EXPECT_THAT(LayersOfStages(8, 4), ElementsAre(2, 2, 2, 2));
  EXPECT_THAT(LayersOfStages(9, 4), ElementsAre(2, 2, 3, 2));
  EXPECT_THAT(LayersOfStages(11, 4), ElementsAre(3, 3, 3, 2));
  EXPECT_THAT(LayersOfStages(3, 2), ElementsAre(2, 1));
}

TEST(VllmSharded, AnOutputLayerThatIsStoredIsWrittenWhateverTheConfigSaysOfIt) {
  HuggingFaceModel model = Llama();
  model.config["tie_word_embeddings"] = true;
  const RankLayout layout = VllmShardedLayout(model, Ranks(1)).value();
  EXPECT_TRUE(Has(layout.files[0], "model.embed_tokens.weight"));
  EXPECT_EQ(Find(layout.files[0], "lm_head.weight").parts.front().tensor, "lm_head.weight");
  ASSERT_EQ(layout.texts.front().path, "config.json");
  auto expected = model.config;
  expected["tie_word_embeddings"] = false;
  EXPECT_EQ(nlohmann::ordered_json::parse(layout.texts.front().content), expected);
  EXPECT_THAT(layout.warnings.front(), HasSubstr("tie_word_embeddings"));
}

TEST(VllmSharded, DenseLayersAmongExpertsAreFusedAsInDenseModels) {
  HuggingFaceModel model = ReadGolden("qwen3-moe_tp2").model;
  model.config["mlp_only_layers"] = {0};
  std::erase_if(model.tensors, [](const auto& tensor) { return tensor.first.starts_with("model.layers.0.mlp."); });
  model.tensors["model.layers.0.mlp.gate_proj.weight"] = {{256, 128}, DType::kBF16};
  model.tensors["model.layers.0.mlp.up_proj.weight"] = {{256, 128}, DType::kBF16};
  model.tensors["model.layers.0.mlp.down_proj.weight"] = {{128, 256}, DType::kBF16};
  const auto layout = VllmShardedLayout(model, Ranks(2));
  ASSERT_TRUE(layout.ok()) << Describe(layout.status());
  EXPECT_EQ(Find(layout->files[0], "model.layers.0.mlp.gate_up_proj.weight").shape, Shape({256, 128}));
  EXPECT_EQ(Find(layout->files[0], "model.layers.1.mlp.experts.routed_experts.w13_weight").shape, Shape({4, 64, 128}));
}

TEST(VllmSharded, EveryTensorBeginsAtAMultipleOfItsElementsSize) {
  HuggingFaceModel model = Llama();
  model.tensors["model.layers.1.input_layernorm.weight"].dtype = DType::kF32;
  const RankLayout layout = VllmShardedLayout(model, Ranks(2)).value();
  for (const RankFile& file : layout.files) {
    std::int64_t offset = 0;
    for (const RankTensor& tensor : file.tensors) {
      const std::int64_t size = InfoOf(*tensor.dtype).bytes;
      EXPECT_EQ(offset % size, 0) << tensor.name;
      for (const std::int64_t extent : tensor.shape) {
        EXPECT_GT(extent, 0) << tensor.name;
      }
      offset += std::accumulate(tensor.shape.begin(), tensor.shape.end(), size, std::multiplies<>());
    }
  }
}

TEST(ShardedState, TheNoteSaysHowToServeTheDirectory) {
  const RankLayout vllm = VllmShardedLayout(Llama(), Ranks(2, 2)).value();
  ASSERT_EQ(vllm.texts.size(), 1U);
  EXPECT_EQ(vllm.texts[0].path, "slipway_sharded_state.json");
  EXPECT_EQ(json::parse(vllm.texts[0].content),
            json({{"load_format", "sharded_state"},
                  {"engine", "vllm"},
                  {"engine_version", "0.32"},
                  {"tensor_parallel", 2},
                  {"pipeline_parallel", 2},
                  {"layers_of_stages", {1, 1}},
                  {"files", "model-pp-{stage}-tp-{rank}-part-{part}.safetensors"},
                  {"serve",
                   "vllm serve DIRECTORY --load-format sharded_state --tensor-parallel-size 2 "
                   "--pipeline-parallel-size 2"}}));
  const RankLayout sglang = SglangShardedLayout(Llama(), Ranks(2)).value();
  EXPECT_EQ(json::parse(sglang.texts[0].content)["serve"],
            "python3 -m sglang.launch_server --model-path DIRECTORY --load-format sharded_state --tp 2");
  EXPECT_THAT(sglang.warnings.back(), HasSubstr("--tp 2"));
}

// With as many heads, each of one row, as ranks can divide.
HuggingFaceModel ManyHeads(std::int64_t heads) {
  HuggingFaceModel model = Llama();
  model.config["num_attention_heads"] = heads;
  model.config["num_key_value_heads"] = heads;
  model.config["head_dim"] = 1;
  model.config["intermediate_size"] = heads;
  for (auto& [name, tensor] : model.tensors) {
    const bool divided = name.find("_proj") != std::string::npos;
    if (divided && (name.find("o_proj") != std::string::npos || name.find("down_proj") != std::string::npos)) {
      tensor.shape = {128, heads};
    } else if (divided) {
      tensor.shape = {heads, 128};
    }
  }
  return model;
}

TEST(ShardedState, PaddingOfTheVocabularyGrowsWithSglangsRanksAndNotWithVllms) {
  const HuggingFaceModel model = ManyHeads(48);
  const auto vllm = VllmShardedLayout(model, Ranks(48));
  EXPECT_EQ(ReasonOf(vllm.status()), Reason::kOptionUnsupported);
  EXPECT_THAT(std::string(vllm.status().message()),
              testing::AllOf(HasSubstr("padded vocabulary of 1024"), HasSubstr("what works is 1, 2, 4, 8, 16")));
  const RankLayout sglang = SglangShardedLayout(model, Ranks(48)).value();
  // 1000 rows padded to 64 * 48 are 64 a rank: 15 ranks are full, one has 40 rows, the others none.
  EXPECT_EQ(ToJson(Find(sglang.files[15], "lm_head.weight"))["parts"],
            json({{"lm_head.weight", 960, 40, 0, 128}, {"", 0, 24, 0, 128}}));
  const RankTensor& padding = Find(sglang.files[47], "lm_head.weight");
  EXPECT_EQ(ToJson(padding)["parts"], json::array({{"", 0, 64, 0, 128}}));
  EXPECT_EQ(padding.dtype, DType::kBF16) << "zeros say nothing of their dtype";
}

TEST(ShardedState, BuffersThatEnginesComputeAreLeftOutByName) {
  HuggingFaceModel model = Llama();
  model.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {{16}, DType::kF32};
  const RankLayout layout = VllmShardedLayout(model, Ranks(1)).value();
  ASSERT_EQ(layout.left_out.size(), 1U);
  EXPECT_EQ(layout.left_out[0].tensor, "model.layers.0.self_attn.rotary_emb.inv_freq");
}

}  // namespace
}  // namespace slipway::engine
