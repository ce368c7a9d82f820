#include "worker/engine/transform/axis_permutation.h"

#include <gtest/gtest.h>

#include <vector>

namespace slipway::engine {
namespace {

TEST(AxisPermutation, WhatMovesNothingIsOneAxis) {
  EXPECT_EQ(OutputAxes({.view = {2, 3, 4}, .order = {0, 1, 2}}, 24)->size(), 1U);
  EXPECT_EQ(OutputAxes({.view = {1, 24}, .order = {1, 0}}, 24)->size(), 1U);
  EXPECT_EQ(OutputAxes({.view = {1, 1}, .order = {1, 0}}, 1)->size(), 0U);
}

TEST(AxisPermutation, AxesThatStayTogetherAreJoined) {
  const auto axes = OutputAxes({.view = {2, 3, 1, 4, 5}, .order = {3, 4, 0, 1, 2}}, 120);
  ASSERT_TRUE(axes);
  ASSERT_EQ(axes->size(), 2U);
  EXPECT_EQ((*axes)[0].size, 20);
  EXPECT_EQ((*axes)[0].view_stride, 1);
  EXPECT_EQ((*axes)[0].output_stride, 6);
  EXPECT_EQ((*axes)[1].size, 6);
  EXPECT_EQ((*axes)[1].view_stride, 20);
  EXPECT_EQ((*axes)[1].output_stride, 1);
}

TEST(AxisPermutation, WhatIsNoPermutationIsRefused) {
  EXPECT_FALSE(OutputAxes({.view = {2, 3}, .order = {1, 0}}, 7));
  EXPECT_FALSE(OutputAxes({.view = {2, 3}, .order = {1, 1}}, 6));
  EXPECT_FALSE(OutputAxes({.view = {2, 3}, .order = {0, 2}}, 6));
  EXPECT_FALSE(OutputAxes({.view = {2, 3}, .order = {0}}, 6));
  EXPECT_FALSE(OutputAxes({.view = {-2, -3}, .order = {1, 0}}, 6));
}

TEST(AxisPermutation, BoxesFollowEachOtherAndHoldWhatTheyMay) {
  const auto axes = OutputAxes({.view = {4, 2, 5, 3}, .order = {0, 3, 2, 1}}, 120);  // [4][3][5][2]
  ASSERT_TRUE(axes);
  const std::vector<std::vector<std::int64_t>> cuts = {// a maximum, then the boxes' sizes from the start on
                                                       {1000, 120},
                                                       {120, 120},
                                                       {70, 60, 60},
                                                       {29, 20, 10, 20, 10, 20, 10, 20, 10},
                                                       {1, 1, 1, 1}};
  for (const auto& cut : cuts) {
    std::int64_t first = 0;
    for (std::size_t i = 1; i < cut.size(); ++i) {
      const PermutedBox box = LargestBox(*axes, first, cut[0]);
      EXPECT_EQ(box.elements, cut[i]) << "of at most " << cut[0] << " at " << first;
      first += box.elements;
    }
  }
  // Element 30 + 10 + 4 + 1 of the output is [1][1][2][1], in the view [1][1][2][1].
  const PermutedBox box = LargestBox(*axes, 45, 1000);
  EXPECT_EQ(box.elements, 1);
  EXPECT_EQ(box.view_first, 30 + 15 + 6 + 1);
}

}  // namespace
}  // namespace slipway::engine
