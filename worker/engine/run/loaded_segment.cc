#include "worker/engine/run/loaded_segment.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/run/code_bands.h"
#include "worker/engine/run/quantized_bands.h"
#include "worker/engine/transform/block_scales.h"
#include "worker/engine/transform/column_factors.h"
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

// To the values that `dtype` has: matrices are multiplied as they are written.
void RoundTo(DType dtype, std::span<float> values) {
  constexpr std::size_t kStep = 1024;
  std::array<std::byte, kStep * sizeof(float)> rounded;
  while (dtype != DType::kF32 && !values.empty()) {
    const std::span<float> step = values.first(std::min(kStep, values.size()));
    const std::span<std::byte> bytes =
        std::span(rounded).first(step.size() * static_cast<std::size_t>(InfoOf(dtype).bytes));
    TransformElements({.add_one = false, .from = DType::kF32, .to = dtype}, std::as_bytes(step), bytes);
    TransformElements({.add_one = false, .from = dtype, .to = DType::kF32}, bytes, std::as_writable_bytes(step));
    values = values.subspan(step.size());
  }
}

}  // namespace

LoadedSegment::~LoadedSegment() {
  for (const ScaleStash::Key& key : written_) {
    stash_->Drop(key);
  }
}

std::int64_t LoadedSegment::BufferBytes(const Segment& segment) {
  std::int64_t bytes = segment.buffer_bytes + segment.factor_bytes;
  for (const WindowRange& range : segment.windows) {
    bytes += PagesOf(range);
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<const LoadedSegment>> LoadedSegment::Load(const ExportPlan& plan, const Shard& shard,
                                                                         Segment segment, BufferPool::Buffer buffer,
                                                                         const Quantization* quantization) {
  std::unique_ptr<LoadedSegment> loaded(new LoadedSegment(std::move(segment), std::move(buffer)));
  SLIPWAY_RETURN_IF_ERROR(loaded->ReadWindows(*plan.checkpoint));
  SLIPWAY_RETURN_IF_ERROR(loaded->FillPieces(plan, shard, quantization));
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
    windows_.emplace_back(window);
    free_ += PagesOf(range);
  }
  return absl::OkStatus();
}

absl::Status LoadedSegment::FillPieces(const ExportPlan& plan, const Shard& shard, const Quantization* quantization) {
  factors_ = reinterpret_cast<float*>(free_);  // on a page
  free_ += segment_.factor_bytes;
  if (segment_.has_header) {
    pieces_.push_back(PieceOf(std::as_bytes(std::span(shard.header))));
  }
  for (const TensorPart& part : segment_.parts) {
    first_pieces_.push_back(pieces_.size());
    const OutputTensor& tensor = plan.tensors[static_cast<std::size_t>(part.tensor)];
    Rounding& rounded = roundings_.emplace_back();
    statistics_.emplace_back();
    if (!tensor.quantized) {
      SLIPWAY_RETURN_IF_ERROR(FillPart(plan, tensor, part, CanOverflow(tensor) ? &rounded : nullptr));
    } else if (quantization == nullptr) {
      return Error(Reason::kInternal, "there is nothing that quantizes", {.tensor = tensor.name});
    } else {
      SLIPWAY_RETURN_IF_ERROR(FillQuantized(plan, part, *quantization));
    }
  }
  first_pieces_.push_back(pieces_.size());
  return absl::OkStatus();
}

absl::Status LoadedSegment::FillPart(const ExportPlan& plan, const OutputTensor& tensor, const TensorPart& part,
                                     Rounding* rounding) {
  std::byte* const begin = free_;
  SLIPWAY_RETURN_IF_ERROR(MakePart(plan, tensor, part, rounding));
  if (tensor.column_factors != nullptr) {
    ScaleColumns(tensor, part.first_element, {begin, free_});
  }
  return absl::OkStatus();
}

absl::Status LoadedSegment::MakePart(const ExportPlan& plan, const OutputTensor& tensor, const TensorPart& part,
                                     Rounding* rounding) {
  const ElementTransform& transform = tensor.transform;
  std::byte* const begin = free_;
  if (part.buffered || tensor.scales) {
    free_ += part.bytes;
    pieces_.push_back(PieceOf({begin, free_}));
  }
  if (tensor.scales) {
    return Dequantize(plan, tensor, part, begin);
  }
  if (part.b_run_count > 0) {
    Merge(tensor, part, begin, rounding);
    return absl::OkStatus();
  }
  if (part.permuted) {
    return LoadPermutedPart(*plan.checkpoint, transform, segment_.permuted[*part.permuted], begin, rounding);
  }
  std::byte* output = begin;
  for (std::size_t run = part.first_run; run < part.first_run + part.run_count; ++run) {
    const std::span<const std::byte> source = BytesOf(run);
    if (!part.buffered) {
      pieces_.push_back(PieceOf(source));
      continue;
    }
    const auto bytes = source.size() / static_cast<std::size_t>(InfoOf(transform.from).bytes) *
                       static_cast<std::size_t>(InfoOf(transform.to).bytes);
    TransformElements(transform, source, {output, bytes}, rounding);
    output += bytes;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::span<const std::byte>> LoadedSegment::ValuesOf(const ExportPlan& plan, const OutputTensor& values,
                                                                   const TensorPart& part) {
  const std::byte* const begin = free_;
  const std::size_t pieces = pieces_.size();
  Rounding rounded;
  for (std::size_t i = part.first_value_part; i < part.first_value_part + part.value_part_count; ++i) {
    const std::size_t first = pieces_.size();
    std::byte* const wanted = free_;
    SLIPWAY_RETURN_IF_ERROR(FillPart(plan, values, segment_.value_parts[i], CanOverflow(values) ? &rounded : nullptr));
    if (part.value_bytes == 0 || free_ != wanted) {
      continue;  // as it was read, or buffered: they are in their place
    }
    for (std::size_t piece = first; piece < pieces_.size(); ++piece) {
      std::memcpy(free_, pieces_[piece].iov_base, pieces_[piece].iov_len);
      free_ += pieces_[piece].iov_len;
    }
  }
  if (rounded.overflows > 0) {
    return Error(Reason::kOptionUnsupported,
                 fmt::format("finite values are too large for {}, which would make them infinite before they are "
                             "quantized; export with --dtype {}",
                             InfoOf(values.dtype).safetensors_name, values.dtype == DType::kF16 ? "bf16" : "fp32"),
                 {.tensor = values.name});
  }
  const std::span<const std::byte> whole =
      part.value_bytes > 0
          ? std::span<const std::byte>(begin, static_cast<std::size_t>(part.value_bytes))
          : std::span<const std::byte>(static_cast<const std::byte*>(pieces_.back().iov_base), pieces_.back().iov_len);
  pieces_.resize(pieces);
  return whole;
}

std::vector<float> LoadedSegment::AmaxesOf(const QuantizedWeight& weight, const TensorPart& part) const {
  std::vector<float> amaxes;
  for (std::size_t run = part.amax_run; run < part.amax_run + part.amax_run_count; ++run) {
    const std::span<const std::byte> source = BytesOf(run);
    const std::size_t first = amaxes.size();
    amaxes.resize(first + source.size() / static_cast<std::size_t>(InfoOf(weight.amaxes->dtype).bytes));
    if (weight.amaxes->dtype == DType::kF8E4M3) {
      UnpackScales(DType::kF8E4M3, source, weight.amaxes->factor, amaxes.data() + first);
      continue;
    }
    TransformElements({.add_one = false, .from = weight.amaxes->dtype, .to = DType::kF32}, source,
                      std::as_writable_bytes(std::span(amaxes).subspan(first)));
  }
  return amaxes;
}

absl::Status LoadedSegment::FillQuantized(const ExportPlan& plan, const TensorPart& part,
                                          const Quantization& quantization) {
  const OutputTensor& tensor = plan.tensors[static_cast<std::size_t>(part.tensor)];
  const QuantizedPart& quantized = *tensor.quantized;
  if (part.stashed) {
    // Filled by the time that they are written: the codes' segments come before this one.
    const ScaleStash::Key key(quantized.weight, quantized.role);
    const ScaleStash::Bytes kept = quantization.stash->Of(key);
    pieces_.push_back(PieceOf({kept.get() + part.first_element, static_cast<std::size_t>(part.bytes)}));
    stashed_.push_back(kept);
    stash_ = quantization.stash;
    if (part.ends) {
      written_.push_back(key);
    }
    return absl::OkStatus();
  }
  const std::span<std::byte> output(free_, static_cast<std::size_t>(part.bytes));
  free_ += part.bytes;
  pieces_.push_back(PieceOf(output));
  if (!NeedsValues(quantized.role)) {
    MakeSmallOutput(plan, tensor, quantization.tensor_scales, part.first_element, output);
    return absl::OkStatus();
  }
  const QuantizedWeight& weight = plan.quantized[static_cast<std::size_t>(quantized.weight)];
  SLIPWAY_ASSIGN_OR_RETURN(const std::span<const std::byte> values, ValuesOf(plan, weight.values, part));
  absl::Status done = CodeBands(weight, quantized, quantization, values, AmaxesOf(weight, part), part.first_element,
                                output, statistics_.back());
  if (!done.ok() && ReasonOf(done) == Reason::kCheckpointCorrupt && part.value_part_count > 0) {
    const TensorPart& first = segment_.value_parts[part.first_value_part];
    const std::int32_t file = first.permuted ? segment_.permuted[*first.permuted].rows.front().source.file
                                             : segment_.runs[first.first_run].file;
    return Error(
        Reason::kCheckpointCorrupt, std::string(done.message()),
        {.tensor = weight.values.name,
         .file = file == kNoFile ? std::string() : plan.checkpoint->files[static_cast<std::size_t>(file)].name});
  }
  return done;
}

absl::Status LoadedSegment::Dequantize(const ExportPlan& plan, const OutputTensor& tensor, const TensorPart& part,
                                       std::byte* output) {
  if (part.run_count == 0) {
    return absl::OkStatus();
  }
  const auto scales_index = static_cast<std::size_t>(tensor.scales->regions.front().tensor);
  float* end = factors_;
  for (std::size_t run = part.scale_run; run < part.scale_run + part.scale_run_count; ++run) {
    end = UnpackScales(plan.checkpoint->tensors[scales_index].dtype, BytesOf(run), tensor.scales->factor, end);
  }
  const ScaleValues scales{.values = {factors_, end}, .first = part.first_scale};
  const std::int64_t per_stored = ElementsPerStored(tensor);
  const auto output_element = static_cast<std::size_t>(InfoOf(tensor.dtype).bytes);
  std::int64_t element = part.first_element;
  for (std::size_t run = part.first_run; run < part.first_run + part.run_count; ++run) {
    const std::span<const std::byte> codes = BytesOf(run);
    const std::int64_t elements = static_cast<std::int64_t>(codes.size()) * per_stored;
    const std::size_t bytes = static_cast<std::size_t>(elements) * output_element;
    const std::int64_t bad = DequantizeBlocks(tensor, element, codes, scales, {output, bytes});
    if (bad >= 0) {
      const StoredTensor& stored = plan.checkpoint->tensors[static_cast<std::size_t>(tensor.regions.front().tensor)];
      return Error(Reason::kCheckpointCorrupt,
                   fmt::format("element {} times its scale is not a finite number in {}", bad,
                               InfoOf(tensor.dtype).safetensors_name),
                   {.tensor = stored.name,
                    .file = plan.checkpoint->files[static_cast<std::size_t>(segment_.runs[run].file)].file->name(),
                    .offset = segment_.runs[run].position + (bad - element) / per_stored});
    }
    element += elements;
    output += bytes;
  }
  return absl::OkStatus();
}

void LoadedSegment::Merge(const OutputTensor& tensor, const TensorPart& part, std::byte* output, Rounding* rounding) {
  const LowRankUpdate& update = *tensor.update;
  float* free = factors_;
  const auto convert = [&](std::size_t first, std::size_t count, DType dtype) {
    for (std::size_t run = first; run < first + count; ++run) {
      const std::span<const std::byte> source = BytesOf(run);
      const std::span<float> values(free, source.size() / static_cast<std::size_t>(InfoOf(dtype).bytes));
      TransformElements({.add_one = false, .from = dtype, .to = DType::kF32}, source, std::as_writable_bytes(values));
      if (update.block_rows && dtype != tensor.transform.to) {
        RoundTo(tensor.transform.to, values);
      }
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
                               .first_row = part.updated_row,
                               .scale = update.scale,
                               .b_rows = update.block_rows ? update.updated_rows : 0};
  std::int64_t element = part.first_element;
  for (std::size_t run = part.first_run; run < part.first_run + part.run_count; ++run) {
    const std::span<const std::byte> source = BytesOf(run);
    const std::size_t count = source.size() / static_cast<std::size_t>(InfoOf(tensor.transform.from).bytes);
    const std::size_t bytes = count * static_cast<std::size_t>(InfoOf(tensor.transform.to).bytes);
    MergeLowRank(tensor.transform, factors, element, source, {output, bytes}, rounding);
    element += static_cast<std::int64_t>(count);
    output += bytes;
  }
}

std::span<const std::byte> LoadedSegment::BytesOf(std::size_t run) const {
  const SourceRun& source = segment_.runs[run];
  if (source.file == kNoFile) {
    return Zeros().first(static_cast<std::size_t>(source.bytes));
  }
  const std::uint32_t window = segment_.run_windows[run];
  const std::int64_t lead = source.position - segment_.windows[window].begin;
  return windows_[window].subspan(static_cast<std::size_t>(lead), static_cast<std::size_t>(source.bytes));
}

}  // namespace slipway::engine
