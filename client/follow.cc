#include "client/follow.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include <fmt/format.h>

#include "client/message_json.h"
#include "client/progress.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/rpc/rpc_status.h"

namespace slipway {
namespace {

constexpr auto kCancelPatience = std::chrono::seconds(10);

ProgressState StateOf(const v1::Progress& progress) {
  ProgressState state;
  state.phase = progress.phase();
  state.bytes_done = progress.bytes_done();
  state.bytes_total = progress.bytes_total();
  state.shards_done = progress.shards_done();
  state.shards_total = progress.shards_total();
  return state;
}

}  // namespace

absl::Status OutcomeOf(const v1::Export& finished) {
  switch (finished.state()) {
    case v1::EXPORT_STATE_SUCCEEDED:
      return absl::OkStatus();
    case v1::EXPORT_STATE_CANCELLED:
      return Error(Reason::kCancelled, fmt::format("{} was cancelled", finished.name()));
    case v1::EXPORT_STATE_FAILED:
      return FromErrorDetail(finished.error());
    default:
      return Error(Reason::kExportNotFinished, fmt::format("{} is {}", finished.name(), NameOf(finished.state())));
  }
}

absl::StatusOr<v1::Export> Follow(const ExportClient& client, const std::string& name, std::int64_t from_sequence,
                                  const Console& console, const std::stop_token& stop) {
  ProgressReporter reporter(console.err, console.err_terminal, console.quiet, SystemClock());
  bool warned = false;
  std::string failed_try;
  const auto warn_once = [&](const v1::PlanSummary& plan) {
    for (const std::string& warning : plan.warnings()) {
      if (!warned) {
        reporter.Note("warning: " + warning);
      }
    }
    warned = warned || plan.warnings_size() > 0;
  };
  const auto print = [&console](const char* kind, const google::protobuf::Message& message) {
    if (console.json) {
      console.PrintJson({{kind, MessageToJson(message)}});
    }
  };
  WatchObserver observer;
  observer.snapshot = [&](const v1::Export& snapshot) {
    print("snapshot", snapshot);
    reporter.Update(StateOf(snapshot.progress()));
    warn_once(snapshot.plan());
  };
  observer.event = [&](const v1::ExportEvent& event) {
    print("event", event);
    // A failed try is news where another one follows; the last one's error is the export's, and comes at the end.
    if (!failed_try.empty() && !IsFinal(event.state())) {
      reporter.Note(failed_try);
    }
    failed_try = event.kind() == "attempt-failed" ? event.message() : "";
    // Warnings are worth most while there is time to act on them.
    if (const auto planned = event.kind() == "planned" ? client.Get(name, stop) : v1::Export(); planned.ok()) {
      warn_once(planned->plan());
    }
  };
  observer.progress = [&](const v1::Progress& progress) {
    print("progress", progress);
    reporter.Update(StateOf(progress));
  };
  SLIPWAY_ASSIGN_OR_RETURN(v1::Export finished, client.Watch(name, from_sequence, observer, stop));
  warn_once(finished.plan());
  reporter.Clear();
  SLIPWAY_RETURN_IF_ERROR(OutcomeOf(finished));
  return finished;
}

void CancelAndWait(const ExportClient& client, const std::string& name) {
  std::stop_source patience;
  const std::jthread timer([&patience](const std::stop_token& done) {
    std::mutex mutex;
    std::unique_lock lock(mutex);
    std::condition_variable_any ended;
    ended.wait_for(lock, done, kCancelPatience, [] { return false; });
    patience.request_stop();
  });
  const absl::StatusOr<v1::Export> cancelled = client.Cancel(name, patience.get_token());
  if (cancelled.ok() && !IsFinal(cancelled->state())) {
    (void)client.Watch(name, cancelled->last_sequence(), {}, patience.get_token());
  }
}

}  // namespace slipway
