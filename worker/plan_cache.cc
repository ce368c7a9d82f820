#include "worker/plan_cache.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::worker {

PlanCache::PlanCache(PlanSource source, std::size_t capacity) : source_(std::move(source)), capacity_(capacity) {}

absl::StatusOr<PlanCache::Plan> PlanCache::Make(const std::string& key, const engine::ExportOptions& options,
                                                const engine::PlanProgress& progress) {
  const std::shared_ptr<Entry> entry = Touch(key);
  const Lock lock = LockOf(*entry, progress);
  return MakeInto(*entry, options, progress);
}

absl::StatusOr<PlanCache::Plan> PlanCache::Find(const std::string& key, const engine::ExportOptions& options,
                                                const std::string& hash, const engine::PlanProgress& progress) {
  const std::shared_ptr<Entry> entry = Touch(key);
  const Lock lock = LockOf(*entry, progress);
  absl::Status changed;
  if (entry->plan && entry->plan->hash == hash) {
    changed = source_.check_unchanged(*entry->plan);
    if (changed.ok()) {
      return entry->plan;
    }
  }
  absl::StatusOr<Plan> plan = MakeInto(*entry, options, progress);
  if (plan.ok() && (*plan)->hash == hash) {
    return plan;
  }
  // What changed says more than what came of it.
  SLIPWAY_RETURN_IF_ERROR(changed);
  SLIPWAY_RETURN_IF_ERROR(plan.status());
  return Error(Reason::kPlanMismatch,
               fmt::format("the export was accepted with plan {}, but this worker makes plan {}", hash, (*plan)->hash));
}

void PlanCache::Forget(const std::string& key) {
  const std::lock_guard lock(mutex_);
  std::erase_if(entries_, [&key](const auto& entry) { return entry->key == key; });
}

std::shared_ptr<PlanCache::Entry> PlanCache::Touch(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find(entries_, key, [](const auto& entry) { return entry->key; });
  if (found != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, found);
    return entries_.front();
  }
  if (entries_.size() >= capacity_) {
    entries_.pop_back();
  }
  entries_.push_front(std::make_shared<Entry>());
  entries_.front()->key = key;
  return entries_.front();
}

PlanCache::Lock PlanCache::LockOf(Entry& entry, const engine::PlanProgress& progress) {
  constexpr std::chrono::milliseconds kLook{100};
  Lock lock(entry.mutex, std::defer_lock);
  int seen = entry.steps;
  while (!lock.try_lock_for(kLook)) {
    const int steps = entry.steps;
    if (steps != seen && progress) {
      progress();
    }
    seen = steps;
  }
  return lock;
}

absl::StatusOr<PlanCache::Plan> PlanCache::MakeInto(Entry& entry, const engine::ExportOptions& options,
                                                    const engine::PlanProgress& progress) {
  entry.plan = nullptr;
  SLIPWAY_ASSIGN_OR_RETURN(entry.plan, source_.make(options, [&entry, &progress] {
    ++entry.steps;
    if (progress) {
      progress();
    }
  }));
  return entry.plan;
}

}  // namespace slipway::worker
