#include "worker/engine/plan/rank_plan.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/worker/engine/plan/model_checkpoint.h"

namespace slipway::engine {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

// A matrix "m" [6, 4] that is the second of a stack of two, a vector "v" [4], and "t" [2, 3], stored transposed.
ExportPlan Source() {
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->tensors = {test::Stored("stack", DType::kBF16, {2, 6, 4}), test::Stored("v", DType::kBF16, {4}),
                         test::Stored("t", DType::kBF16, {3, 2})};
  ExportPlan plan;
  plan.checkpoint = checkpoint;
  plan.architecture = "LlamaForCausalLM";
  plan.texts = {{.path = "config.json", .content = "{}"}, {.path = "other.json", .content = "{}"}};
  const auto add = [&plan](const std::string& name, Shape shape, SourceRegion region) -> OutputTensor& {
    OutputTensor& tensor = plan.tensors.emplace_back();
    tensor.name = name;
    tensor.shape = std::move(shape);
    tensor.regions = {std::move(region)};
    return tensor;
  };
  add("m", {6, 4}, {.tensor = 0, .offsets = {1, 0, 0}, .sizes = {1, 6, 4}});
  add("v", {4}, {.tensor = 1, .offsets = {0}, .sizes = {4}});
  add("t", {2, 3}, {.tensor = 2, .offsets = {0, 0}, .sizes = {3, 2}}).permutation = {.view = {3, 2}, .order = {1, 0}};
  return plan;
}

RankTensor Tensor(std::string name, Shape shape, std::vector<MatrixPart> parts) {
  RankTensor tensor;
  tensor.name = std::move(name);
  tensor.shape = std::move(shape);
  tensor.parts = std::move(parts);
  return tensor;
}

// Two ranks: columns of m, all of v (twice), rows of t below zeros.
RankLayout TwoRanks() {
  RankLayout layout;
  for (std::int64_t rank = 0; rank < 2; ++rank) {
    RankFile file{.file = "rank" + std::to_string(rank), .tensors = {}};
    file.tensors = {
        Tensor("m", {6, 2}, {{"m", 0, 6, 2 * rank, 2}}), Tensor("v", {4}, {{"v", 0, 4, 0, 1}}),
        Tensor("t", {3, 2}, {{"t", rank == 0 ? 0 : 2, rank == 0 ? 2 : 1, 0, 2}, {"", 0, rank == 0 ? 1 : 2, 0, 2}}),
        Tensor("one", {}, {})};
    file.tensors[1].add_one = true;
    file.tensors[3].constant = 1.0F;
    layout.files.push_back(std::move(file));
  }
  return layout;
}

TEST(RankPlan, ASliceIsReadFromWhereItsRowsAndColumnsAre) {
  ExportPlan plan = Source();
  RankLayout layout = TwoRanks();
  layout.texts = {{.path = "config.json", .content = "{\"a\": 1}"}, {.path = "other.json", .content = ""}};
  const auto files = CutIntoRanks(layout, plan);
  ASSERT_TRUE(files.ok()) << Describe(files.status());
  EXPECT_EQ((*files)[1].name, "rank1");
  EXPECT_EQ((*files)[1].tensor_count, 4);
  ASSERT_THAT(plan.tensors, SizeIs(8));
  const OutputTensor& matrix = plan.tensors[4];
  ASSERT_THAT(matrix.regions, SizeIs(1));
  EXPECT_THAT(matrix.regions[0].offsets, ElementsAre(1, 0, 2));
  EXPECT_THAT(matrix.regions[0].sizes, ElementsAre(1, 6, 2));
  EXPECT_EQ(matrix.bytes, 24);
  EXPECT_TRUE(plan.tensors[5].transform.add_one);
  const OutputTensor& transposed = plan.tensors[6];
  ASSERT_THAT(transposed.regions, SizeIs(2));
  EXPECT_TRUE(transposed.permutation.IsNone());
  EXPECT_THAT(transposed.regions[0].offsets, ElementsAre(2, 0));
  EXPECT_EQ(transposed.regions[1].tensor, kZeros);
  EXPECT_THAT(transposed.regions[1].sizes, ElementsAre(2, 2));
  EXPECT_EQ(plan.tensors[7].quantized->constant, 1.0F);
  ASSERT_THAT(plan.texts, SizeIs(1));
  EXPECT_EQ(plan.texts[0].content, "{\"a\": 1}");
}

TEST(RankPlan, ARankMayHaveNothingButPadding) {
  ExportPlan plan = Source();
  RankLayout layout = TwoRanks();
  layout.files[1].tensors.push_back(Tensor("padding", {2, 4}, {{"", 0, 2, 0, 4}}));
  layout.files[1].tensors.back().dtype = DType::kF16;
  ASSERT_TRUE(CutIntoRanks(layout, plan).ok());
  EXPECT_EQ(plan.tensors.back().dtype, DType::kF16);
  EXPECT_EQ(plan.tensors.back().bytes, 16);
  EXPECT_TRUE(plan.tensors.back().transform.IsCopy());
}

TEST(RankPlan, WhatALayoutLosesDoublesOrInventsIsFound) {
  struct Case {
    const char* what;
    std::function<void(RankLayout&)> change;
    Reason reason;
    std::string tensor;
  };
  const auto first = [](RankLayout& layout, std::size_t tensor) -> RankTensor& {
    return layout.files[0].tensors[tensor];
  };
  const std::vector<Case> cases = {
      {"columns that no rank has", [&](RankLayout& l) { first(l, 0).parts[0].first_column = 2; },
       Reason::kTensorMissing, "m"},
      {"a tensor without a place",
       [](RankLayout& l) {
         for (RankFile& file : l.files) {
           file.tensors.erase(file.tensors.begin() + 1);
         }
       },
       Reason::kTensorUnknown, "v"},
      {"left out and there",
       [](RankLayout& l) {
         l.left_out = {{"v", "a reason"}};
       },
       Reason::kInternal, "v"},
      {"a name twice in a file", [&](RankLayout& l) { first(l, 1).name = "m"; }, Reason::kTensorDuplicated, "m"},
      {"rows beyond the tensor", [&](RankLayout& l) { first(l, 0).parts[0].first_row = 1; }, Reason::kInternal, "m"},
      {"a shape of other size",
       [&](RankLayout& l) {
         first(l, 0).shape = {6, 3};
       },
       Reason::kInternal, "m"},
      {"parts of other width", [&](RankLayout& l) { first(l, 2).parts[1].columns = 1; }, Reason::kInternal, "t"},
      {"a tensor that is not there", [&](RankLayout& l) { first(l, 0).parts[0].tensor = "x"; }, Reason::kTensorMissing,
       "x"},
      {"zeros of no dtype",
       [&](RankLayout& l) {
         l.files[0].tensors.push_back(Tensor("z", {1, 1}, {{"", 0, 1, 0, 1}}));
       },
       Reason::kInternal, "z"},
      {"several constants", [&](RankLayout& l) { first(l, 3).shape = {2}; }, Reason::kInternal, "one"},
  };
  for (const Case& wrong : cases) {
    ExportPlan plan = Source();
    RankLayout layout = TwoRanks();
    wrong.change(layout);
    const absl::Status status = CutIntoRanks(layout, plan).status();
    EXPECT_EQ(ReasonOf(status), wrong.reason) << wrong.what << ": " << Describe(status);
    EXPECT_EQ(WhereOf(status).tensor, wrong.tensor) << wrong.what << ": " << Describe(status);
  }
}

TEST(RankPlan, WhatIsLeftOutWithAReasonIsNotMissed) {
  ExportPlan plan = Source();
  RankLayout layout = TwoRanks();
  for (RankFile& file : layout.files) {
    file.tensors.erase(file.tensors.begin() + 1);
  }
  layout.left_out = {{"v", "the server makes it itself"}};
  EXPECT_TRUE(CutIntoRanks(layout, plan).ok());
}

TEST(RankPlan, AModelWithoutAnArchitectureHasNoRanks) {
  const absl::Status status = HuggingFaceModelOf(ExportPlan()).status();
  EXPECT_EQ(ReasonOf(status), Reason::kArchitectureUnsupported);
  EXPECT_NE(Describe(status).find("add architectures"), std::string::npos) << Describe(status);
}

TEST(RankPlan, WhatCannotBeCutIsRefusedByName) {
  ExportPlan adapted = Source();
  adapted.tensors[0].update.emplace();
  const absl::Status status = CutIntoRanks(TwoRanks(), adapted).status();
  EXPECT_EQ(ReasonOf(status), Reason::kCheckpointUnsupported) << Describe(status);
  EXPECT_EQ(WhereOf(status).tensor, "m");
  ExportPlan moved = Source();
  moved.tensors[0].permutation = {.view = {2, 3, 4}, .order = {1, 0, 2}};
  EXPECT_EQ(ReasonOf(CutIntoRanks(TwoRanks(), moved).status()), Reason::kCheckpointUnsupported);
}

}  // namespace
}  // namespace slipway::engine
