// What ends up where, against the formulas of the formats, element by element.
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "common/error.h"
#include "tests/worker/engine/plan/model_checkpoint.h"
#include "worker/engine/plan/make_plan.h"

namespace slipway::engine {
namespace {

using test::MakeCheckpoint;
using test::TinyModel;

using Element = std::pair<std::string, std::int64_t>;  // stored tensor, row-major index

std::shared_ptr<const ExportPlan> PlanOf(const TinyModel& model) {
  auto plan = MakePlanOf(MakeCheckpoint(model), test::OptionsWith<&ExportOptions::checkpoint>("checkpoint"));
  EXPECT_TRUE(plan.ok()) << Describe(plan.status());
  return plan.ok() ? *plan : nullptr;
}

// The elements that an output tensor is made of, in its order, found by walking its regions one element at a time.
std::vector<Element> ElementsOf(const ExportPlan& plan, const std::string& name) {
  std::vector<Element> elements;
  for (const OutputTensor& output : plan.tensors) {
    if (output.name != name) {
      continue;
    }
    for (const SourceRegion& region : output.regions) {
      const StoredTensor& stored = plan.checkpoint->tensors.at(static_cast<std::size_t>(region.tensor));
      std::int64_t volume = 1;
      for (const std::int64_t size : region.sizes) {
        volume *= size;
      }
      for (std::int64_t i = 0; i < volume; ++i) {
        std::int64_t rest = i;
        std::int64_t index = 0;
        std::int64_t stride = 1;
        for (std::size_t axis = stored.shape.size(); axis-- > 0;) {
          index += (region.offsets[axis] + rest % region.sizes[axis]) * stride;
          rest /= region.sizes[axis];
          stride *= stored.shape[axis];
        }
        elements.emplace_back(stored.name, index);
      }
    }
  }
  return elements;
}

// Rows of a stored tensor of width `width`, of layer `layer` where layers are stacked.
std::vector<Element> Rows(const std::string& name, const std::vector<std::int64_t>& rows, std::int64_t width,
                          std::int64_t layer_offset = 0) {
  std::vector<Element> elements;
  for (const std::int64_t row : rows) {
    for (std::int64_t column = 0; column < width; ++column) {
      elements.emplace_back(name, layer_offset + row * width + column);
    }
  }
  return elements;
}

// Row of query head h, dimension d in linear_qkv: ((h div n)(n + 2) + h mod n) D + d; likewise keys and values.
struct QkvFormula {
  std::int64_t n, dimension;
  [[nodiscard]] std::int64_t Query(std::int64_t h, std::int64_t d) const {
    return ((h / n) * (n + 2) + h % n) * dimension + d;
  }
  [[nodiscard]] std::int64_t Key(std::int64_t g, std::int64_t d) const { return (g * (n + 2) + n) * dimension + d; }
  [[nodiscard]] std::int64_t Value(std::int64_t g, std::int64_t d) const {
    return (g * (n + 2) + n + 1) * dimension + d;
  }
};

TEST(PlanMapping, QueriesKeysAndValuesOfRandomHeadCountsComeFromTheRowsOfTheFormula) {
  std::mt19937 random(20260822);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same cases every time
  for (int round = 0; round < 60; ++round) {
    TinyModel m;
    m.groups = static_cast<std::int64_t>(random() % 5 + 1);
    const auto n = static_cast<std::int64_t>(random() % 6 + 1);
    m.heads = m.groups * n;
    m.dimension = static_cast<std::int64_t>(random() % 9 + 1);
    m.hidden = static_cast<std::int64_t>(random() % 7 + 1);
    m.layers = static_cast<std::int64_t>(random() % 3 + 1);
    m.stacked = random() % 2 == 0;
    m.qkv_bias = random() % 2 == 0;
    const auto plan = PlanOf(m);
    ASSERT_NE(plan, nullptr);
    const QkvFormula formula{n, m.dimension};
    std::vector<std::int64_t> q, k, v;
    for (std::int64_t d = 0; d < m.heads * m.dimension; ++d) {
      q.push_back(formula.Query(d / m.dimension, d % m.dimension));
    }
    for (std::int64_t d = 0; d < m.groups * m.dimension; ++d) {
      k.push_back(formula.Key(d / m.dimension, d % m.dimension));
      v.push_back(formula.Value(d / m.dimension, d % m.dimension));
    }
    const std::int64_t rows = (m.heads + 2 * m.groups) * m.dimension;
    for (std::int64_t layer = 0; layer < m.layers; ++layer) {
      const std::string number = std::to_string(layer);
      const std::string source = "decoder.layers." + (m.stacked ? "" : number + ".") + "self_attention.linear_qkv.";
      const std::string target = "model.layers." + number + ".self_attn.";
      const std::int64_t weight_offset = m.stacked ? layer * rows * m.hidden : 0;
      const std::int64_t bias_offset = m.stacked ? layer * rows : 0;
      for (const auto& [letter, wanted] : {std::pair("q", &q), std::pair("k", &k), std::pair("v", &v)}) {
        EXPECT_EQ(ElementsOf(*plan, target + letter + "_proj.weight"),
                  Rows(source + "weight", *wanted, m.hidden, weight_offset));
        if (m.qkv_bias) {
          EXPECT_EQ(ElementsOf(*plan, target + letter + "_proj.bias"), Rows(source + "bias", *wanted, 1, bias_offset));
        }
      }
    }
  }
}

std::vector<std::int64_t> Range(std::int64_t begin, std::int64_t count) {
  std::vector<std::int64_t> range;
  for (std::int64_t i = 0; i < count; ++i) {
    range.push_back(begin + i);
  }
  return range;
}

TEST(PlanMapping, GateIsTheFirstHalfOfTheGatedLayerAndUpTheSecond) {
  TinyModel m;
  const auto plan = PlanOf(m);
  ASSERT_NE(plan, nullptr);
  const std::string source = "decoder.layers.mlp.linear_fc1.weight";
  for (std::int64_t layer = 0; layer < m.layers; ++layer) {
    const std::string target = "model.layers." + std::to_string(layer) + ".mlp.";
    const std::int64_t offset = layer * 2 * m.ffn * m.hidden;
    EXPECT_EQ(ElementsOf(*plan, target + "gate_proj.weight"), Rows(source, Range(0, m.ffn), m.hidden, offset));
    EXPECT_EQ(ElementsOf(*plan, target + "up_proj.weight"), Rows(source, Range(m.ffn, m.ffn), m.hidden, offset));
  }
}

TEST(PlanMapping, GateAndUpThatAreStoredApartAreTakenFromTheirOwnTensors) {
  TinyModel m;
  m.stacked = false;
  m.split_gate = true;
  const auto plan = PlanOf(m);
  ASSERT_NE(plan, nullptr);
  EXPECT_EQ(ElementsOf(*plan, "model.layers.1.mlp.gate_proj.weight"),
            Rows("decoder.layers.1.mlp.linear_fc1.weight_w", Range(0, m.ffn), m.hidden));
  EXPECT_EQ(ElementsOf(*plan, "model.layers.1.mlp.up_proj.weight"),
            Rows("decoder.layers.1.mlp.linear_fc1.weight_v", Range(0, m.ffn), m.hidden));
}

TEST(PlanMapping, PaddingRowsOfTheVocabularyAreDroppedAndStated) {
  TinyModel m;
  const auto plan = PlanOf(m);
  ASSERT_NE(plan, nullptr);
  EXPECT_EQ(ElementsOf(*plan, "model.embed_tokens.weight"),
            Rows("embedding.word_embeddings.weight", Range(0, m.vocabulary), m.hidden));
  EXPECT_EQ(ElementsOf(*plan, "lm_head.weight"), Rows("output_layer.weight", Range(0, m.vocabulary), m.hidden));
  ASSERT_EQ(plan->unused.size(), 2U);
  for (const UnusedRegion& unused : plan->unused) {
    EXPECT_EQ(unused.reason, "vocabulary padding");
    EXPECT_EQ(unused.region.offsets, (Shape{m.vocabulary, 0}));
    EXPECT_EQ(unused.region.sizes, (Shape{m.padded_vocabulary - m.vocabulary, m.hidden}));
  }
}

TEST(PlanMapping, ATiedModelHasNoHead) {
  TinyModel m;
  m.tied = true;
  const auto plan = PlanOf(m);
  ASSERT_NE(plan, nullptr);
  EXPECT_TRUE(ElementsOf(*plan, "lm_head.weight").empty());
  EXPECT_FALSE(ElementsOf(*plan, "model.embed_tokens.weight").empty());
}

TEST(PlanMapping, NormsAreCopiedUnderAnyOfTheirNames) {
  for (const bool fused : {true, false}) {
    TinyModel m;
    m.stacked = false;
    m.fused_norms = fused;
    const auto plan = PlanOf(m);
    ASSERT_NE(plan, nullptr);
    EXPECT_EQ(ElementsOf(*plan, "model.layers.1.input_layernorm.weight"),
              Rows(fused ? "decoder.layers.1.self_attention.linear_qkv.layer_norm_weight"
                         : "decoder.layers.1.input_layernorm.weight",
                   Range(0, m.hidden), 1));
    EXPECT_EQ(
        ElementsOf(*plan, "model.layers.1.post_attention_layernorm.weight"),
        Rows(fused ? "decoder.layers.1.mlp.linear_fc1.layer_norm_weight" : "decoder.layers.1.pre_mlp_layernorm.weight",
             Range(0, m.hidden), 1));
  }
}

TEST(PlanMapping, OneIsAddedToNormsThatAreStoredMinusOneAndToNothingElse) {
  TinyModel m;
  m.qk_norm = true;
  auto checkpoint = MakeCheckpoint(m);
  test::SetArgument(*checkpoint, "apply_layernorm_1p", true);
  const auto plan = MakePlanOf(checkpoint, test::OptionsWith<&ExportOptions::checkpoint>("checkpoint"));
  ASSERT_TRUE(plan.ok()) << Describe(plan.status());
  for (const OutputTensor& tensor : (*plan)->tensors) {
    EXPECT_EQ(tensor.transform.add_one, tensor.name.find("norm") != std::string::npos) << tensor.name;
  }
}

}  // namespace
}  // namespace slipway::engine
