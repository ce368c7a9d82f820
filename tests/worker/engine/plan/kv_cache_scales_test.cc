#include "worker/engine/plan/kv_cache_scales.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "common/error.h"

namespace slipway::engine {
namespace {

ExportPlan PlanOf(std::initializer_list<const char*> weights) {
  ExportPlan plan;
  for (const char* name : weights) {
    plan.tensors.emplace_back().name = name;
  }
  return plan;
}

Ranges RangesOf(const std::string& attention, float keys, float values) {
  Ranges ranges{.origin = "--ranges r", .modules = {}, .attention = {}};
  ranges.attention[attention] = {.key_amax = keys, .value_amax = values, .format = {}};
  return ranges;
}

std::map<std::string, float> ScalesOf(const ExportPlan& plan) {
  std::map<std::string, float> scales;
  for (const OutputTensor& tensor : plan.tensors) {
    if (tensor.quantized && tensor.quantized->weight < 0) {
      EXPECT_EQ(tensor.bytes, 4);
      EXPECT_TRUE(tensor.shape.empty());
      scales[tensor.name] = tensor.quantized->constant;
    }
  }
  return scales;
}

TEST(KvCacheScales, AreUnderTheProjectionsForModelOptAndUnderTheAttentionForOthers) {
  const Ranges ranges = RangesOf("l.0.self_attn", 896, 112);
  for (const KvCache kind : {KvCache::kFp8, KvCache::kNvfp4}) {
    ExportPlan plan = PlanOf({"l.0.self_attn.q_proj.weight", "l.0.self_attn.k_proj.weight", "lm_head.weight"});
    ASSERT_TRUE(AddKvCacheScales(kind, ConfigForm::kModelOpt, &ranges, plan).ok());
    EXPECT_THAT(ScalesOf(plan), testing::ElementsAre(testing::Pair("l.0.self_attn.k_proj.k_scale", 2.0F),
                                                     testing::Pair("l.0.self_attn.v_proj.v_scale", 0.25F)));
  }
  ExportPlan plan = PlanOf({"l.0.self_attn.k_proj.weight"});
  ASSERT_TRUE(AddKvCacheScales(KvCache::kFp8, ConfigForm::kCompressedTensors, &ranges, plan).ok());
  EXPECT_THAT(ScalesOf(plan), testing::ElementsAre(testing::Pair("l.0.self_attn.k_scale", 2.0F),
                                                   testing::Pair("l.0.self_attn.v_scale", 0.25F)));
}

TEST(KvCacheScales, EveryAttentionOfTheTextModelHasThemWhetherItsWeightsAreQuantizedOrNot) {
  Ranges ranges = RangesOf("l.0.self_attn", 448, 448);
  ranges.attention["l.1.self_attn"] = {.key_amax = 448, .value_amax = 448, .format = {}};
  ExportPlan plan = PlanOf({"visual.blocks.0.attn.k_proj.weight", "l.0.self_attn.k_proj.weight", "codes"});
  plan.tensors[2].quantized = QuantizedPart{.weight = 0};
  plan.quantized.emplace_back().values.name = "l.1.self_attn.k_proj.weight";
  ASSERT_TRUE(AddKvCacheScales(KvCache::kFp8, ConfigForm::kModelOpt, &ranges, plan).ok());
  std::map<std::string, float> scales = ScalesOf(plan);
  scales.erase("codes");
  EXPECT_EQ(scales.size(), 4U);
}

TEST(KvCacheScales, AnAttentionWithoutRangesIsRefusedByName) {
  Ranges half = RangesOf("l.0.self_attn", 448, 448);
  half.attention["l.0.self_attn"].value_amax.reset();
  const Ranges other = RangesOf("l.1.self_attn", 448, 448);
  for (const Ranges* ranges : {static_cast<const Ranges*>(nullptr), &other, static_cast<const Ranges*>(&half)}) {
    ExportPlan plan = PlanOf({"l.0.self_attn.k_proj.weight"});
    const absl::Status refused = AddKvCacheScales(KvCache::kFp8, ConfigForm::kModelOpt, ranges, plan);
    EXPECT_EQ(ReasonOf(refused), Reason::kOptionUnsupported);
    EXPECT_EQ(WhereOf(refused).tensor, "l.0.self_attn");
  }
}

TEST(KvCacheScales, FormsThatCannotSayItAndModelsWithoutAttentionAreRefused) {
  const Ranges ranges = RangesOf("l.0.self_attn", 448, 448);
  ExportPlan plan = PlanOf({"l.0.self_attn.k_proj.weight"});
  EXPECT_FALSE(AddKvCacheScales(KvCache::kFp8, ConfigForm::kNative, &ranges, plan).ok());
  EXPECT_FALSE(AddKvCacheScales(KvCache::kNvfp4, ConfigForm::kCompressedTensors, &ranges, plan).ok());
  EXPECT_TRUE(AddKvCacheScales(KvCache::kNone, ConfigForm::kNative, nullptr, plan).ok());
  EXPECT_EQ(plan.tensors.size(), 1U);
  ExportPlan latent = PlanOf({"l.0.self_attn.kv_b_proj.weight"});
  EXPECT_FALSE(AddKvCacheScales(KvCache::kFp8, ConfigForm::kModelOpt, &ranges, latent).ok());
}

}  // namespace
}  // namespace slipway::engine
