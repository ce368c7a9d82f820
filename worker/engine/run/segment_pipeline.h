// Brings segments in and hands each of them to every lane. A lane takes the segments one at a time in file order (a
// digest must; a file's writes are no faster side by side); lanes run beside each other and beside loading.
//
// Budget: segments get their grants in file order, before they are loaded. So whoever waits for a grant waits only for
// segments before it, and those need nothing more to be finished: waiting always ends, in any budget that holds one
// segment, whatever else takes from it by the same rule.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/engine/run/buffer_pool.h"
#include "worker/engine/run/loaded_segment.h"
#include "worker/engine/run/memory_budget.h"
#include "worker/engine/run/segment_cutter.h"

namespace slipway::engine {

class SegmentPipeline {
 public:
  using Lane = std::function<absl::Status(const LoadedSegment&)>;

  struct Settings {
    MemoryBudget* memory = nullptr;
    int threads = 1;                             // at most
    std::function<int()> share = {};             // how many of them may work now, asked now and then; null: all
    std::function<bool()> cancelled;             // asked before each step, from any thread
    BufferPool* buffers = nullptr;               // of `memory`, or null: one of its own
    const Quantization* quantization = nullptr;  // where the shard has quantized outputs
  };

  // Refers to the plan and the cutter. Lanes are listed by urgency: the one that takes longest first.
  SegmentPipeline(const ExportPlan& plan, const Shard& shard, SegmentCutter& cutter, std::vector<Lane> lanes,
                  Settings settings);

  // Runs to the end on the calling thread and settings.threads - 1 others. The first error, or CANCELLED. Call once.
  absl::Status Run();

 private:
  struct Slot {
    std::unique_ptr<const LoadedSegment> loaded;  // null while loading
    std::size_t lanes_left = 0;
  };
  struct LaneState {
    Lane work;
    std::int64_t next = 0;  // number of the segment it takes next
    bool busy = false;
  };

  // `number` counts the threads: those from the share on wait until it has grown.
  void Work(int number);
  // One step of whatever can be done now. False: nothing can until another thread's step ends.
  bool Step(std::unique_lock<std::mutex>& lock);
  void RunLane(LaneState& lane, std::unique_lock<std::mutex>& lock);
  void LoadNext(std::unique_lock<std::mutex>& lock);
  void Fail(const absl::Status& status);
  [[nodiscard]] Slot* SlotOf(std::int64_t number);

  const ExportPlan& plan_;
  const Shard& shard_;
  SegmentCutter& cutter_;  // used by the thread that set cutting_
  const Settings settings_;
  BufferPool own_buffers_;  // where none is given
  BufferPool& buffers_;     // outlives slots_
  const std::size_t maximum_slots_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable ended_;  // for threads beyond the share
  // Guarded by mutex_:
  absl::Status status_;
  std::vector<LaneState> lanes_;
  std::deque<Slot> slots_;       // segments cut and not done with, in file order
  std::int64_t first_slot_ = 0;  // number of slots_.front()
  bool cutting_ = false;
  bool all_cut_ = false;
};

}  // namespace slipway::engine
