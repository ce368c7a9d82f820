#include "worker/engine/plan/ragged_blocks.h"

#include <cstdint>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace slipway::engine {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

void Add(ExportPlan& plan, const std::string& module, std::int64_t rows, std::int64_t columns,
         Sharing sharing = Sharing::kSquare) {
  QuantizedWeight& weight = plan.quantized.emplace_back();
  weight.module = "model.layers.0." + module;
  weight.rows = rows;
  weight.columns = columns;
  weight.coding.sharing = sharing;
  weight.coding.group = 128;
}

TEST(RaggedBlocks, WholeBlocksAndALastPartsRowsNeedNoWarning) {
  ExportPlan plan;
  Add(plan, "self_attn.q_proj", 256, 128);
  Add(plan, "self_attn.k_proj", 128, 128);
  Add(plan, "self_attn.v_proj", 64, 128);
  Add(plan, "self_attn.o_proj", 200, 256);
  Add(plan, "mlp.up_proj", 128, 64, Sharing::kGroup);
  WarnOfRaggedBlocks(plan);
  EXPECT_THAT(plan.warnings, IsEmpty());
  EXPECT_EQ(KeptFromByRaggedBlocks(plan), 0);
}

TEST(RaggedBlocks, ColumnsAndRowsAboveASiblingAreNamed) {
  ExportPlan plan;
  Add(plan, "self_attn.q_proj", 576, 576);
  Add(plan, "self_attn.k_proj", 192, 576);
  Add(plan, "self_attn.v_proj", 192, 576);
  Add(plan, "mlp.down_proj", 576, 1536);
  WarnOfRaggedBlocks(plan);
  EXPECT_THAT(plan.warnings, ElementsAre(AllOf(HasSubstr("columns of 3 weights"),
                                               HasSubstr("model.layers.0.self_attn.q_proj [576, 576]")),
                                         AllOf(HasSubstr("rows of 2 weights"), HasSubstr("q_proj [576, 576]"))));
}

TEST(RaggedBlocks, WhoDoesNotLoadThemIsKnown) {
  ExportPlan rows;
  Add(rows, "mlp.gate_proj", 192, 128);
  Add(rows, "mlp.up_proj", 192, 128);
  EXPECT_EQ(KeptFromByRaggedBlocks(rows), kLoadsVllm | kLoadsSglang);
  ExportPlan columns;
  Add(columns, "mlp.down_proj", 128, 192);
  EXPECT_EQ(KeptFromByRaggedBlocks(columns), kLoadsVllm | kLoadsSglang | kLoadsTensorRtLlm | kLoadsTransformers);
}

}  // namespace
}  // namespace slipway::engine
