// Headers of safetensors files: whatever the bytes, an answer or an error.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "common/error.h"
#include "worker/engine/write/safetensors.h"

namespace {

using slipway::Error;
using slipway::FileIdentity;
using slipway::Reason;

class MemoryFile final : public slipway::engine::SourceFile {
 public:
  explicit MemoryFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] std::int64_t size() const override { return static_cast<std::int64_t>(bytes_.size()); }
  [[nodiscard]] FileIdentity identity() const override { return {}; }
  [[nodiscard]] absl::StatusOr<FileIdentity> CurrentIdentity() const override { return FileIdentity{}; }
  [[nodiscard]] absl::Status ReadAt(std::int64_t offset, std::span<std::byte> bytes) const override {
    if (offset < 0 || offset > size() || static_cast<std::int64_t>(bytes.size()) > size() - offset) {
      return Error(Reason::kCheckpointCorrupt, "past the end");
    }
    std::ranges::copy(bytes_.subspan(static_cast<std::size_t>(offset), bytes.size()), bytes.begin());
    return absl::OkStatus();
  }
  [[nodiscard]] absl::StatusOr<slipway::engine::Window> Map(std::int64_t, std::int64_t) const override {
    return Error(Reason::kInternal, "not mapped here");
  }

 private:
  std::string name_ = "fuzzed";
  std::span<const std::byte> bytes_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const MemoryFile file(std::as_bytes(std::span(data, size)));
  const auto header = slipway::engine::ReadSafetensorsHeader(file);
  if (!header.ok()) {
    return 0;
  }
  // What was accepted describes the file exactly.
  std::int64_t position = header->data_position;
  for (const auto& entry : header->entries) {
    if (header->data_position + entry.begin != position || entry.end < entry.begin) {
      __builtin_trap();
    }
    position = header->data_position + entry.end;
  }
  if (position != file.size()) {
    __builtin_trap();
  }
  return 0;
}
