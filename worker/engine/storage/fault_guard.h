// Why a mapped file needs a signal handler: the kernel reports a page that cannot be read (the file was truncated, the
// disk failed) as SIGBUS at the instruction that touched it, and the default is to kill the process. A worker holds
// many exports; one bad file must cost one of them only. There is no other way to learn of it, and signal handlers are
// per process, so this is the one place in the engine with state of the process: a fixed, lock-free table of the
// ranges that are guarded now.
//
// The handler, installed when the first range is guarded, looks the fault's address up. Inside a guarded range it lays
// zero pages over the rest of that range, marks it faulted, and the interrupted instruction goes on. Any other address
// goes to the handler that was there before.
//
// System calls that read a guarded range (write, writev) raise no signal; they fail with EFAULT.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace slipway::engine {

// A registered address range; unregisters when destroyed, which must be before the range is unmapped. Movable.
class GuardedRange {
 public:
  static constexpr std::size_t kMaximumRanges = 4096;  // live at once in the process

  // `start` is page-aligned, `length` a multiple of the page size. nullopt where the table is full.
  static std::optional<GuardedRange> Register(void* start, std::size_t length);
  GuardedRange(GuardedRange&& other) noexcept;
  GuardedRange& operator=(GuardedRange&& other) = delete;
  ~GuardedRange();

  [[nodiscard]] bool faulted() const;

 private:
  explicit GuardedRange(std::size_t slot) : slot_(slot) {}
  std::size_t slot_;
};

}  // namespace slipway::engine
