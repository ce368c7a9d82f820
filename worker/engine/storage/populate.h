// Pages of a window, mapped in one go.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace slipway::engine {

// Maps a window's pages in one go rather than fault by fault. A hint: pages that cannot be read show up when used.
inline void Populate([[maybe_unused]] std::span<const std::byte> bytes) {
#ifdef MADV_POPULATE_READ
  static const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
  const std::uintptr_t start = address / page * page;
  static_cast<void>(::madvise(reinterpret_cast<void*>(start), address + bytes.size() - start, MADV_POPULATE_READ));
#endif
}

}  // namespace slipway::engine
