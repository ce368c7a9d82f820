#include "client/human.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace slipway {
namespace {

TEST(Human, BytesHaveThreeSignificantDigitsAndDecimalUnits) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(999), "999 B");
  EXPECT_EQ(HumanBytes(1000), "1.00 kB");
  EXPECT_EQ(HumanBytes(12'345), "12.3 kB");
  EXPECT_EQ(HumanBytes(999'400), "999 kB");
  EXPECT_EQ(HumanBytes(999'600), "1.00 MB");
  EXPECT_EQ(HumanBytes(2'970'000'000), "2.97 GB");
  EXPECT_EQ(HumanBytes(std::numeric_limits<std::int64_t>::max()), "9.22 EB");
  EXPECT_EQ(HumanBytes(-5), "0 B");
}

TEST(Human, CountsAreGroupedByThousands) {
  EXPECT_EQ(HumanCount(0), "0");
  EXPECT_EQ(HumanCount(999), "999");
  EXPECT_EQ(HumanCount(1000), "1,000");
  EXPECT_EQ(HumanCount(1234567), "1,234,567");
  EXPECT_EQ(HumanCount(-123456), "-123,456");
  EXPECT_EQ(HumanCount(1, "tensor"), "1 tensor");
  EXPECT_EQ(HumanCount(1234, "tensor"), "1,234 tensors");
}

TEST(Human, ParametersAreNamedAsModelsAre) {
  EXPECT_EQ(HumanParameters(134'515'008), "135M");
  EXPECT_EQ(HumanParameters(8'030'261'248), "8.03B");
}

TEST(Human, DurationsChangeTheirUnitWithTheirLength) {
  EXPECT_EQ(HumanDuration(0.44), "0.4 s");
  EXPECT_EQ(HumanDuration(9.96), "10 s");
  EXPECT_EQ(HumanDuration(59.4), "59 s");
  EXPECT_EQ(HumanDuration(65), "1 min 05 s");
  EXPECT_EQ(HumanDuration(2 * 3600 + 3 * 60), "2 h 03 min");
  EXPECT_EQ(HumanDuration(3 * 86400 + 4 * 3600), "3 d 04 h");
}

TEST(Human, ImpossibleDurationsDoNotCrash) {
  EXPECT_EQ(HumanDuration(-1), "0.0 s");
  EXPECT_EQ(HumanDuration(std::nan("")), "0.0 s");
  EXPECT_EQ(HumanDuration(std::numeric_limits<double>::infinity()), "0.0 s");
}

}  // namespace
}  // namespace slipway
