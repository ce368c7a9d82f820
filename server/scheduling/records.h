// What the coordinator remembers of exports. Records are plain data: the store keeps them, the scheduler changes them,
// the services show them. What an export is to do and what its plan says are opaque bytes here (serialized messages).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/clock.h"
#include "server/scheduling/export_states.h"

namespace slipway::server {

// A moment on both clocks: the monotonic one decides, the wall clock is shown.
struct Instant {
  Clock::Monotonic monotonic;
  Clock::Wall wall;
};

// Numbers as in proto/slipway/v1/worker.proto; durable.
enum class TaskKind { kPlan = 1, kShard = 2, kPublish = 3, kValidate = 4, kInspect = 5 };

// Which attempt at which task; unique for ever, because epochs of an export only grow.
struct LeaseKey {
  std::string export_id;
  TaskKind kind = TaskKind::kPlan;
  std::int32_t shard = 0;
  std::int64_t epoch = 0;
  // clang-tidy 14 takes the comparison of its parts for one with a null pointer.
  auto operator<=>(const LeaseKey&) const = default;  // NOLINT(modernize-use-nullptr)
};

struct ExportRecord {
  std::string id;
  std::int64_t order = 0;  // grows with each export: age and the order of lists
  std::int32_t priority = 0;
  Clock::Wall create_time;
  std::optional<Clock::Wall> end_time = {};
  ExportState state = ExportState::kQueued;
  std::string spec;            // v1::ExportSpec
  std::string checkpoint;      // of the spec, for filters
  std::string output;          // absolute path of the directory to publish
  std::string plan_hash = {};  // empty until planned
  std::string plan = {};       // v1::PlanSummary without plan_json
  // Why the export is FAILED, or, before that, why it will be once its leases are gone.
  absl::Status error = {};
  std::string artifact_path = {};
  std::string manifest_digest = {};
  std::int64_t last_epoch = 0;
  std::int64_t last_sequence = 0;
  std::string request_id = {};
  std::string request_digest = {};  // of the request that request_id came with
};

struct ShardRecord {
  std::int32_t number = 0;
  std::int64_t bytes = 0;  // as planned
  bool done = false;
  std::string file = {};
  std::string digest = {};
};

// One lease and how it ended. Alive while it has no end.
struct AttemptRecord {
  TaskKind kind = TaskKind::kPlan;
  std::int32_t shard = 0;
  std::string worker;
  std::string incarnation;
  std::int64_t epoch = 0;
  Clock::Wall start_time;
  std::optional<Clock::Wall> end_time = {};
  absl::Status error = {};  // OK where it succeeded or lives
  bool export_fault = false;
};

struct EventRecord {
  std::int64_t sequence = 0;
  Clock::Wall time;
  std::string kind;
  ExportState state = ExportState::kQueued;
  std::string message;
  std::int32_t shard = -1;
  absl::Status error = {};
};

// An export with everything that scheduling needs.
struct ExportHistory {
  ExportRecord record;
  std::vector<ShardRecord> shards = {};
  std::vector<AttemptRecord> attempts = {};  // oldest first
};

// What one turn of the coordinator changed: written in one transaction, or not at all.
struct Changes {
  struct Shard {
    std::string export_id;
    ShardRecord record;
  };
  struct Attempt {
    std::string export_id;
    AttemptRecord record;
  };
  struct Event {
    std::string export_id;
    EventRecord record;
  };
  std::vector<ExportRecord> exports = {};  // new or changed
  std::vector<Shard> shards = {};          // new or changed
  std::vector<Attempt> attempts = {};      // new or changed
  std::vector<Event> events = {};          // new
  std::vector<std::string> deleted = {};   // ids

  [[nodiscard]] bool empty() const {
    return exports.empty() && shards.empty() && attempts.empty() && events.empty() && deleted.empty();
  }
};

}  // namespace slipway::server
