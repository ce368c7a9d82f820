#include "worker/agent.h"

#include <algorithm>
#include <random>
#include <utility>

#include <spdlog/spdlog.h>

#include "common/error.h"
#include "common/rpc/rpc_status.h"
#include "worker/coordinator_channel.h"
#include "worker/task_execution.h"

namespace slipway::worker {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr microseconds kFirstBackoff = milliseconds(5);
// An answer that asks to be called again at once, and brings nothing, must not make the two sides spin.
constexpr microseconds kShortestPause = milliseconds(20);
// A coordinator that starts or restarts is nothing to write home about.
constexpr milliseconds kSilentAbsence = std::chrono::seconds(2);

microseconds FromProto(const google::protobuf::Duration& duration) {
  constexpr std::int64_t kLongestSeconds = 3600;
  const std::int64_t seconds = std::clamp<std::int64_t>(duration.seconds(), 0, kLongestSeconds);
  return std::chrono::seconds(seconds) + microseconds(duration.nanos() / 1000);
}

}  // namespace

Agent::Agent(AgentOptions options, std::shared_ptr<grpc::Channel> channel, TaskRunner& runner)
    : options_(std::move(options)),
      channel_(std::move(channel)),
      stub_(v1::WorkerService::NewStub(channel_)),
      backoff_(kFirstBackoff, options_.longest_backoff, std::random_device{}()),
      tasks_(runner, options_.slots, options_.incarnation, [this] { Wake(); }) {}

Agent::~Agent() = default;

bool Agent::Run() {
  while (true) {
    if (DrainedLongerThan(options_.drain_timeout)) {
      tasks_.Abandon();
    }
    v1::SynchronizeRequest request = MakeRequest();
    const bool draining = request.draining();
    const bool idle = request.tasks().empty() && !draining;
    SynchronizeCall call(std::move(request), idle ? options_.idle_call_timeout : options_.busy_call_timeout);
    microseconds pause(0);
    if (Converse(call, idle) == Ending::kAnswered) {
      pause = call.status().ok() ? Apply(call.response(), idle) : RecoverFrom(call);
    }
    if (draining && tasks_.empty()) {
      return true;
    }
    if (DrainedLongerThan(options_.drain_timeout + options_.farewell)) {
      return false;
    }
    Pause(pause);
  }
}

void Agent::Drain() {
  {
    const std::lock_guard lock(mutex_);
    if (drain_start_) {
      return;
    }
    drain_start_ = steady_clock::now();
  }
  Wake();
}

void Agent::Wake() {
  // Notifying under the lock: Run() may return, and the agent go, as soon as the lock is free.
  const std::lock_guard lock(mutex_);
  changed_ = true;
  woken_.notify_all();
}

v1::SynchronizeRequest Agent::MakeRequest() {
  v1::SynchronizeRequest request;
  {
    // Before the reports are made: what changes after this makes another request.
    const std::lock_guard lock(mutex_);
    changed_ = false;
    request.set_draining(drain_start_.has_value());
  }
  request.set_worker(options_.name);
  request.set_incarnation(options_.incarnation);
  request.set_version(SLIPWAY_VERSION);
  request.mutable_devices()->Add(options_.devices.begin(), options_.devices.end());
  tasks_.AddReports(*request.mutable_tasks());
  request.set_free_slots(request.draining() ? 0 : tasks_.free_slots());
  return request;
}

Agent::Ending Agent::Converse(SynchronizeCall& call, bool idle) {
  call.Start(*stub_, [this] {
    const std::lock_guard lock(mutex_);
    answered_ = true;
    woken_.notify_all();
  });
  std::unique_lock lock(mutex_);
  // Only an idle call hangs; any other is answered at once, and waiting for that loses nothing.
  woken_.wait(lock, [this, idle] { return answered_ || (idle && changed_); });
  const bool cut_short = !answered_;
  if (cut_short) {
    lock.unlock();
    call.Cancel();
    lock.lock();
    woken_.wait(lock, [this] { return answered_; });
  }
  answered_ = false;
  // An answer that was on its way when the call was cut short counts.
  return cut_short && !call.status().ok() ? Ending::kCutShort : Ending::kAnswered;
}

microseconds Agent::Apply(v1::SynchronizeResponse& response, bool idle) {
  backoff_.Reset();
  away_since_.reset();
  if (std::exchange(told_away_, false)) {
    spdlog::info("the coordinator is back");
  }
  for (const v1::Lease& lease : response.acknowledged()) {
    tasks_.Acknowledge(lease);
  }
  for (const v1::Lease& lease : response.revoked()) {
    tasks_.Revoke(lease);
  }
  for (const v1::Assignment& assignment : response.assignments()) {
    if (!tasks_.Start(assignment)) {
      spdlog::warn("left {} alone: no slot is free", DescribeLease(assignment.lease()));
    }
  }
  if (!tasks_.empty()) {
    return std::clamp<microseconds>(FromProto(response.next_call()), kShortestPause, options_.longest_busy_pause);
  }
  // Who has just become idle asks at once; who was idle and was sent back empty-handed must not spin.
  return idle ? kShortestPause : microseconds(0);
}

microseconds Agent::RecoverFrom(const SynchronizeCall& call) {
  const Time now = steady_clock::now();
  away_since_ = away_since_.value_or(now);
  if (!told_away_ && now - *away_since_ >= kSilentAbsence) {
    told_away_ = true;
    spdlog::warn("the coordinator does not answer, trying on: {}",
                 Describe(FromGrpcStatus(call.status(), call.context())));
  }
  return backoff_.Next();
}

void Agent::Pause(microseconds duration) {
  {
    std::unique_lock lock(mutex_);
    woken_.wait_for(lock, duration, [this] { return changed_; });
  }
  if (away_since_) {
    Reconnect(*channel_);
  }
}

bool Agent::DrainedLongerThan(milliseconds duration) {
  const std::lock_guard lock(mutex_);
  return drain_start_ && steady_clock::now() - *drain_start_ > duration;
}

}  // namespace slipway::worker
