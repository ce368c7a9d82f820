// The progress line: pure rendering, and a reporter that decides when to print.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>

#include "client/terminal.h"
#include "common/clock.h"

namespace slipway {

// One moment of a long operation.
struct ProgressState {
  std::string phase = {};  // "queued", "planning", "writing", "publishing", "downloading", "verifying"
  std::int64_t bytes_done = 0;
  std::int64_t bytes_total = 0;  // 0: unknown
  int shards_done = 0;
  int shards_total = 0;  // 0: no shards to show
  double rate = 0;       // bytes a second, smoothed; 0: unknown
};

// "writing     [#########...........]  45%  1.34 GB of 2.97 GB  412 MB/s  4.0 s left  shard 1 of 2". Parts that do not
// fit into `width` columns are left out from the right; 0: no limit.
std::string RenderProgressBar(const ProgressState& state, int width);

// The same as a sentence for logs: "writing: 45%, 1.34 GB of 2.97 GB, 412 MB/s, 4.0 s left".
std::string RenderProgressSentence(const ProgressState& state);

// Bytes a second over the recent past: an exponential mean, so that one slow moment does not make the time left jump.
// Not thread-safe.
class RateMeter {
 public:
  // The smoothed rate after `bytes` at `now`; 0 until it is known.
  double Update(std::int64_t bytes, Clock::Monotonic now);

 private:
  std::optional<Clock::Monotonic> last_time_;
  std::int64_t last_bytes_ = 0;
  double rate_ = 0;
};

// Prints progress: one line that is redrawn on a terminal, a sentence every few seconds elsewhere, nothing when quiet.
// Not thread-safe. The stream and clock outlive it.
class ProgressReporter {
 public:
  ProgressReporter(std::ostream& stream, const Terminal& terminal, bool quiet, const Clock& clock);
  ~ProgressReporter() { Clear(); }
  ProgressReporter(const ProgressReporter&) = delete;
  ProgressReporter& operator=(const ProgressReporter&) = delete;

  void Update(ProgressState state);  // fills in the rate
  // Prints a line of its own above the progress line, unless quiet.
  void Note(const std::string& line);
  // Takes the line off the terminal.
  void Clear();

 private:
  void Draw(const ProgressState& state, Clock::Monotonic now);

  std::ostream& stream_;
  const Terminal terminal_;
  const bool quiet_;
  const Clock& clock_;
  RateMeter meter_;
  std::string phase_;
  std::optional<Clock::Monotonic> drawn_at_;
  bool line_is_drawn_ = false;
};

}  // namespace slipway
