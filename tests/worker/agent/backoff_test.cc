#include "worker/backoff.h"

#include <gtest/gtest.h>

namespace slipway::worker {
namespace {

using std::chrono::microseconds;

TEST(Backoff, TheFirstWaitIsShortAndNoneExceedsTheCeiling) {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    Backoff backoff(microseconds(100), microseconds(1000), seed);
    const microseconds first = backoff.Next();
    EXPECT_GE(first, microseconds(50));
    EXPECT_LE(first, microseconds(100));
    for (int i = 0; i < 1000; ++i) {
      EXPECT_LE(backoff.Next(), microseconds(1000));
    }
    EXPECT_GE(backoff.Next(), microseconds(500));
  }
}

TEST(Backoff, AfterAResetItBeginsAnew) {
  Backoff backoff(microseconds(100), microseconds(1'000'000), 1);
  for (int i = 0; i < 20; ++i) {
    backoff.Next();
  }
  backoff.Reset();
  EXPECT_LE(backoff.Next(), microseconds(100));
}

TEST(Backoff, WorkersAreSpread) {
  Backoff a(microseconds(1'000'000), microseconds(1'000'000), 1);
  Backoff b(microseconds(1'000'000), microseconds(1'000'000), 2);
  EXPECT_NE(a.Next(), b.Next());
}

}  // namespace
}  // namespace slipway::worker
