#include "worker/engine/write/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/checked_math.h"
#include "common/error.h"

namespace slipway::engine {
namespace {

static_assert(std::endian::native == std::endian::little, "lengths and elements are written as they are in memory");

constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kAlignment = 64;

std::optional<std::int64_t> BytesOf(const SafetensorsEntry& entry) {
  const auto elements = CheckedVolume(entry.shape);
  return elements ? CheckedMultiply(*elements, InfoOf(entry.dtype).bytes) : std::nullopt;
}

void AppendEntry(const SafetensorsEntry& entry, std::string& text) {
  // Only the name can hold what JSON escapes.
  text += nlohmann::json(entry.name).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  fmt::format_to(std::back_inserter(text), R"(:{{"dtype":"{}","shape":[)", InfoOf(entry.dtype).safetensors_name);
  for (std::size_t axis = 0; axis < entry.shape.size(); ++axis) {
    fmt::format_to(std::back_inserter(text), "{}{}", axis == 0 ? "" : ",", entry.shape[axis]);
  }
  fmt::format_to(std::back_inserter(text), R"(],"data_offsets":[{},{}]}})", entry.begin, entry.end);
}

}  // namespace

absl::StatusOr<std::string> MakeSafetensorsHeader(std::span<SafetensorsEntry> entries) {
  std::string text(kLengthBytes, '\0');
  text += R"({"__metadata__":{"format":"pt"})";
  std::int64_t position = 0;
  for (SafetensorsEntry& entry : entries) {
    const auto bytes = BytesOf(entry);
    const auto end = bytes ? CheckedAdd(position, *bytes) : std::nullopt;
    if (!end) {
      return Error(Reason::kLimitExceeded, "a safetensors file cannot hold 2^63 bytes", {.tensor = entry.name});
    }
    entry.begin = std::exchange(position, *end);
    entry.end = *end;
    text += ',';
    AppendEntry(entry, text);
  }
  text += '}';
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  const std::uint64_t length = text.size() - kLengthBytes;
  if (std::cmp_greater(length, kMaximumSafetensorsHeader)) {
    return Error(
        Reason::kLimitExceeded,
        fmt::format("a safetensors header of {} bytes is longer than the {} that consumers take: smaller files "
                    "are needed (--max-shard-size)",
                    length, kMaximumSafetensorsHeader));
  }
  std::memcpy(text.data(), &length, kLengthBytes);
  return text;
}

}  // namespace slipway::engine
