#include "worker/engine/run/loaded_segment.h"

#include <cstdint>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/transform/block_scales.h"
#include "worker/engine/transform/element_transform.h"
#include "worker/engine/transform/low_rank_update.h"

namespace slipway::engine {
namespace {

iovec PieceOf(std::span<const std::byte> bytes) {
  // iovec is not const-correct; everyone only reads.
  return {const_cast<std::byte*>(bytes.data()), bytes.size()};
}

constexpr std::int64_t kPage = 4096;

// A window takes whole pages of the buffer and lies in them as in its file, so that both sides of the read and of the
// write are aligned alike.
std::int64_t PagesOf(const WindowRange& range) {
  return (range.end + kPage - 1) / kPage * kPage - range.begin / kPage * kPage;
}

}  // namespace

std::int64_t LoadedSegment::BufferBytes(const Segment& segment) {
  std::int64_t bytes = segment.buffer_bytes + segment.factor_bytes;
  for (const WindowRange& range : segment.windows) {
    bytes += PagesOf(range);
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<const LoadedSegment>> LoadedSegment::Load(const ExportPlan& plan, const Shard& shard,
                                                                         Segment segment, BufferPool::Buffer buffer) {
  std::unique_ptr<LoadedSegment> loaded(new LoadedSegment(std::move(segment), std::move(buffer)));
  SLIPWAY_RETURN_IF_ERROR(loaded->ReadWindows(*plan.checkpoint));
  SLIPWAY_RETURN_IF_ERROR(loaded->FillPieces(plan, shard));
  return std::unique_ptr<const LoadedSegment>(std::move(loaded));
}

absl::Status LoadedSegment::ReadWindows(const Checkpoint& checkpoint) {
  windows_.reserve(segment_.windows.size());
  for (const WindowRange& range : segment_.windows) {
    const CheckpointFile& file = checkpoint.files[static_cast<std::size_t>(range.file)];
    const std::span<std::byte> window(free_ + range.begin % kPage, static_cast<std::size_t>(range.end - range.begin));
    SLIPWAY_RETURN_IF_ERROR(file.file->ReadAt(range.begin, window));
    SLIPWAY_ASSIGN_OR_RETURN(const FileIdentity now, file.file->CurrentIdentity());
    if (now != file.identity) {
      return Error(Reason::kCheckpointChanged, "the file changed since the plan was made",
                   {.file = file.name, .offset = range.begin});
    }
    windows_.push_back(window);
    free_ += PagesOf(range);
  }
  return absl::OkStatus();
}

absl::Status LoadedSegment::FillPieces(const ExportPlan& plan, const Shard& shard) {
  factors_ = reinterpret_cast<float*>(free_);  // on a page
  std::byte* free = free_ + segment_.factor_bytes;
  if (segment_.has_header) {
    pieces_.push_back(PieceOf(std::as_bytes(std::span(shard.header))));
  }
  for (const TensorPart& part : segment_.parts) {
    first_pieces_.push_back(pieces_.size());
    const OutputTensor& tensor = plan.tensors[static_cast<std::size_t>(part.tensor)];
    Rounding& rounded = roundings_.emplace_back();
    Rounding* const rounding = IsCast(tensor) ? &rounded : nullptr;
    if (tensor.scales) {
      SLIPWAY_RETURN_IF_ERROR(Dequantize(plan, part, free));
      pieces_.push_back(PieceOf({free, static_cast<std::size_t>(part.bytes)}));
      free += part.bytes;
      continue;
    }
    if (tensor.update) {
      Merge(tensor, part, free);
      pieces_.push_back(PieceOf({free, static_cast<std::size_t>(part.bytes)}));
      free += part.bytes;
      continue;
    }
    const ElementTransform& transform = tensor.transform;
    const std::byte* const part_begin = free;
    if (part.permuted) {
      SLIPWAY_RETURN_IF_ERROR(
          LoadPermutedPart(*plan.checkpoint, transform, segment_.permuted[*part.permuted], free, rounding));
      free += part.bytes;
    }
    for (std::size_t run = part.first_run; run < part.first_run + part.run_count; ++run) {
      const std::span<const std::byte> source = BytesOf(run);
      if (!part.buffered) {
        pieces_.push_back(PieceOf(source));
        continue;
      }
      const auto bytes = source.size() / static_cast<std::size_t>(InfoOf(transform.from).bytes) *
                         static_cast<std::size_t>(InfoOf(transform.to).bytes);
      TransformElements(transform, source, {free, bytes}, rounding);
      free += bytes;
    }
    if (part.buffered) {
      pieces_.push_back(PieceOf({part_begin, free}));
    }
  }
  first_pieces_.push_back(pieces_.size());
  return absl::OkStatus();
}

absl::Status LoadedSegment::Dequantize(const ExportPlan& plan, const TensorPart& part, std::byte* output) const {
  if (part.run_count == 0) {
    return absl::OkStatus();
  }
  const OutputTensor& tensor = plan.tensors[static_cast<std::size_t>(part.tensor)];
  const auto scales_index = static_cast<std::size_t>(tensor.scales->region.tensor);
  const ScaleBytes scales{.bytes = BytesOf(part.scale_run),
                          .first = part.first_scale,
                          .dtype = plan.checkpoint->tensors[scales_index].dtype};
  const auto output_element = static_cast<std::size_t>(InfoOf(tensor.dtype).bytes);
  std::int64_t element = part.first_element;
  for (std::size_t run = part.first_run; run < part.first_run + part.run_count; ++run) {
    const std::span<const std::byte> codes = BytesOf(run);
    const std::size_t bytes = codes.size() * output_element;
    const std::int64_t bad = DequantizeBlocks(tensor, element, codes, scales, {output, bytes});
    if (bad >= 0) {
      const StoredTensor& stored = plan.checkpoint->tensors[static_cast<std::size_t>(tensor.regions.front().tensor)];
      return Error(Reason::kCheckpointCorrupt,
                   fmt::format("element {} times its scale is not a finite number in {}", bad,
                               InfoOf(tensor.dtype).safetensors_name),
                   {.tensor = stored.name,
                    .file = plan.checkpoint->files[static_cast<std::size_t>(segment_.runs[run].file)].file->name(),
                    .offset = segment_.runs[run].position + bad - element});
    }
    element += static_cast<std::int64_t>(codes.size());
    output += bytes;
  }
  return absl::OkStatus();
}

void LoadedSegment::Merge(const OutputTensor& tensor, const TensorPart& part, std::byte* output) {
  const LowRankUpdate& update = *tensor.update;
  float* free = factors_;
  const auto convert = [&](std::size_t first, std::size_t count, DType dtype) {
    for (std::size_t run = first; run < first + count; ++run) {
      const std::span<const std::byte> source = BytesOf(run);
      const std::span<float> values(free, source.size() / static_cast<std::size_t>(InfoOf(dtype).bytes));
      TransformElements({.add_one = false, .from = dtype, .to = DType::kF32}, source, std::as_writable_bytes(values));
      free += values.size();
    }
  };
  convert(part.factor_run, part.a_run_count, update.a_dtype);
  const float* const b = free;
  convert(part.factor_run + part.a_run_count, part.b_run_count, update.b_dtype);
  const LowRankFactors factors{.a = factors_,
                               .b = b,
                               .rank = update.rank,
                               .columns = tensor.shape[1],
                               .first_row = part.first_element / tensor.shape[1],
                               .scale = update.scale};
  std::int64_t element = part.first_element;
  for (std::size_t run = part.first_run; run < part.first_run + part.run_count; ++run) {
    const std::span<const std::byte> source = BytesOf(run);
    const std::size_t count = source.size() / static_cast<std::size_t>(InfoOf(tensor.transform.from).bytes);
    const std::size_t bytes = count * static_cast<std::size_t>(InfoOf(tensor.transform.to).bytes);
    MergeLowRank(tensor.transform, factors, element, source, {output, bytes});
    element += static_cast<std::int64_t>(count);
    output += bytes;
  }
}

std::span<const std::byte> LoadedSegment::BytesOf(std::size_t run) const {
  const SourceRun& source = segment_.runs[run];
  const std::uint32_t window = segment_.run_windows[run];
  const std::int64_t lead = source.position - segment_.windows[window].begin;
  return windows_[window].subspan(static_cast<std::size_t>(lead), static_cast<std::size_t>(source.bytes));
}

}  // namespace slipway::engine
