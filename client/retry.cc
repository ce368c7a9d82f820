#include "client/retry.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "common/error.h"

namespace slipway {
namespace {

void WaitFor(std::chrono::milliseconds delay, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any stopped;
  std::unique_lock lock(mutex);
  stopped.wait_for(lock, stop, delay, [] { return false; });
}

}  // namespace

bool IsTransient(const absl::Status& status) {
  switch (ReasonOf(status)) {
    case Reason::kServerUnreachable:
    case Reason::kServerOverloaded:
    case Reason::kStoreFailed:
      return true;
    default:
      return false;
  }
}

bool Backoff::WaitAfter(const absl::Status& failure, const std::stop_token& stop) {
  if (!IsTransient(failure) || stop.stop_requested() || ++failures_ >= policy_.attempts) {
    return false;
  }
  constexpr int kMaximumDoublings = 16;
  const auto delay = policy_.first_delay * (std::int64_t{1} << std::min(failures_ - 1, kMaximumDoublings));
  (policy_.wait ? policy_.wait : WaitFor)(std::min<std::chrono::milliseconds>(delay, policy_.longest_delay), stop);
  return !stop.stop_requested();
}

}  // namespace slipway
