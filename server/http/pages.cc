#include "server/http/pages.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <memory>

#include "common/error.h"

namespace slipway::server {
namespace {

constexpr std::chrono::seconds kPatience{1};

absl::StatusOr<CoordinatorStatistics> Ask(Coordinator& coordinator) {
  auto promise = std::make_shared<std::promise<absl::StatusOr<CoordinatorStatistics>>>();
  std::future<absl::StatusOr<CoordinatorStatistics>> answer = promise->get_future();
  coordinator.Statistics(
      [promise](absl::StatusOr<CoordinatorStatistics> statistics) { promise->set_value(std::move(statistics)); });
  if (answer.wait_for(kPatience) != std::future_status::ready) {
    return Error(Reason::kServerOverloaded, "The coordinator does not answer within a second.");
  }
  return answer.get();
}

// The scheduler counts on its own and begins anew where it is rebuilt; what is shown never falls.
void RaiseTo(prometheus::Counter& counter, std::int64_t count) {
  counter.Increment(std::max(0.0, static_cast<double>(count) - counter.Value()));
}

void Show(const CoordinatorStatistics& statistics, Metrics& metrics) {
  for (int state = static_cast<int>(ExportState::kQueued); state <= static_cast<int>(ExportState::kCancelled);
       ++state) {
    const auto found = statistics.exports.find(static_cast<ExportState>(state));
    metrics.exports.Add({{"state", std::string(NameOf(static_cast<ExportState>(state)))}})
        .Set(found == statistics.exports.end() ? 0 : static_cast<double>(found->second));
  }
  for (const char* state : {"idle", "busy", "draining", "quarantined"}) {
    const auto found = statistics.workers.find(state);
    metrics.workers.Add({{"state", state}})
        .Set(found == statistics.workers.end() ? 0 : static_cast<double>(found->second));
  }
  for (const auto& [cause, count] : statistics.counters.failed_attempts) {
    RaiseTo(metrics.failed_attempts.Add({{"cause", cause}}), count);
  }
  metrics.queued_bytes.Set(static_cast<double>(statistics.queued_bytes));
  RaiseTo(metrics.lease_expirations, statistics.counters.lease_expirations);
  RaiseTo(metrics.fenced_reports, statistics.counters.fenced_reports);
  metrics.watchers.Set(static_cast<double>(statistics.watchers));
}

HttpResponse Failure(const std::string& why) { return {.status = 503, .body = why + "\n"}; }

}  // namespace

HttpResponse ServePage(const std::string& path, Coordinator& coordinator, Metrics& metrics,
                       const std::atomic<bool>& draining) {
  if (path != "/metrics" && path != "/healthz" && path != "/readyz") {
    return {.status = 404, .body = "There are /metrics, /healthz and /readyz.\n"};
  }
  const absl::StatusOr<CoordinatorStatistics> statistics = Ask(coordinator);
  if (path == "/metrics") {
    if (statistics.ok()) {
      Show(*statistics, metrics);
    }
    return {.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = metrics.Exposition()};
  }
  // A broken store makes the server useless but does not mean that a restart would help: alive, not ready.
  const bool turns = statistics.ok() || ReasonOf(statistics.status()) == Reason::kStoreFailed;
  if (!turns) {
    return Failure(Describe(statistics.status()));
  }
  if (path == "/readyz" && (draining || !statistics.ok())) {
    return Failure(draining ? "draining" : Describe(statistics.status()));
  }
  return {.body = "ok\n"};
}

}  // namespace slipway::server
