#include "worker/backoff.h"

#include <algorithm>

namespace slipway::worker {
namespace {

// Numerator and denominator of the growth of a step.
constexpr std::int64_t kGrowth = 8;
constexpr std::int64_t kGrowthOf = 5;

}  // namespace

Backoff::Duration Backoff::Next() {
  const Duration step = next_;
  next_ = std::min(ceiling_, next_ * kGrowth / kGrowthOf);
  std::uniform_int_distribution<Duration::rep> spread(step.count() / 2, step.count());
  return Duration(spread(random_));
}

}  // namespace slipway::worker
