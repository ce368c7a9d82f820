#include "common/clock.h"

namespace slipway {
namespace {

class RealClock final : public Clock {
 public:
  [[nodiscard]] Monotonic Now() const override { return std::chrono::steady_clock::now(); }
  [[nodiscard]] Wall WallNow() const override { return std::chrono::system_clock::now(); }
};

}  // namespace

const Clock& SystemClock() {
  static const RealClock clock;
  return clock;
}

}  // namespace slipway
