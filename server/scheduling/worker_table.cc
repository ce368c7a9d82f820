#include "server/scheduling/worker_table.h"

namespace slipway::server {

WorkerState& WorkerTable::Get(const std::string& name) {
  WorkerState& worker = workers_[name];
  worker.name = name;
  return worker;
}

WorkerState* WorkerTable::Find(const std::string& name) {
  const auto found = workers_.find(name);
  return found == workers_.end() ? nullptr : &found->second;
}

const WorkerState* WorkerTable::Find(const std::string& name) const {
  const auto found = workers_.find(name);
  return found == workers_.end() ? nullptr : &found->second;
}

bool WorkerTable::HasAnother(const std::string& name, Clock::Monotonic now, Clock::Monotonic::duration recently) const {
  for (const auto& [other, worker] : workers_) {
    if (other != name && !worker.draining && now >= worker.quarantined_until && now - worker.last_call <= recently) {
      return true;
    }
  }
  return false;
}

void WorkerTable::CountFault(WorkerState& worker, const std::string& export_id, Clock::Monotonic now) {
  while (!worker.faults.empty() && now - worker.faults.front().first > policy_.window) {
    worker.faults.pop_front();
  }
  worker.faults.emplace_back(now, export_id);
  std::set<std::string> exports;
  for (const auto& [when, id] : worker.faults) {
    exports.insert(id);
  }
  if (exports.size() >= policy_.exports) {
    worker.quarantined_until = now + policy_.duration;
    worker.faults.clear();
  }
}

void WorkerTable::Forget(Clock::Monotonic now, Clock::Monotonic::duration silence) {
  std::erase_if(workers_, [&](const auto& entry) {
    const WorkerState& worker = entry.second;
    return worker.leases.empty() && now - worker.last_call > silence && now >= worker.quarantined_until;
  });
}

}  // namespace slipway::server
