// Windows on bytes that are in memory already.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "worker/engine/storage/source.h"

namespace slipway::engine {

// A window that owns its bytes; Check() is always OK.
inline Window OwningWindow(std::vector<std::byte> bytes) {
  class Owned final : public Window::Backing {
   public:
    explicit Owned(std::vector<std::byte> owned) : bytes(std::move(owned)) {}
    [[nodiscard]] absl::Status Check() const override { return absl::OkStatus(); }
    std::vector<std::byte> bytes;
  };
  auto backing = std::make_unique<Owned>(std::move(bytes));
  const std::span<const std::byte> view = backing->bytes;
  return Window(view, std::move(backing));
}

}  // namespace slipway::engine
