// The workers that called lately: what they can take, what they hold, and which of them are not to be trusted for a
// while.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "server/scheduling/protocol.h"
#include "server/scheduling/records.h"

namespace slipway::server {

struct WorkerState {
  std::string name;
  std::string incarnation;
  std::string version;
  Clock::Monotonic last_call;
  std::int32_t free_slots = 0;
  bool draining = false;
  std::set<LeaseKey> leases = {};     // alive, of this incarnation or (after a restart of the coordinator) unconfirmed
  std::set<LeaseKey> redeliver = {};  // alive, but the worker's last call did not know them: the answer was lost
  Clock::Monotonic quarantined_until = {};
  std::deque<std::pair<Clock::Monotonic, std::string>> faults = {};  // when, of which export

  [[nodiscard]] bool CanTake(Clock::Monotonic now) const {
    return free_slots > 0 && !draining && now >= quarantined_until;
  }
};

struct QuarantinePolicy {
  std::size_t exports = 3;                                 // so many different exports failed on the worker...
  std::chrono::seconds window = std::chrono::minutes(10);  // ...within this time
  std::chrono::seconds duration = std::chrono::minutes(1);
};

// Not thread-safe.
class WorkerTable {
 public:
  explicit WorkerTable(QuarantinePolicy policy) : policy_(policy) {}

  // The worker of that name, made if it is new.
  WorkerState& Get(const std::string& name);
  WorkerState* Find(const std::string& name);
  [[nodiscard]] const WorkerState* Find(const std::string& name) const;
  [[nodiscard]] const std::map<std::string, WorkerState>& all() const { return workers_; }

  // Whether a worker other than `name` that could take work called within `recently`.
  [[nodiscard]] bool HasAnother(const std::string& name, Clock::Monotonic now,
                                Clock::Monotonic::duration recently) const;
  // Remembers that `export_id` failed on the worker through the worker's fault; quarantines it where too many
  // different exports did.
  void CountFault(WorkerState& worker, const std::string& export_id, Clock::Monotonic now);
  // Forgets workers that hold nothing and did not call for `silence`.
  void Forget(Clock::Monotonic now, Clock::Monotonic::duration silence);

 private:
  QuarantinePolicy policy_;
  std::map<std::string, WorkerState> workers_;
};

}  // namespace slipway::server
