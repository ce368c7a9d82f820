// What workers and the scheduler say to each other, free of the wire's types: the meaning is that of
// proto/slipway/v1/worker.proto.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "server/scheduling/records.h"

namespace slipway::server {

struct Planned {
  std::string plan_hash;
  std::vector<std::int64_t> shard_bytes;
  std::string summary;    // v1::PlanSummary without plan_json, to be stored
  std::string plan_json;  // of a validate_only request
};
struct ShardWritten {
  std::string file;
  std::int64_t size = 0;
  std::string digest;
  std::int64_t bytes_written = 0;
};
struct Published {
  std::string path;
  std::string manifest_digest;
};
struct Inspected {
  std::string inspection_json;
};
using StillRunning = std::monostate;
using Outcome = std::variant<StillRunning, Planned, ShardWritten, Published, Inspected, absl::Status>;

struct TaskReport {
  LeaseKey lease;
  std::int64_t bytes_done = 0;
  std::int64_t heartbeat = 0;
  Outcome outcome = {};
};

struct WorkerReport {
  std::string worker;
  std::string incarnation;
  std::string version;
  std::int32_t free_slots = 0;
  bool draining = false;
  std::vector<TaskReport> tasks = {};
};

// What the scheduler has to say about a report, assignments apart.
struct ReportAnswer {
  std::vector<LeaseKey> revoked;
  std::vector<LeaseKey> acknowledged;
  bool busy = false;  // the worker holds a lease: it must be answered at once
};

}  // namespace slipway::server
