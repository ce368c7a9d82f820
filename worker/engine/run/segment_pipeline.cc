#include "worker/engine/run/segment_pipeline.h"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <thread>
#include <utility>

#include "common/error.h"

namespace slipway::engine {

SegmentPipeline::SegmentPipeline(const ExportPlan& plan, const Shard& shard, SegmentCutter& cutter,
                                 std::vector<Lane> lanes, Settings settings)
    : plan_(plan),
      shard_(shard),
      cutter_(cutter),
      settings_(std::move(settings)),
      own_buffers_(*settings_.memory),
      buffers_(settings_.buffers != nullptr ? *settings_.buffers : own_buffers_),
      maximum_slots_(static_cast<std::size_t>(settings_.threads) * 2 + 2) {
  for (Lane& lane : lanes) {
    lanes_.push_back({.work = std::move(lane)});
  }
}

absl::Status SegmentPipeline::Run() {
  {
    std::vector<std::jthread> helpers;
    for (int i = 1; i < settings_.threads; ++i) {
      try {
        helpers.emplace_back([this, i] { Work(i); });
      } catch (const std::system_error&) {
        break;  // the system has no more threads: those that run do the work
      }
    }
    Work(0);
  }
  return status_;
}

void SegmentPipeline::Work(int number) {
  constexpr std::chrono::milliseconds kPatience(20);
  std::unique_lock lock(mutex_);
  while (status_.ok() && !(all_cut_ && slots_.empty())) {
    if (number > 0 && settings_.share && number >= settings_.share()) {
      ended_.wait_for(lock, kPatience);
    } else if (settings_.cancelled && settings_.cancelled()) {
      Fail(Error(Reason::kCancelled, "cancelled"));
    } else if (!Step(lock)) {
      changed_.wait(lock);
    }
  }
  ended_.notify_all();
}

bool SegmentPipeline::Step(std::unique_lock<std::mutex>& lock) {
  for (LaneState& lane : lanes_) {
    const Slot* const slot = lane.busy ? nullptr : SlotOf(lane.next);
    if (slot != nullptr && slot->loaded) {
      RunLane(lane, lock);
      return true;
    }
  }
  if (!cutting_ && !all_cut_ && slots_.size() < maximum_slots_) {
    LoadNext(lock);
    return true;
  }
  return false;
}

void SegmentPipeline::RunLane(LaneState& lane, std::unique_lock<std::mutex>& lock) {
  Slot& slot = *SlotOf(lane.next);  // deque references outlive pushes at the end; it goes only when all lanes are done
  const LoadedSegment& loaded = *slot.loaded;
  lane.busy = true;
  lock.unlock();
  absl::Status status = lane.work(loaded);
  lock.lock();
  lane.busy = false;
  ++lane.next;
  std::vector<Slot> done;
  if (--slot.lanes_left == 0) {
    // Lanes go in order, so segments are done with in order.
    done.push_back(std::move(slots_.front()));
    slots_.pop_front();
    ++first_slot_;
  }
  if (!status.ok()) {
    Fail(status);
  }
  changed_.notify_all();
  lock.unlock();
  done.clear();  // gives the buffer back
  lock.lock();
}

void SegmentPipeline::LoadNext(std::unique_lock<std::mutex>& lock) {
  cutting_ = true;
  lock.unlock();
  absl::StatusOr<std::optional<Segment>> segment = cutter_.Next();
  BufferPool::Buffer buffer;
  if (segment.ok() && *segment) {
    buffer = buffers_.Take(LoadedSegment::BufferBytes(**segment), (*segment)->memory());
  }
  lock.lock();
  cutting_ = false;
  changed_.notify_all();
  if (!segment.ok()) {
    return Fail(segment.status());
  }
  if (!*segment) {
    all_cut_ = true;
    return;
  }
  Slot& slot = slots_.emplace_back(Slot{.loaded = nullptr, .lanes_left = lanes_.size()});
  lock.unlock();
  auto loaded = LoadedSegment::Load(plan_, shard_, **std::move(segment), std::move(buffer), settings_.quantization);
  lock.lock();
  if (!loaded.ok()) {
    return Fail(loaded.status());
  }
  slot.loaded = *std::move(loaded);
  changed_.notify_all();
}

void SegmentPipeline::Fail(const absl::Status& status) {
  status_.Update(status);
  changed_.notify_all();
}

SegmentPipeline::Slot* SegmentPipeline::SlotOf(std::int64_t number) {
  const std::int64_t index = number - first_slot_;
  return index >= 0 && index < static_cast<std::int64_t>(slots_.size()) ? &slots_[static_cast<std::size_t>(index)]
                                                                        : nullptr;
}

}  // namespace slipway::engine
