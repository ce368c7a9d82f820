#include "worker/engine/checkpoint/safetensors_header.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <limits>
#include <string>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "common/checked_math.h"
#include "common/error.h"

namespace slipway::engine {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little);

constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kMaximumRank = 16;
constexpr std::size_t kMaximumName = 4096;
constexpr std::size_t kLongestDType = 16;

// The JSON is read as a stream of events, so that a repeated name is seen and nothing is built
// from what is not expected.
//
// Where in the object a value stands:
//   depth 1: a name's value begins       depth 2: inside an entry, or inside "__metadata__"
//   depth 3: inside "shape" or "data_offsets"
class HeaderEvents final : public nlohmann::json_sax<json> {
 public:
  [[nodiscard]] const std::string& problem() const { return problem_; }
  [[nodiscard]] const std::string& name() const { return entry_.name; }
  [[nodiscard]] std::vector<SafetensorsEntry> TakeEntries() { return std::move(entries_); }

  bool start_object(std::size_t) override {
    if (depth_ >= 2 || (depth_ == 1 && in_array_)) {
      return Fail("has an object where none belongs");
    }
    ++depth_;
    if (depth_ == 2) {
      seen_ = {};
    }
    return true;
  }

  bool key(std::string& key) override {
    if (depth_ == 1) {
      if (key.size() > kMaximumName || !names_.insert(key).second) {
        return Fail(key.size() > kMaximumName ? "has a name that is too long" : "is there twice", key);
      }
      in_metadata_ = key == "__metadata__";
      entry_ = {};
      entry_.name = std::move(key);
      return true;
    }
    if (in_metadata_) {
      field_ = Field::kNone;
      return true;
    }
    for (const auto& [name, field] : {std::pair("dtype", Field::kDType), std::pair("shape", Field::kShape),
                                      std::pair("data_offsets", Field::kOffsets)}) {
      if (key == name) {
        field_ = field;
        return std::exchange(seen_[static_cast<std::size_t>(field)], true) ? Fail("has a field twice") : true;
      }
    }
    return Fail("has a field that is not dtype, shape or data_offsets");
  }

  bool end_object() override {
    --depth_;
    if (depth_ == 1 && !in_metadata_) {
      const bool complete = seen_[static_cast<std::size_t>(Field::kDType)] &&
                            seen_[static_cast<std::size_t>(Field::kShape)] && offsets_ == 2;
      if (!complete) {
        return Fail("lacks dtype, shape or data_offsets");
      }
      entries_.push_back(std::move(entry_));
      entry_ = {};
      offsets_ = 0;
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (depth_ != 2 || in_metadata_ || in_array_ || (field_ != Field::kShape && field_ != Field::kOffsets)) {
      return Fail("has a list where none belongs");
    }
    return in_array_ = true;
  }
  bool end_array() override {
    in_array_ = false;
    return true;
  }

  bool number_integer(number_integer_t) override { return Fail("has a negative number"); }
  bool number_unsigned(number_unsigned_t value) override {
    if (!in_array_ || std::cmp_greater(value, std::numeric_limits<std::int64_t>::max())) {
      return Fail("has a number where none belongs, or one that is too large");
    }
    const auto number = static_cast<std::int64_t>(value);
    if (field_ == Field::kShape) {
      entry_.shape.push_back(number);
      return entry_.shape.size() <= kMaximumRank ? true : Fail("has too many axes");
    }
    if (offsets_ == 2) {
      return Fail("has more than two data_offsets");
    }
    (offsets_++ == 0 ? entry_.begin : entry_.end) = number;
    return true;
  }

  bool string(string_t& value) override {
    if (depth_ == 2 && in_metadata_) {
      return true;
    }
    if (depth_ != 2 || in_array_ || field_ != Field::kDType) {
      return Fail("has a text where none belongs");
    }
    const auto dtype = DTypeFromSafetensorsName(value);
    if (!dtype) {
      return Fail(fmt::format("has the dtype {}, which is not read", value.substr(0, kLongestDType)));
    }
    entry_.dtype = *dtype;
    return true;
  }

  bool null() override { return Fail("has null where it does not belong"); }
  bool boolean(bool) override { return Fail("has a boolean where none belongs"); }
  bool number_float(number_float_t, const string_t&) override { return Fail("has a fraction or a number too large"); }
  bool binary(binary_t&) override { return Fail("has binary data"); }
  bool parse_error(std::size_t position, const std::string&, const json::exception&) override {
    problem_ = fmt::format("is not JSON at byte {} of the header", position);
    return false;
  }

 private:
  enum class Field : std::uint8_t { kDType, kShape, kOffsets, kNone };

  bool Fail(std::string_view problem, std::string_view name = {}) {
    problem_ = problem;
    if (!name.empty()) {
      entry_.name = name.substr(0, kMaximumName);
    }
    return false;
  }

  int depth_ = 0;
  bool in_array_ = false;
  bool in_metadata_ = false;
  Field field_ = Field::kNone;
  std::array<bool, 3> seen_{};
  int offsets_ = 0;
  SafetensorsEntry entry_;
  std::vector<SafetensorsEntry> entries_;
  std::unordered_set<std::string> names_;
  std::string problem_;
};

// The JSON's length in bytes, of a file that is `file_size` bytes long.
absl::StatusOr<std::int64_t> CheckLength(std::string_view prefix, std::int64_t file_size, const std::string& file) {
  if (prefix.size() < kLengthBytes) {
    return Error(Reason::kCheckpointCorrupt, "is too short to be a safetensors file", {.file = file, .offset = 0});
  }
  std::uint64_t length = 0;
  std::memcpy(&length, prefix.data(), kLengthBytes);
  if (std::cmp_greater(length, kMaximumSafetensorsHeader)) {
    return Error(Reason::kLimitExceeded,
                 fmt::format("its safetensors header says that it is {} bytes long; at most {} are read", length,
                             kMaximumSafetensorsHeader),
                 {.file = file, .offset = 0});
  }
  if (std::cmp_greater(length, file_size - static_cast<std::int64_t>(kLengthBytes))) {
    return Error(
        Reason::kCheckpointCorrupt,
        fmt::format("its safetensors header says that it is {} bytes long, in a file of {}", length, file_size),
        {.file = file, .offset = 0});
  }
  return static_cast<std::int64_t>(length);
}

// Sizes fit shapes; the tensors fill the file behind the header one after the other.
absl::Status CheckEntries(const SafetensorsHeader& header, std::int64_t file_size, const std::string& file) {
  std::int64_t position = 0;
  for (const SafetensorsEntry& entry : header.entries) {
    const auto corrupt = [&](const std::string& what) {
      return Error(Reason::kCheckpointCorrupt, what,
                   {.tensor = entry.name, .file = file, .offset = header.data_position});
    };
    const auto elements = CheckedVolume(entry.shape);
    const auto bytes = elements ? CheckedMultiply(*elements, InfoOf(entry.dtype).bytes) : std::nullopt;
    if (entry.end < entry.begin || bytes != entry.end - entry.begin) {
      return corrupt(fmt::format("bytes [{}, {}) are not what {} [{}] takes", entry.begin, entry.end,
                                 InfoOf(entry.dtype).safetensors_name, fmt::join(entry.shape, ", ")));
    }
    if (entry.begin != position) {
      return corrupt(fmt::format("begins at {} where the tensor before it ends at {}: {}", entry.begin, position,
                                 entry.begin < position ? "they overlap" : "there is a hole"));
    }
    position = entry.end;
  }
  if (position != file_size - header.data_position) {
    return Error(
        Reason::kCheckpointCorrupt,
        fmt::format("its tensors take {} bytes, behind the header are {}", position, file_size - header.data_position),
        {.file = file, .offset = header.data_position});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view bytes, std::int64_t file_size,
                                                         const std::string& file) {
  SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t length, CheckLength(bytes, file_size, file));
  const std::string_view text = bytes.substr(kLengthBytes, static_cast<std::size_t>(length));
  if (std::cmp_not_equal(text.size(), length) || text.empty() || text.front() != '{') {
    return Error(Reason::kCheckpointCorrupt, "its safetensors header is not a JSON object",
                 {.file = file, .offset = kLengthBytes});
  }
  HeaderEvents events;
  if (!json::sax_parse(text.begin(), text.end(), &events)) {
    return Error(Reason::kCheckpointCorrupt, fmt::format("its safetensors header {}", events.problem()),
                 {.tensor = events.name(), .file = file, .offset = kLengthBytes});
  }
  SafetensorsHeader header{.data_position = static_cast<std::int64_t>(kLengthBytes) + length,
                           .entries = events.TakeEntries()};
  std::ranges::sort(header.entries, {},
                    [](const SafetensorsEntry& entry) { return std::pair(entry.begin, entry.end); });
  SLIPWAY_RETURN_IF_ERROR(CheckEntries(header, file_size, file));
  return header;
}

absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(const SourceFile& file) {
  std::string bytes(static_cast<std::size_t>(std::min<std::int64_t>(file.size(), kLengthBytes)), '\0');
  SLIPWAY_RETURN_IF_ERROR(file.ReadAt(0, std::as_writable_bytes(std::span(bytes))));
  SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t length, CheckLength(bytes, file.size(), file.name()));
  bytes.resize(kLengthBytes + static_cast<std::size_t>(length));
  SLIPWAY_RETURN_IF_ERROR(file.ReadAt(kLengthBytes, std::as_writable_bytes(std::span(bytes)).subspan(kLengthBytes)));
  return ParseSafetensorsHeader(bytes, file.size(), file.name());
}

}  // namespace slipway::engine
