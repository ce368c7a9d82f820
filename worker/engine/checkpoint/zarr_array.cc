#include "worker/engine/checkpoint/zarr_array.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "common/checked_math.h"
#include "common/error.h"

namespace slipway::engine {
namespace {

using nlohmann::json;

constexpr std::size_t kMaximumRank = 16;
constexpr std::int64_t kMaximumChunks = 1'000'000;

// numpy's names, and the one that Megatron writes for a type that numpy has not.
struct ElementType {
  std::string_view name;
  DType dtype;
};
constexpr std::array kElementTypes = std::to_array<ElementType>({
    {"bfloat16", DType::kBF16},
    {"<f2", DType::kF16},
    {"<f4", DType::kF32},
    {"<f8", DType::kF64},
    {"|b1", DType::kBool},
    {"|u1", DType::kU8},
    {"|i1", DType::kI8},
    {"<u2", DType::kU16},
    {"<i2", DType::kI16},
    {"<u4", DType::kU32},
    {"<i4", DType::kI32},
    {"<u8", DType::kU64},
    {"<i8", DType::kI64},
});

absl::Status Corrupt(std::string_view message) { return Error(Reason::kCheckpointCorrupt, message); }

json Field(const json& array, const char* name) {
  const auto found = array.find(name);
  return found == array.end() ? json() : *found;
}

absl::StatusOr<Shape> ReadExtents(const json& array, const char* name) {
  const json extents = Field(array, name);
  if (!extents.is_array() || extents.size() > kMaximumRank) {
    return Corrupt(fmt::format("\"{}\" is no list of a few numbers", name));
  }
  Shape shape;
  for (const json& extent : extents) {
    // Above the largest signed number, get() would wrap around.
    const bool fits = extent.is_number_unsigned()
                          ? extent.get<std::uint64_t>() <= std::numeric_limits<std::int64_t>::max()
                          : extent.is_number_integer() && extent.get<std::int64_t>() >= 0;
    if (!fits) {
      return Corrupt(fmt::format("\"{}\" has a negative number, or one that is no 64-bit integer", name));
    }
    shape.push_back(extent.get<std::int64_t>());
  }
  return shape;
}

// What Megatron never writes, and what reading it would take.
absl::Status CheckEncoding(const json& array) {
  const auto unsupported = [](std::string_view what, const json& value) {
    return Error(Reason::kCheckpointUnsupported,
                 fmt::format("{} {}", what, value.dump(-1, ' ', false, json::error_handler_t::replace)));
  };
  if (Field(array, "zarr_format") != 2) {
    return unsupported("zarr format", Field(array, "zarr_format"));
  }
  if (!Field(array, "compressor").is_null()) {
    return unsupported("the chunks are compressed:", Field(array, "compressor"));
  }
  if (const json filters = Field(array, "filters"); !filters.is_null() && filters != json::array()) {
    return unsupported("the chunks went through filters:", filters);
  }
  if (Field(array, "order") != "C") {
    return unsupported("elements in the order", Field(array, "order"));
  }
  if (const json separator = Field(array, "dimension_separator"); !separator.is_null() && separator != ".") {
    return unsupported("chunk names with the separator", separator);
  }
  return absl::OkStatus();
}

absl::Status MakeGrid(ZarrArray& array) {
  if (array.chunk.size() != array.shape.size()) {
    return Corrupt(fmt::format("chunks of rank {} for a tensor of rank {}", array.chunk.size(), array.shape.size()));
  }
  for (std::size_t axis = 0; axis < array.shape.size(); ++axis) {
    if (array.chunk[axis] == 0 && array.shape[axis] != 0) {
      return Corrupt("chunks without elements");
    }
    array.grid.push_back(array.shape[axis] == 0 ? 0 : (array.shape[axis] - 1) / array.chunk[axis] + 1);
  }
  const auto volume = CheckedVolume(array.shape);
  const auto chunk_volume = CheckedVolume(array.chunk);
  const auto chunk_bytes = chunk_volume ? CheckedMultiply(*chunk_volume, InfoOf(array.dtype).bytes) : std::nullopt;
  if (!volume || !CheckedMultiply(*volume, InfoOf(array.dtype).bytes) || !chunk_bytes) {
    return Corrupt(fmt::format("a tensor of [{}] in chunks of [{}] is larger than any memory",
                               fmt::join(array.shape, ", "), fmt::join(array.chunk, ", ")));
  }
  array.chunk_count = *volume == 0 ? 0 : CheckedVolume(array.grid).value_or(kMaximumChunks + 1);
  array.chunk_bytes = *chunk_bytes;
  if (array.chunk_count > kMaximumChunks) {
    return Error(Reason::kLimitExceeded, fmt::format("the tensor has more than {} chunks", kMaximumChunks));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ZarrArray> ParseZarrArray(std::string_view text) {
  const json description = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!description.is_object()) {
    return Corrupt("the description of the array is no JSON object");
  }
  SLIPWAY_RETURN_IF_ERROR(CheckEncoding(description));
  const json type = Field(description, "dtype");
  const std::string name = type.is_string() ? type.get<std::string>() : std::string();
  const auto* const row = std::ranges::find(kElementTypes, name, &ElementType::name);
  if (row == kElementTypes.end()) {
    return Error(Reason::kCheckpointUnsupported, fmt::format("elements of type \"{}\"", name));
  }
  ZarrArray array;
  array.dtype = row->dtype;
  SLIPWAY_ASSIGN_OR_RETURN(array.shape, ReadExtents(description, "shape"));
  SLIPWAY_ASSIGN_OR_RETURN(array.chunk, ReadExtents(description, "chunks"));
  SLIPWAY_RETURN_IF_ERROR(MakeGrid(array));
  return array;
}

std::string ZarrChunkName(const Shape& index) {
  return index.empty() ? std::string("0") : fmt::format("{}", fmt::join(index, "."));
}

bool IsZarrChunkName(std::string_view name) {
  return !name.empty() && name.find_first_not_of("0123456789.") == std::string_view::npos && name.front() != '.';
}

}  // namespace slipway::engine
