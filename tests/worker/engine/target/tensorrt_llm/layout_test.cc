// The example that the format's description works through by hand: 4 layers, 4 heads of 16, 2 of keys and values, on 2
// ranks in each of 2 stages.
#include "worker/engine/target/tensorrt_llm/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "common/error.h"
#include "tests/worker/engine/target/tensorrt_llm/models.h"

namespace slipway::engine {

bool operator==(const MatrixPart& a, const MatrixPart& b) {
  return a.tensor == b.tensor && a.first_row == b.first_row && a.rows == b.rows && a.first_column == b.first_column &&
         a.columns == b.columns;
}

void PrintTo(const MatrixPart& part, std::ostream* out) {
  *out << part.tensor << " [" << part.first_row << " + " << part.rows << ", " << part.first_column << " + "
       << part.columns << "]";
}

namespace {

using test::Find;
using test::Llama;
using test::Mixtral;
using test::Ranks;
using ::testing::ElementsAre;

RankLayout LayoutOf(const HuggingFaceModel& model, const RankRequest& request) {
  absl::StatusOr<RankLayout> layout = TensorRtLlmLayout(model, request);
  EXPECT_TRUE(layout.ok()) << Describe(layout.status());
  return layout.ok() ? *std::move(layout) : RankLayout{};
}

std::int64_t Elements(const RankFile& file) {
  std::int64_t elements = 0;
  for (const RankTensor& tensor : file.tensors) {
    elements += std::accumulate(tensor.shape.begin(), tensor.shape.end(), std::int64_t{1}, std::multiplies<>());
  }
  return elements;
}

const RankRequest kTwoByTwo = Ranks(2, 2);

TEST(TensorRtLlmLayout, AFileARankWithTheStagesLayersNumberedFromZero) {
  const RankLayout layout = LayoutOf(Llama(), kTwoByTwo);
  ASSERT_EQ(layout.files.size(), 4);
  EXPECT_EQ(layout.files[3].file, "rank3.safetensors");
  EXPECT_EQ(layout.files[0].tensors.size(), 15);
  EXPECT_EQ(layout.files[1].tensors.size(), 15);
  EXPECT_EQ(layout.files[2].tensors.size(), 16);
  EXPECT_EQ(layout.files[3].tensors.size(), 16);
  EXPECT_EQ(Elements(layout.files[0]), 53504);
  EXPECT_EQ(Elements(layout.files[3]), 45376);
  EXPECT_NE(Find(layout.files[0], "transformer.vocab_embedding.weight"), nullptr);
  EXPECT_EQ(Find(layout.files[2], "transformer.vocab_embedding.weight"), nullptr);
  EXPECT_EQ(Find(layout.files[1], "transformer.ln_f.weight"), nullptr);
  EXPECT_EQ(Find(layout.files[3], "transformer.layers.2.mlp.fc.weight"), nullptr);
  EXPECT_TRUE(layout.left_out.empty());
  EXPECT_TRUE(layout.warnings.empty());
}

TEST(TensorRtLlmLayout, ARankTakesItsHeadsRowsAndColumnsOfTheGlobalLayer) {
  const RankLayout layout = LayoutOf(Llama(), kTwoByTwo);
  ASSERT_EQ(layout.files.size(), 4);
  const auto parts = [&](const char* name) { return Find(layout.files[3], name)->parts; };
  EXPECT_THAT(parts("transformer.layers.1.attention.qkv.weight"),
              ElementsAre(MatrixPart{"model.layers.3.self_attn.q_proj.weight", 32, 32, 0, 64},
                          MatrixPart{"model.layers.3.self_attn.k_proj.weight", 16, 16, 0, 64},
                          MatrixPart{"model.layers.3.self_attn.v_proj.weight", 16, 16, 0, 64}));
  EXPECT_THAT(parts("transformer.layers.1.attention.dense.weight"),
              ElementsAre(MatrixPart{"model.layers.3.self_attn.o_proj.weight", 0, 64, 32, 32}));
  EXPECT_THAT(parts("transformer.layers.1.mlp.fc.weight"),
              ElementsAre(MatrixPart{"model.layers.3.mlp.gate_proj.weight", 64, 64, 0, 64}));
  EXPECT_THAT(parts("transformer.layers.1.mlp.gate.weight"),
              ElementsAre(MatrixPart{"model.layers.3.mlp.up_proj.weight", 64, 64, 0, 64}));
  EXPECT_THAT(parts("transformer.layers.1.mlp.proj.weight"),
              ElementsAre(MatrixPart{"model.layers.3.mlp.down_proj.weight", 0, 64, 64, 64}));
  EXPECT_THAT(parts("transformer.layers.1.input_layernorm.weight"),
              ElementsAre(MatrixPart{"model.layers.3.input_layernorm.weight", 0, 64, 0, 1}));
  EXPECT_THAT(parts("lm_head.weight"), ElementsAre(MatrixPart{"lm_head.weight", 128, 128, 0, 64}));
  EXPECT_EQ(Find(layout.files[3], "transformer.layers.1.attention.qkv.weight")->shape, (Shape{64, 64}));
  EXPECT_EQ(Find(layout.files[3], "transformer.layers.1.attention.dense.weight")->shape, (Shape{64, 32}));
  EXPECT_EQ(Find(layout.files[3], "transformer.layers.1.input_layernorm.weight")->shape, (Shape{64}));
}

TEST(TensorRtLlmLayout, AHeadOfKeysIsRepeatedForRanksThatFollowEachOther) {
  for (const std::int64_t key_value_heads : {1, 2}) {
    const RankLayout layout = LayoutOf(Llama(2, 256, key_value_heads), Ranks(4));
    ASSERT_EQ(layout.files.size(), 4);
    for (std::int64_t rank = 0; rank < 4; ++rank) {
      const std::int64_t head = rank * key_value_heads / 4;
      EXPECT_THAT(Find(layout.files[rank], "transformer.layers.0.attention.qkv.weight")->parts,
                  ElementsAre(MatrixPart{"model.layers.0.self_attn.q_proj.weight", 16 * rank, 16, 0, 64},
                              MatrixPart{"model.layers.0.self_attn.k_proj.weight", 16 * head, 16, 0, 64},
                              MatrixPart{"model.layers.0.self_attn.v_proj.weight", 16 * head, 16, 0, 64}));
    }
  }
}

TEST(TensorRtLlmLayout, TheHeadIsPaddedWithZerosAndTheEmbeddingsAreNot) {
  const RankLayout layout = LayoutOf(Llama(2, 255), Ranks(2));
  ASSERT_EQ(layout.files.size(), 2);
  EXPECT_EQ(Find(layout.files[1], "transformer.vocab_embedding.weight")->shape, (Shape{255, 64}));
  const RankTensor* head = Find(layout.files[1], "lm_head.weight");
  EXPECT_EQ(head->shape, (Shape{128, 64}));
  EXPECT_THAT(head->parts, ElementsAre(MatrixPart{"lm_head.weight", 128, 127, 0, 64}, MatrixPart{"", 0, 1, 0, 64}));
}

TEST(TensorRtLlmLayout, ARankBehindTheVocabularyHasZerosAlone) {
  const RankLayout layout = LayoutOf(Llama(2, 5), Ranks(4));
  ASSERT_EQ(layout.files.size(), 4);
  EXPECT_THAT(Find(layout.files[2], "lm_head.weight")->parts,
              ElementsAre(MatrixPart{"lm_head.weight", 4, 1, 0, 64}, MatrixPart{"", 0, 1, 0, 64}));
  EXPECT_THAT(Find(layout.files[3], "lm_head.weight")->parts, ElementsAre(MatrixPart{"", 0, 2, 0, 64}));
}

TEST(TensorRtLlmLayout, TiedEmbeddingsAreWrittenAsHeadToo) {
  HuggingFaceModel model = Llama(2);
  model.config["tie_word_embeddings"] = true;
  model.tensors.erase("lm_head.weight");
  const RankLayout layout = LayoutOf(model, Ranks(2));
  ASSERT_EQ(layout.files.size(), 2);
  EXPECT_THAT(Find(layout.files[1], "lm_head.weight")->parts,
              ElementsAre(MatrixPart{"model.embed_tokens.weight", 128, 128, 0, 64}));
  EXPECT_TRUE(layout.left_out.empty());
}

TEST(TensorRtLlmLayout, AHeadThatIsStoredIsTheHeadWhateverConfigJsonSays) {
  HuggingFaceModel model = Llama(2);
  model.config["tie_word_embeddings"] = true;
  const RankLayout layout = LayoutOf(model, Ranks(2));
  ASSERT_EQ(layout.files.size(), 2);
  EXPECT_THAT(Find(layout.files[1], "lm_head.weight")->parts,
              ElementsAre(MatrixPart{"lm_head.weight", 128, 128, 0, 64}));
  EXPECT_THAT(layout.warnings, ElementsAre(testing::HasSubstr("says that embeddings are tied, but lm_head.weight")));
}

TEST(TensorRtLlmLayout, ExpertsLieUpAboveGateAndAreCutOrDealtOut) {
  const RankLayout cut = LayoutOf(Mixtral(), Ranks(2));
  ASSERT_EQ(cut.files.size(), 2);
  const RankTensor* fc = Find(cut.files[1], "transformer.layers.0.mlp.fc.weight");
  EXPECT_EQ(fc->shape, (Shape{4, 128, 64}));
  EXPECT_EQ(fc->parts[0], (MatrixPart{"model.layers.0.block_sparse_moe.experts.0.w3.weight", 64, 64, 0, 64}));
  EXPECT_EQ(fc->parts[1], (MatrixPart{"model.layers.0.block_sparse_moe.experts.0.w1.weight", 64, 64, 0, 64}));
  EXPECT_EQ(Find(cut.files[1], "transformer.layers.0.mlp.proj.weight")->shape, (Shape{4, 64, 64}));
  EXPECT_EQ(Find(cut.files[1], "transformer.layers.0.mlp.gate.weight"), nullptr);

  const RankLayout dealt = LayoutOf(Mixtral(), Ranks(2, 1, 2));
  ASSERT_EQ(dealt.files.size(), 2);
  fc = Find(dealt.files[1], "transformer.layers.0.mlp.fc.weight");
  EXPECT_EQ(fc->shape, (Shape{2, 256, 64}));
  EXPECT_EQ(fc->parts[0], (MatrixPart{"model.layers.0.block_sparse_moe.experts.2.w3.weight", 0, 128, 0, 64}));
  EXPECT_EQ(Find(dealt.files[1], "transformer.layers.0.mlp.proj.weight")->shape, (Shape{2, 64, 128}));
}

TEST(TensorRtLlmLayout, RoutersAreInFp32AndAllElseInTheModelsDtype) {
  const RankLayout layout = LayoutOf(Mixtral(), {});
  ASSERT_EQ(layout.files.size(), 1);
  for (const RankTensor& tensor : layout.files[0].tensors) {
    EXPECT_EQ(tensor.dtype, tensor.name.find("router") == std::string::npos ? DType::kBF16 : DType::kF32)
        << tensor.name;
  }
}

TEST(TensorRtLlmLayout, FromVersionOneOnTheFirstStagesMayHaveALayerMore) {
  const RankLayout layout = LayoutOf(Llama(5), Ranks(1, 3, 1, "1.0"));
  ASSERT_EQ(layout.files.size(), 3);
  EXPECT_THAT(Find(layout.files[1], "transformer.layers.1.input_layernorm.weight")->parts,
              ElementsAre(MatrixPart{"model.layers.3.input_layernorm.weight", 0, 64, 0, 1}));
  EXPECT_THAT(Find(layout.files[2], "transformer.layers.0.input_layernorm.weight")->parts,
              ElementsAre(MatrixPart{"model.layers.4.input_layernorm.weight", 0, 64, 0, 1}));
  EXPECT_EQ(Find(layout.files[2], "transformer.layers.1.input_layernorm.weight"), nullptr);
}

TEST(TensorRtLlmLayout, WhatCanBeComputedIsLeftOut) {
  HuggingFaceModel model = Llama(1);
  model.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {{8}, DType::kF32};
  const RankLayout layout = LayoutOf(model, {});
  ASSERT_EQ(layout.left_out.size(), 1);
  EXPECT_EQ(layout.left_out[0].tensor, "model.layers.0.self_attn.rotary_emb.inv_freq");
}

TEST(TensorRtLlmLayout, WhatIsRoundedIsNamed) {
  HuggingFaceModel model = Llama(1);
  model.tensors["model.norm.weight"].dtype = DType::kF32;
  const RankLayout layout = LayoutOf(model, {});
  ASSERT_EQ(layout.warnings.size(), 1);
  EXPECT_TRUE(layout.warnings[0].starts_with("model.norm.weight"));
  EXPECT_EQ(Find(layout.files[0], "transformer.ln_f.weight")->dtype, DType::kBF16);
}

// By hand: the second of two ranks has heads 2 and 3, of 10 rows each in queries and 14 in keys and values.
TEST(TensorRtLlmLayout, LatentAttentionIsSharedOutByHeadsAndMultipliedOut) {
  const RankLayout layout = LayoutOf(test::DeepseekV2(), Ranks(2));
  const std::string query = "model.layers.1.self_attn.q_b_proj.weight";
  const std::string both = "model.layers.1.self_attn.kv_b_proj.weight";
  const RankFile& file = layout.files[1];
  EXPECT_THAT(Find(file, "transformer.layers.1.attention.fused_a.weight")->parts,
              ElementsAre(MatrixPart{"model.layers.1.self_attn.q_a_proj.weight", 0, 14, 0, 64},
                          MatrixPart{"model.layers.1.self_attn.kv_a_proj_with_mqa.weight", 0, 14, 0, 64}));
  EXPECT_THAT(Find(file, "transformer.layers.1.attention.q_b_proj")->parts,
              ElementsAre(MatrixPart{query, 20, 20, 0, 14}));
  EXPECT_THAT(Find(file, "transformer.layers.1.attention.kv_b_proj")->parts,
              ElementsAre(MatrixPart{both, 28, 6, 0, 10}, MatrixPart{both, 42, 6, 0, 10},
                          MatrixPart{both, 34, 8, 0, 10}, MatrixPart{both, 48, 8, 0, 10}));
  const RankTensor& fused = *Find(file, "transformer.layers.1.attention.fused_q_proj");
  EXPECT_EQ(fused.shape, (Shape{28, 14}));
  EXPECT_THAT(fused.parts, ElementsAre(MatrixPart{"", 0, 10, 0, 14}, MatrixPart{query, 26, 4, 0, 14},
                                       MatrixPart{"", 0, 10, 0, 14}, MatrixPart{query, 36, 4, 0, 14}));
  ASSERT_EQ(fused.products.size(), 2);
  EXPECT_EQ(fused.products[1].transposed, (MatrixPart{both, 42, 6, 0, 10}));
  EXPECT_EQ(fused.products[1].matrix, (MatrixPart{query, 30, 6, 0, 14}));
}

TEST(TensorRtLlmLayout, QueriesThatAreNotCompressedAreMultipliedOutOfQProj) {
  const RankLayout layout = LayoutOf(test::DeepseekV2(0), Ranks(1));
  EXPECT_EQ(Find(layout.files[0], "transformer.layers.0.attention.fused_a.weight")->shape, (Shape{14, 64}));
  EXPECT_EQ(Find(layout.files[0], "transformer.layers.0.attention.fused_q_proj")->shape, (Shape{56, 64}));
  EXPECT_TRUE(std::ranges::none_of(
      layout.files[0].tensors, [](const RankTensor& tensor) { return tensor.name.ends_with("q_a_layernorm.weight"); }));
}

}  // namespace
}  // namespace slipway::engine
