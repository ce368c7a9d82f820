#include "client/progress.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include <fmt/format.h>

#include "client/human.h"

namespace slipway {
namespace {

using std::chrono::duration;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kBarCells = 20;
constexpr std::size_t kPhaseColumns = 11;  // of "downloading", the longest
constexpr auto kRedrawInterval = milliseconds(100);
constexpr auto kSentenceInterval = seconds(5);
// How fast the mean forgets: after so many seconds a third of the old rate is left.
constexpr double kRateMemorySeconds = 3;

double FractionOf(const ProgressState& state) {
  if (state.bytes_total <= 0) {
    return 0;
  }
  return std::clamp(static_cast<double>(state.bytes_done) / static_cast<double>(state.bytes_total), 0.0, 1.0);
}

// Rounded down: 100% means done.
int PercentOf(const ProgressState& state) { return static_cast<int>(std::floor(FractionOf(state) * 100)); }

// What both renderings say after the percentage, most important first.
std::vector<std::string> Details(const ProgressState& state) {
  std::vector<std::string> details{
      fmt::format("{} of {}", HumanBytes(state.bytes_done), HumanBytes(state.bytes_total))};
  if (state.rate > 0) {
    details.push_back(HumanRate(state.rate));
    const auto left = static_cast<double>(std::max<std::int64_t>(state.bytes_total - state.bytes_done, 0));
    details.push_back(HumanDuration(left / state.rate) + " left");
  }
  if (state.shards_total > 1) {
    details.push_back(fmt::format("{} of {} files", state.shards_done, state.shards_total));
  }
  return details;
}

}  // namespace

std::string RenderProgressBar(const ProgressState& state, int width) {
  const std::string phase = Printable(state.phase);
  if (state.bytes_total <= 0) {
    return width > 0 ? Truncate(phase, static_cast<std::size_t>(width)) : phase;
  }
  const auto filled = static_cast<std::size_t>(std::floor(FractionOf(state) * kBarCells));
  std::string line = phase + std::string(kPhaseColumns - std::min(kPhaseColumns, phase.size()), ' ');
  line +=
      fmt::format(" [{}{}] {:3}%", std::string(filled, '#'), std::string(kBarCells - filled, '.'), PercentOf(state));
  for (const std::string& detail : Details(state)) {
    if (width > 0 && line.size() + 2 + detail.size() > static_cast<std::size_t>(width)) {
      break;
    }
    line += "  " + detail;
  }
  return width > 0 ? Truncate(line, static_cast<std::size_t>(width)) : line;
}

std::string RenderProgressSentence(const ProgressState& state) {
  std::string line = Printable(state.phase);
  if (state.bytes_total > 0) {
    line += fmt::format(": {}%", PercentOf(state));
    for (const std::string& detail : Details(state)) {
      line += ", " + detail;
    }
  }
  return line;
}

double RateMeter::Update(std::int64_t bytes, Clock::Monotonic now) {
  if (!last_time_ || bytes < last_bytes_) {  // the beginning, or a phase that counts anew
    last_time_ = now;
    last_bytes_ = bytes;
    rate_ = 0;
    return 0;
  }
  const double elapsed = duration<double>(now - *last_time_).count();
  if (elapsed < 0.05) {  // too short to mean anything
    return rate_;
  }
  const double newest = static_cast<double>(bytes - last_bytes_) / elapsed;
  const double keep = rate_ > 0 ? std::exp(-elapsed / kRateMemorySeconds) : 0;
  rate_ = keep * rate_ + (1 - keep) * newest;
  last_time_ = now;
  last_bytes_ = bytes;
  return rate_;
}

ProgressReporter::ProgressReporter(std::ostream& stream, const Terminal& terminal, bool quiet, const Clock& clock)
    : stream_(stream), terminal_(terminal), quiet_(quiet), clock_(clock) {}

void ProgressReporter::Update(ProgressState state) {
  if (quiet_) {
    return;
  }
  const Clock::Monotonic now = clock_.Now();
  const bool new_phase = state.phase != phase_;
  if (new_phase) {
    phase_ = state.phase;
    meter_ = {};
  }
  state.rate = meter_.Update(state.bytes_done, now);
  if (!drawn_at_) {
    drawn_at_ = now;  // an operation that ends within the first interval prints nothing
  }
  const auto interval = terminal_.is_terminal ? kRedrawInterval : milliseconds(kSentenceInterval);
  if (now - *drawn_at_ >= interval || (new_phase && terminal_.is_terminal)) {
    Draw(state, now);
  }
}

void ProgressReporter::Draw(const ProgressState& state, Clock::Monotonic now) {
  drawn_at_ = now;
  if (terminal_.is_terminal) {
    // One column stays free: terminals wrap when the last one is written.
    stream_ << "\r\033[K" << RenderProgressBar(state, terminal_.width - 1) << std::flush;
    line_is_drawn_ = true;
  } else {
    stream_ << RenderProgressSentence(state) << std::endl;
  }
}

void ProgressReporter::Note(const std::string& line) {
  if (!quiet_) {
    Clear();
    stream_ << Printable(line) << std::endl;
  }
}

void ProgressReporter::Clear() {
  if (line_is_drawn_) {
    stream_ << "\r\033[K" << std::flush;
    line_is_drawn_ = false;
  }
}

}  // namespace slipway
