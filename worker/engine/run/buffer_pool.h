// The buffers that segments are read into. They are used again: memory that is new to the process costs a page fault
// for every page. Of those that fit, a thread takes the one that it gave back last, which is still in its processor's
// cache, before one that another thread has in its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <thread>

#include "worker/engine/quantize/cuda/pinned_memory.h"
#include "worker/engine/run/memory_budget.h"

namespace slipway::engine {

// Thread-safe. Outlives its buffers. Buffers that nobody uses keep their part of the budget, but whoever waits for the
// budget here keeps none of them: waiting ends as if there were no pool.
class BufferPool {
 public:
  // With `pinned`, buffers are of memory that a GPU reads and writes directly, as far as the system gives it.
  explicit BufferPool(MemoryBudget& memory, bool pinned = false) : memory_(memory), pinned_(pinned) {}
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // Page-aligned memory of any content, and what it takes from the budget. Goes back to its pool. Movable.
  class Buffer {
   public:
    Buffer() = default;
    Buffer(Buffer&& other) noexcept;
    Buffer& operator=(Buffer&& other) noexcept;
    ~Buffer();
    [[nodiscard]] std::byte* begin() const { return bytes_ ? bytes_.get() : pinned_.bytes().data(); }

   private:
    friend class BufferPool;
    struct Free {
      void operator()(std::byte* bytes) const;
    };
    BufferPool* pool_ = nullptr;
    MemoryBudget::Grant grant_;
    std::unique_ptr<std::byte[], Free> bytes_;
    PinnedMemory pinned_;  // instead
    std::int64_t size_ = 0;
    std::int64_t granted_ = 0;
    std::thread::id user_;  // who gave it back
  };

  // A buffer of at least `bytes`; its holder may use `memory` bytes (at least `bytes`) with it. `memory` must not
  // exceed the budget's total. Waits for the budget, see MemoryBudget::Acquire.
  [[nodiscard]] Buffer Take(std::int64_t bytes, std::int64_t memory);

 private:
  // Frees the buffers that nobody uses.
  void Drop();
  void GiveBack(Buffer& buffer);

  MemoryBudget& memory_;
  const bool pinned_;
  std::mutex mutex_;
  int waiting_ = 0;         // guarded by mutex_
  std::list<Buffer> idle_;  // guarded by mutex_; the last was used last
};

}  // namespace slipway::engine
