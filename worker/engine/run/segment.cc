#include "worker/engine/run/segment.h"

#include <algorithm>

namespace slipway::engine {
namespace {

constexpr std::size_t kMaximumWindows = 256;    // of a segment; each is looked at for every run
constexpr std::int64_t kMaximumGap = 64 << 10;  // read over rather than mapped apart
constexpr std::int64_t kPage = 4096;

std::int64_t MappedBytes(const WindowRange& window) {
  return (window.end + kPage - 1) / kPage * kPage - window.begin / kPage * kPage;
}

// Where `window` would be with `run` joined to it, or nullopt where they are too far apart.
std::optional<WindowRange> Joined(const WindowRange& window, const SourceRun& run) {
  const std::int64_t end = run.position + run.bytes;
  const bool near = run.position <= window.end + kMaximumGap && end >= window.begin - kMaximumGap;
  if (window.file != run.file || !near) {
    return std::nullopt;
  }
  return WindowRange{window.file, std::min(window.begin, run.position), std::max(window.end, end)};
}

}  // namespace

SegmentMark::SegmentMark(const Segment& segment)
    : runs_(segment.runs.size()),
      value_parts_(segment.value_parts.size()),
      permuted_(segment.permuted.size()),
      permuted_rows_(segment.permuted_rows),
      window_bytes_(segment.window_bytes),
      factor_bytes_(segment.factor_bytes),
      windows_(segment.windows) {}

void SegmentMark::Restore(Segment& segment) const {
  segment.runs.resize(runs_);
  segment.run_windows.resize(runs_);
  segment.value_parts.resize(value_parts_);
  segment.permuted.resize(permuted_);
  segment.permuted_rows = permuted_rows_;
  segment.window_bytes = window_bytes_;
  segment.factor_bytes = factor_bytes_;
  segment.windows = windows_;
}

bool AddRun(Segment& segment, const SourceRun& run, std::int64_t maximum_windows) {
  if (segment.runs.size() >= kMaximumRuns) {
    return false;
  }
  if (run.file == kNoFile) {
    segment.runs.push_back(run);
    segment.run_windows.push_back(0);
    return true;
  }
  std::size_t index = segment.windows.size();
  WindowRange window{run.file, run.position, run.position + run.bytes};
  std::int64_t more = MappedBytes(window);
  for (std::size_t candidate = segment.windows.size(); candidate-- > 0;) {
    if (const auto joined = Joined(segment.windows[candidate], run)) {
      more = MappedBytes(*joined) - MappedBytes(segment.windows[candidate]);
      window = *joined;
      index = candidate;
      break;
    }
  }
  if (segment.window_bytes + more > maximum_windows || index == kMaximumWindows) {
    return false;
  }
  if (index == segment.windows.size()) {
    segment.windows.push_back(window);
  } else {
    segment.windows[index] = window;
  }
  segment.window_bytes += more;
  segment.runs.push_back(run);
  segment.run_windows.push_back(static_cast<std::uint32_t>(index));
  return true;
}

}  // namespace slipway::engine
