#include "worker/engine/quantize/ranges.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/error.h"
#include "worker/engine/checkpoint/safetensors_header.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {
namespace {

// More than a range of each module, and of each input channel, of any model takes.
constexpr std::int64_t kMaximumFile = std::int64_t{1} << 30;
constexpr std::size_t kMaximumTensors = 4'000'000;

enum class Kind : std::uint8_t { kInput, kKey, kValue };

struct Ending {
  std::string_view text;
  Kind kind;
};
constexpr auto kEndings =
    std::to_array<Ending>({{".input_amax", Kind::kInput}, {".k_amax", Kind::kKey}, {".v_amax", Kind::kValue}});

absl::Status Invalid(std::string_view message, const SafetensorsEntry& entry, const SourceFile& file) {
  return Error(Reason::kInvalidArgument, message, {.tensor = entry.name, .file = file.name()});
}

absl::StatusOr<std::vector<float>> ReadValues(const SafetensorsEntry& entry, std::int64_t data_position,
                                              const SourceFile& file) {
  std::vector<float> values(static_cast<std::size_t>(entry.end - entry.begin) / sizeof(float));
  SLIPWAY_RETURN_IF_ERROR(file.ReadAt(data_position + entry.begin, std::as_writable_bytes(std::span(values))));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i]) && values[i] > 0) {
      continue;
    }
    const std::string place = entry.shape.empty() ? std::string() : fmt::format(" at {}", i);
    return Invalid(values[i] == 0 ? fmt::format("the range{} is 0: nothing went through it when it was measured", place)
                                  : fmt::format("the range{} is {}: it must be finite and above 0", place, values[i]),
                   entry, file);
  }
  return values;
}

absl::Status AddRange(const SafetensorsEntry& entry, std::int64_t data_position, const SourceFile& file,
                      Ranges& ranges) {
  const auto* const ending = std::ranges::find_if(
      kEndings, [&entry](const Ending& row) { return std::string_view(entry.name).ends_with(row.text); });
  if (ending == kEndings.end() || entry.name.size() == ending->text.size()) {
    return Invalid("is none of MODULE.input_amax, MODULE.k_amax and MODULE.v_amax", entry, file);
  }
  if (entry.dtype != DType::kF32) {
    return Invalid(fmt::format("is {}: ranges are F32", InfoOf(entry.dtype).safetensors_name), entry, file);
  }
  const bool is_input = ending->kind == Kind::kInput;
  if (entry.shape.size() > (is_input ? 1 : 0) || entry.end == entry.begin) {
    return Invalid(fmt::format("has shape [{}]: {}", fmt::join(entry.shape, ", "),
                               is_input ? "it is one value [], or one an input channel" : "it is one value []"),
                   entry, file);
  }
  SLIPWAY_ASSIGN_OR_RETURN(std::vector<float> values, ReadValues(entry, data_position, file));
  std::string module = entry.name.substr(0, entry.name.size() - ending->text.size());
  if (is_input) {
    ranges.modules[std::move(module)].input_amax = std::move(values);
  } else {
    AttentionRanges& attention = ranges.attention[std::move(module)];
    (ending->kind == Kind::kKey ? attention.key_amax : attention.value_amax) = values.front();
  }
  return absl::OkStatus();
}

absl::StatusOr<Ranges> ReadFrom(const SourceFile& file) {
  if (file.size() > kMaximumFile) {
    return Error(Reason::kInvalidArgument,
                 fmt::format("has {} bytes; ranges of any model take less than {}", file.size(), kMaximumFile),
                 {.file = file.name()});
  }
  SLIPWAY_ASSIGN_OR_RETURN(const SafetensorsHeader header, ReadSafetensorsHeader(file));
  if (header.entries.size() > kMaximumTensors) {
    return Error(Reason::kInvalidArgument,
                 fmt::format("has {} tensors; at most {} are read", header.entries.size(), kMaximumTensors),
                 {.file = file.name()});
  }
  if (header.entries.empty()) {
    return Error(Reason::kInvalidArgument, "has no ranges", {.file = file.name()});
  }
  Ranges ranges;
  for (const SafetensorsEntry& entry : header.entries) {
    SLIPWAY_RETURN_IF_ERROR(AddRange(entry, header.data_position, file, ranges));
  }
  return ranges;
}

}  // namespace

absl::StatusOr<Ranges> ReadRanges(const std::string& path) {
  absl::StatusOr<Ranges> ranges = [&]() -> absl::StatusOr<Ranges> {
    std::error_code error;  // links are followed: the path is the user's
    const std::filesystem::path place = std::filesystem::canonical(path, error);
    if (error) {
      return Error(Reason::kInvalidArgument, fmt::format("--ranges: {}", error.message()), {.file = path});
    }
    SLIPWAY_ASSIGN_OR_RETURN(const auto directory, OpenLocalDirectory(place.parent_path().string()));
    SLIPWAY_ASSIGN_OR_RETURN(const auto file, directory->Open(place.filename().string()));
    return ReadFrom(*file);
  }();
  if (ranges.ok()) {
    ranges->origin = fmt::format("--ranges {}", path);
    return ranges;
  }
  const absl::Status status = AddWhere(ranges.status(), {.file = path});
  const Reason reason = ReasonOf(status);
  // The readers take every file for a checkpoint's; that it cannot be read now is no fault of its content.
  return reason == Reason::kInvalidArgument || reason == Reason::kCheckpointUnreadable
             ? status
             : Error(Reason::kInvalidArgument, fmt::format("--ranges: {}", std::string(status.message())),
                     WhereOf(status));
}

}  // namespace slipway::engine
