#include "worker/engine/run/known_scales.h"

#include <gtest/gtest.h>

namespace slipway::engine {
namespace {

TEST(KnownScales, AreOfThePlanThatWasAskedForLast) {
  KnownScales known;
  EXPECT_EQ(known.Find("one", 3), std::nullopt);
  known.Keep("one", 3, 0.5F);
  EXPECT_EQ(known.Find("one", 3), 0.5F);
  EXPECT_EQ(known.Find("one", 4), std::nullopt);
  EXPECT_EQ(known.Find("other", 3), std::nullopt);
  EXPECT_EQ(known.Find("one", 3), std::nullopt);
}

}  // namespace
}  // namespace slipway::engine
