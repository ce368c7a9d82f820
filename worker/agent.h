// The agent: keeps the coordinator informed and does what it says. One Synchronize call at a time:
//   - with nothing to do, the call hangs at the coordinator until there is work;
//   - with work, it is answered at once and repeated at the coordinator's pace, and at once whenever a task ends;
//   - with the coordinator away, it is repeated for ever; work goes on and results are kept until acknowledged.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <grpcpp/channel.h>

#include "slipway/v1/worker.grpc.pb.h"
#include "worker/backoff.h"
#include "worker/synchronize_call.h"
#include "worker/task_runner.h"
#include "worker/task_table.h"

namespace slipway::worker {

struct AgentOptions {
  std::string name;                                                    // unique in the service
  std::string incarnation;                                             // made anew at each start of the process
  std::vector<std::string> devices;                                    // as SynchronizeRequest.devices
  int slots = 1;                                                       // tasks at once, at least 1
  std::chrono::milliseconds drain_timeout = std::chrono::seconds(60);  // for running tasks, after Drain()
  std::chrono::milliseconds farewell = std::chrono::seconds(5);        // then, for the last reports
  std::chrono::milliseconds idle_call_timeout = std::chrono::minutes(3);
  std::chrono::milliseconds busy_call_timeout = std::chrono::seconds(10);
  std::chrono::milliseconds longest_busy_pause = std::chrono::seconds(1);
  std::chrono::milliseconds longest_backoff = std::chrono::seconds(1);
};

class Agent {
 public:
  // `runner` outlives the agent.
  Agent(AgentOptions options, std::shared_ptr<grpc::Channel> channel, TaskRunner& runner);
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // Works until drained. True: every task ended and every result was acknowledged. False: the time for that ran out;
  // tasks may still be running, and destroying the agent waits for them. Call once.
  [[nodiscard]] bool Run();

  // Takes nothing new; Run() returns when what runs is done. From any thread, any number of times.
  void Drain();

 private:
  using Time = std::chrono::steady_clock::time_point;

  enum class Ending { kAnswered, kCutShort };

  void Wake();
  [[nodiscard]] v1::SynchronizeRequest MakeRequest();
  // Makes one call and waits for its end; an idle one is cut short if something happens that the coordinator should
  // know.
  [[nodiscard]] Ending Converse(SynchronizeCall& call, bool idle);
  // Both return how long to wait before the next call.
  [[nodiscard]] std::chrono::microseconds Apply(v1::SynchronizeResponse& response, bool idle);
  [[nodiscard]] std::chrono::microseconds RecoverFrom(const SynchronizeCall& call);
  // Waits, unless something happens first.
  void Pause(std::chrono::microseconds duration);
  [[nodiscard]] bool DrainedLongerThan(std::chrono::milliseconds duration);

  const AgentOptions options_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::WorkerService::Stub> stub_;
  Backoff backoff_;                 // Run()'s thread
  std::optional<Time> away_since_;  // Run()'s thread: of the first of the failures since the last answer
  bool told_away_ = false;          // Run()'s thread: the absence is in the log

  std::mutex mutex_;
  std::condition_variable woken_;
  bool changed_ = false;             // guarded by mutex_: something happened since the last request was made
  bool answered_ = false;            // guarded by mutex_: the call in flight has ended
  std::optional<Time> drain_start_;  // guarded by mutex_

  TaskTable tasks_;  // last: its threads call Wake()
};

}  // namespace slipway::worker
