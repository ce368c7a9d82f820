// The plans of the exports that a worker is at, so that the shards of one export do not read its metadata again.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/plan/make_plan.h"

namespace slipway::worker {

// Where plans come from; a seam for tests.
struct PlanSource {
  std::function<absl::StatusOr<std::shared_ptr<const engine::ExportPlan>>(const engine::ExportOptions&,
                                                                          const engine::PlanProgress&)>
      make;
  // CHECKPOINT_CHANGED if what the plan was made from is no longer what it was. Cheap.
  std::function<absl::Status(const engine::ExportPlan&)> check_unchanged;
};

// Thread-safe. A plan holds its checkpoint's files open: the least recently used go first, and Forget() lets one go.
class PlanCache {
 public:
  using Plan = std::shared_ptr<const engine::ExportPlan>;

  explicit PlanCache(PlanSource source, std::size_t capacity = 4);

  // Makes the plan anew and keeps it under `key`. `progress`, here and below: of who makes it, whoever that is.
  absl::StatusOr<Plan> Make(const std::string& key, const engine::ExportOptions& options,
                            const engine::PlanProgress& progress = {});

  // The plan with this hash: the one kept, if its checkpoint is unchanged, or one made anew. Callers with the same key
  // wait for each other rather than make it twice. CHECKPOINT_CHANGED or PLAN_MISMATCH if the plan that can be made now
  // is another one.
  absl::StatusOr<Plan> Find(const std::string& key, const engine::ExportOptions& options, const std::string& hash,
                            const engine::PlanProgress& progress = {});

  void Forget(const std::string& key);

 private:
  struct Entry {
    std::string key;
    std::timed_mutex mutex;
    Plan plan;                  // guarded by mutex; null until made
    std::atomic<int> steps{0};  // of whoever makes the plan now
  };
  using Lock = std::unique_lock<std::timed_mutex>;

  // The entry of `key`, now the most recently used.
  std::shared_ptr<Entry> Touch(const std::string& key);
  // Waits for whoever makes the entry's plan, and passes on that it gets on.
  static Lock LockOf(Entry& entry, const engine::PlanProgress& progress);
  absl::StatusOr<Plan> MakeInto(Entry& entry, const engine::ExportOptions& options,
                                const engine::PlanProgress& progress);

  const PlanSource source_;
  const std::size_t capacity_;
  std::mutex mutex_;
  std::list<std::shared_ptr<Entry>> entries_;  // guarded by mutex_; most recently used first
};

}  // namespace slipway::worker
