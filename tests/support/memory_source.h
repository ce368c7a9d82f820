// A file in memory, for tests and fuzz targets of readers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.h"
#include "worker/engine/storage/memory_window.h"
#include "worker/engine/storage/source.h"

namespace slipway::test {

class MemoryFile final : public engine::SourceFile {
 public:
  explicit MemoryFile(std::string bytes, std::string name = "memory")
      : bytes_(std::move(bytes)), name_(std::move(name)) {}

  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] std::int64_t size() const override { return static_cast<std::int64_t>(bytes_.size()); }
  [[nodiscard]] FileIdentity identity() const override { return {.size = size()}; }
  [[nodiscard]] absl::StatusOr<FileIdentity> CurrentIdentity() const override { return identity(); }

  [[nodiscard]] absl::Status ReadAt(std::int64_t offset, std::span<std::byte> bytes) const override {
    const auto length = static_cast<std::int64_t>(bytes.size());
    if (offset < 0 || offset > size() || length > size() - offset) {
      return Error(Reason::kCheckpointCorrupt, "past the end of the file", {.file = name_, .offset = offset});
    }
    if (length > 0) {
      std::memcpy(bytes.data(), bytes_.data() + offset, bytes.size());
    }
    return absl::OkStatus();
  }

  [[nodiscard]] absl::StatusOr<engine::Window> Map(std::int64_t offset, std::int64_t length) const override {
    std::vector<std::byte> copy(static_cast<std::size_t>(std::max<std::int64_t>(0, std::min(length, size()))));
    SLIPWAY_RETURN_IF_ERROR(ReadAt(offset, copy));
    return engine::OwningWindow(std::move(copy));
  }

 private:
  std::string bytes_;
  std::string name_;
};

inline engine::Window WindowOn(std::string_view bytes) {
  const auto view = std::as_bytes(std::span(bytes));
  return engine::OwningWindow({view.begin(), view.end()});
}

}  // namespace slipway::test
