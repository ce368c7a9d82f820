#include "client/progress.h"

#include <sstream>

#include <gtest/gtest.h>

namespace slipway {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class ManualClock : public Clock {
 public:
  [[nodiscard]] Monotonic Now() const override { return now; }
  [[nodiscard]] Wall WallNow() const override { return {}; }
  Monotonic now{};
};

ProgressState Halfway() {
  return {.phase = "writing",
          .bytes_done = 1'500'000'000,
          .bytes_total = 3'000'000'000,
          .shards_done = 1,
          .shards_total = 4,
          .rate = 500'000'000};
}

TEST(ProgressBar, ShowsPhaseBarPercentBytesRateTimeAndFiles) {
  EXPECT_EQ(RenderProgressBar(Halfway(), 0),
            "writing     [##########..........]  50%  1.50 GB of 3.00 GB  500 MB/s  3.0 s left  1 of 4 files");
}

TEST(ProgressBar, LeavesOutFromTheRightWhatDoesNotFit) {
  EXPECT_EQ(RenderProgressBar(Halfway(), 75), "writing     [##########..........]  50%  1.50 GB of 3.00 GB  500 MB/s");
  EXPECT_EQ(RenderProgressBar(Halfway(), 10), "writing  …");
}

TEST(ProgressBar, SaysOnlyThePhaseWhileTheSizeIsUnknown) {
  EXPECT_EQ(RenderProgressBar({.phase = "planning"}, 80), "planning");
}

TEST(ProgressBar, NeverClaimsToBeDoneBeforeItIs) {
  EXPECT_EQ(RenderProgressBar({.phase = "writing", .bytes_done = 999'999, .bytes_total = 1'000'000}, 40),
            "writing     [###################.]  99%");
  EXPECT_EQ(RenderProgressBar({.phase = "writing", .bytes_done = 2'000'000, .bytes_total = 1'000'000}, 40),
            "writing     [####################] 100%");
}

TEST(ProgressSentence, HasTheSameParts) {
  EXPECT_EQ(RenderProgressSentence(Halfway()), "writing: 50%, 1.50 GB of 3.00 GB, 500 MB/s, 3.0 s left, 1 of 4 files");
}

TEST(RateMeter, FindsASteadyRateAtOnce) {
  RateMeter meter;
  Clock::Monotonic now{};
  EXPECT_EQ(meter.Update(0, now), 0);
  EXPECT_DOUBLE_EQ(meter.Update(100, now + seconds(1)), 100);
  EXPECT_DOUBLE_EQ(meter.Update(200, now + seconds(2)), 100);
}

TEST(RateMeter, OneSlowMomentDoesNotDecide) {
  RateMeter meter;
  Clock::Monotonic now{};
  meter.Update(0, now);
  meter.Update(1000, now + seconds(1));
  const double after_a_pause = meter.Update(1000, now + milliseconds(1500));
  EXPECT_GT(after_a_pause, 800);
  EXPECT_LT(after_a_pause, 1000);
}

TEST(RateMeter, BeginsAnewWhereTheCountDoes) {
  RateMeter meter;
  Clock::Monotonic now{};
  meter.Update(1000, now);
  meter.Update(2000, now + seconds(1));
  EXPECT_EQ(meter.Update(10, now + seconds(2)), 0);
}

TEST(ProgressReporter, ATerminalGetsOneLineThatIsTakenAwayAtTheEnd) {
  std::ostringstream stream;
  ManualClock clock;
  {
    ProgressReporter reporter(stream, {.is_terminal = true, .width = 80}, false, clock);
    reporter.Update({.phase = "planning"});
  }
  EXPECT_EQ(stream.str(), "\r\033[Kplanning\r\033[K");
}

TEST(ProgressReporter, ATerminalIsNotRedrawnMoreOftenThanPeopleSee) {
  std::ostringstream stream;
  ManualClock clock;
  ProgressReporter reporter(stream, {.is_terminal = true, .width = 80}, false, clock);
  reporter.Update({.phase = "planning"});
  const std::string before = stream.str();
  clock.now += milliseconds(10);
  reporter.Update({.phase = "planning"});
  EXPECT_EQ(stream.str(), before);
  clock.now += milliseconds(100);
  reporter.Update({.phase = "planning"});
  EXPECT_NE(stream.str(), before);
}

TEST(ProgressReporter, ALogGetsASentenceEveryFewSeconds) {
  std::ostringstream stream;
  ManualClock clock;
  ProgressReporter reporter(stream, {}, false, clock);
  ProgressState state{.phase = "writing", .bytes_done = 0, .bytes_total = 1000};
  reporter.Update(state);
  EXPECT_EQ(stream.str(), "");
  clock.now += seconds(5);
  state.bytes_done = 500;
  reporter.Update(state);
  EXPECT_EQ(stream.str(), "writing: 50%, 500 B of 1.00 kB, 100 B/s, 5.0 s left\n");
}

TEST(ProgressReporter, QuietPrintsNothing) {
  std::ostringstream stream;
  ManualClock clock;
  ProgressReporter reporter(stream, {.is_terminal = true, .width = 80}, true, clock);
  reporter.Update({.phase = "planning"});
  reporter.Note("warning: x");
  EXPECT_EQ(stream.str(), "");
}

}  // namespace
}  // namespace slipway
