#include "worker/engine/storage/fault_guard.h"

#include <signal.h>  // NOLINT(modernize-deprecated-headers): sigaction is not in <csignal>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <mutex>

namespace slipway::engine {
namespace {

constexpr std::size_t kNoSlot = GuardedRange::kMaximumRanges;

// `start` is 0 where the slot is free and 1 while it is being filled; no mapping begins at either.
struct alignas(64) Slot {
  std::atomic<std::uintptr_t> start{0};
  std::atomic<std::uintptr_t> end{0};
  std::atomic<bool> faulted{false};
};
static_assert(std::atomic<std::uintptr_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

constinit std::array<Slot, GuardedRange::kMaximumRanges> slots;
constinit std::atomic<std::size_t> next_slot{0};
struct sigaction previous_action;
std::uintptr_t page_size = 4096;

void CallPreviousHandler(int signal_number, siginfo_t* information, void* context) {
  if ((previous_action.sa_flags & SA_SIGINFO) != 0) {
    previous_action.sa_sigaction(signal_number, information, context);
  } else if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
    previous_action.sa_handler(signal_number);
  } else {
    ::signal(signal_number, SIG_DFL);  // the instruction faults again and the process ends as it would have
    if (information->si_code <= 0) {   // sent by a process: there is no instruction to fault again
      ::raise(signal_number);
    }
  }
}

// Async-signal-safe: atomics and one system call.
void HandleBusError(int signal_number, siginfo_t* information, void* context) {
  const auto address = reinterpret_cast<std::uintptr_t>(information->si_addr);
  for (Slot& slot : slots) {
    const std::uintptr_t start = slot.start.load(std::memory_order_acquire);
    const std::uintptr_t end = slot.end.load(std::memory_order_acquire);
    if (start > 1 && address >= start && address < end) {
      const std::uintptr_t page = address & ~(page_size - 1);
      void* const mapped = ::mmap(reinterpret_cast<void*>(page), end - page, PROT_READ,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
      if (mapped != MAP_FAILED) {
        slot.faulted.store(true, std::memory_order_release);
        return;
      }
    }
  }
  CallPreviousHandler(signal_number, information, context);
}

void InstallHandler() {
  page_size = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  struct sigaction action = {};
  action.sa_sigaction = HandleBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, &previous_action);
}

}  // namespace

std::optional<GuardedRange> GuardedRange::Register(void* start, std::size_t length) {
  static std::once_flag installed;
  std::call_once(installed, InstallHandler);
  const auto address = reinterpret_cast<std::uintptr_t>(start);
  const std::size_t first = next_slot.fetch_add(1, std::memory_order_relaxed);
  for (std::size_t i = 0; i < kMaximumRanges; ++i) {
    Slot& slot = slots[(first + i) % kMaximumRanges];
    std::uintptr_t expected = 0;
    if (slot.start.compare_exchange_strong(expected, 1, std::memory_order_acquire)) {
      slot.faulted.store(false, std::memory_order_relaxed);
      slot.end.store(address + length, std::memory_order_release);
      slot.start.store(address, std::memory_order_release);
      return GuardedRange((first + i) % kMaximumRanges);
    }
  }
  return std::nullopt;
}

GuardedRange::GuardedRange(GuardedRange&& other) noexcept : slot_(other.slot_) { other.slot_ = kNoSlot; }

GuardedRange::~GuardedRange() {
  if (slot_ != kNoSlot) {
    slots[slot_].end.store(0, std::memory_order_release);
    slots[slot_].start.store(0, std::memory_order_release);
  }
}

bool GuardedRange::faulted() const { return slots[slot_].faulted.load(std::memory_order_acquire); }

}  // namespace slipway::engine
