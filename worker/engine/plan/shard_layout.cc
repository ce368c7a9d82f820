#include "worker/engine/plan/shard_layout.h"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/write/safetensors.h"

namespace slipway::engine {
namespace {

// An upper bound of what a tensor adds to the header, so that the limit holds for whole files.
std::int64_t HeaderBytes(const OutputTensor& tensor) {
  constexpr std::int64_t kFixedText = 128;  // quotes, keys, dtype, two offsets
  constexpr std::int64_t kNumberText = 21;
  return static_cast<std::int64_t>(tensor.name.size()) + kFixedText +
         kNumberText * static_cast<std::int64_t>(tensor.shape.size());
}

constexpr std::int64_t kEmptyHeader = 128;

// Consumers view tensors in place, so each begins at a multiple of its element. Where one does not in its order,
// tensors of larger elements go first; but a Hugging Face directory that is not quantized keeps its order.
void Align(std::span<OutputTensor> tensors, bool is_rank) {
  std::int64_t position = 0;
  bool aligned = !is_rank &&
                 std::ranges::none_of(tensors, [](const OutputTensor& tensor) { return tensor.quantized.has_value(); });
  if (aligned) {
    return;
  }
  aligned = true;
  for (const OutputTensor& tensor : tensors) {
    aligned = aligned && position % InfoOf(tensor.dtype).bytes == 0;
    position += tensor.bytes;
  }
  if (!aligned) {
    std::ranges::stable_sort(tensors, std::greater(),
                             [](const OutputTensor& tensor) { return InfoOf(tensor.dtype).bytes; });
  }
}

absl::Status Finish(std::span<OutputTensor> tensors, std::int32_t number, Shard& shard) {
  std::vector<SafetensorsEntry> entries;
  entries.reserve(tensors.size());
  for (const OutputTensor& tensor : tensors) {
    entries.push_back({.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape});
  }
  SLIPWAY_ASSIGN_OR_RETURN(shard.header, MakeSafetensorsHeader(entries));
  const auto base = static_cast<std::int64_t>(shard.header.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].shard = number;
    tensors[i].file_offset = base + entries[i].begin;
  }
  shard.bytes = base + entries.back().end;
  return absl::OkStatus();
}

// Tensors [first, first + count) in shards of at most `maximum_bytes`, which have no names yet.
void Divide(const std::vector<OutputTensor>& tensors, std::int32_t first, std::int32_t count,
            std::int64_t maximum_bytes, std::vector<Shard>& shards) {
  std::int64_t bytes = 0;
  for (std::int32_t i = first; i < first + count; ++i) {
    const OutputTensor& tensor = tensors[static_cast<std::size_t>(i)];
    const std::int64_t header = HeaderBytes(tensor);
    // Written as a difference, so that it cannot overflow.
    if (i == first || tensor.bytes > maximum_bytes - bytes - header) {
      shards.push_back({.file = {}, .header = {}, .bytes = 0, .first_tensor = i});
      bytes = kEmptyHeader;
    }
    bytes = std::min(maximum_bytes, bytes + header) + std::min(tensor.bytes, maximum_bytes);
    ++shards.back().tensor_count;
  }
}

absl::Status FinishAll(std::vector<OutputTensor>& tensors, std::vector<Shard>& shards) {
  for (std::size_t i = 0; i < shards.size(); ++i) {
    Shard& shard = shards[i];
    const auto members = std::span(tensors).subspan(static_cast<std::size_t>(shard.first_tensor),
                                                    static_cast<std::size_t>(shard.tensor_count));
    Align(members, shard.is_rank);
    SLIPWAY_RETURN_IF_ERROR(Finish(members, static_cast<std::int32_t>(i), shard));
  }
  return absl::OkStatus();
}

}  // namespace

std::int64_t ShardLimit(const ExportOptions& options, bool quantized) {
  constexpr std::int64_t kUsual = 5'000'000'000;
  constexpr std::int64_t kQuantized = 1'000'000'000;
  if (options.maximum_shard_bytes != 0) {
    return options.maximum_shard_bytes;
  }
  return quantized ? kQuantized : kUsual;
}

absl::StatusOr<std::vector<Shard>> LayOutShards(std::vector<OutputTensor>& tensors, std::int64_t maximum_bytes) {
  std::vector<Shard> shards;
  Divide(tensors, 0, static_cast<std::int32_t>(tensors.size()), maximum_bytes, shards);
  for (std::size_t i = 0; i < shards.size(); ++i) {
    shards[i].file = shards.size() == 1 ? "model.safetensors"
                                        : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
  }
  SLIPWAY_RETURN_IF_ERROR(FinishAll(tensors, shards));
  return shards;
}

absl::StatusOr<std::vector<Shard>> LayOutFiles(const std::vector<NamedFile>& files, std::vector<OutputTensor>& tensors,
                                               std::int64_t maximum_bytes) {
  constexpr std::string_view kPart = "{part}";
  std::vector<Shard> shards;
  std::int32_t next = 0;
  for (const NamedFile& file : files) {
    if (file.tensor_count < 1 || std::cmp_greater(next + file.tensor_count, tensors.size())) {
      return Error(Reason::kInternal, "a file of the plan has no tensors", {.file = file.name});
    }
    const std::size_t before = shards.size();
    const std::size_t part = file.name.find(kPart);
    const bool whole = part == std::string::npos;
    Divide(tensors, next, file.tensor_count, whole ? std::numeric_limits<std::int64_t>::max() : maximum_bytes, shards);
    for (std::size_t i = before; i < shards.size(); ++i) {
      shards[i].file =
          whole ? file.name : std::string(file.name).replace(part, kPart.size(), fmt::to_string(i - before));
      shards[i].is_rank = true;
    }
    next += file.tensor_count;
  }
  SLIPWAY_RETURN_IF_ERROR(FinishAll(tensors, shards));
  return shards;
}

}  // namespace slipway::engine
