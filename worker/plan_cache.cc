#include "worker/plan_cache.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway::worker {

PlanCache::PlanCache(PlanSource source, std::size_t capacity) : source_(std::move(source)), capacity_(capacity) {}

absl::StatusOr<PlanCache::Plan> PlanCache::Make(const std::string& key, const engine::ExportOptions& options) {
  const std::shared_ptr<Entry> entry = Touch(key);
  const std::lock_guard lock(entry->mutex);
  return MakeInto(*entry, options);
}

absl::StatusOr<PlanCache::Plan> PlanCache::Find(const std::string& key, const engine::ExportOptions& options,
                                                const std::string& hash) {
  const std::shared_ptr<Entry> entry = Touch(key);
  const std::lock_guard lock(entry->mutex);
  absl::Status changed;
  if (entry->plan && entry->plan->hash == hash) {
    changed = source_.check_unchanged(*entry->plan);
    if (changed.ok()) {
      return entry->plan;
    }
  }
  absl::StatusOr<Plan> plan = MakeInto(*entry, options);
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

absl::StatusOr<PlanCache::Plan> PlanCache::MakeInto(Entry& entry, const engine::ExportOptions& options) {
  entry.plan = nullptr;
  SLIPWAY_ASSIGN_OR_RETURN(entry.plan, source_.make(options));
  return entry.plan;
}

}  // namespace slipway::worker
