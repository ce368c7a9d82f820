#include "worker/engine/run/artifact_comparison.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/float_bits.h"
#include "worker/engine/quantize/decoded_codes.h"
#include "worker/engine/run/artifact_tensors.h"
#include "worker/engine/run/memory_needs.h"
#include "worker/engine/run/quantized_bands.h"
#include "worker/engine/run/segment_cutter.h"
#include "worker/engine/run/segment_pipeline.h"
#include "worker/engine/write/quality_json.h"
#include "worker/engine/write/quality_report.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kMaximumReport = std::int64_t{1} << 30;

// Where the tensors that stand for a weight are.
struct StoredWeight {
  const ManifestTensor* codes = nullptr;
  const ManifestTensor* scales = nullptr;
  const ManifestTensor* zero_points = nullptr;
  std::vector<float> tensor_scales;  // one a matrix of a stack
};

// Sums of the same terms in another order.
bool AlmostEqual(double a, double b) {
  constexpr double kOrder = 1e-9;
  return std::fabs(a - b) <= kOrder * std::max(std::fabs(a), std::fabs(b));
}

class Comparison {
 public:
  Comparison(const ArtifactTensors& artifact, const ExportPlan& plan, const ComparisonResources& resources,
             const std::function<void(std::int64_t)>& progress)
      : artifact_(artifact), plan_(plan), resources_(resources), progress_(progress) {}

  absl::StatusOr<ComparisonReport> Run() {
    SLIPWAY_RETURN_IF_ERROR(artifact_.CheckAre(plan_));
    report_.same_output = plan_.output_hash == artifact_.manifest().output_hash;
    SLIPWAY_RETURN_IF_ERROR(FindWeights());
    SLIPWAY_RETURN_IF_ERROR(ReadReport());
    SLIPWAY_RETURN_IF_ERROR(Compare());
    return std::move(report_);
  }

 private:
  absl::Status FindWeights() {
    stored_.resize(plan_.quantized.size());
    report_.weights.resize(plan_.quantized.size());
    for (const OutputTensor& tensor : plan_.tensors) {
      if (!tensor.quantized || tensor.quantized->weight < 0) {
        continue;
      }
      const auto index = static_cast<std::size_t>(tensor.quantized->weight);
      const ManifestTensor& found = *artifact_.Find(plan_, tensor);
      if (tensor.quantized->role == StoredRole::kCodes) {
        stored_[index].codes = &found;
        report_.weights[index].name = ReportedName(plan_, tensor);
        report_.weights[index].format = std::string(plan_.quantized[index].format->name);
        report_.weights[index].error_bound = plan_.quantized[index].format->error_bound;
      } else if (tensor.quantized->role == StoredRole::kScales) {
        stored_[index].scales = &found;
      } else if (tensor.quantized->role == StoredRole::kZeroPoints) {
        stored_[index].zero_points = &found;
      } else if (tensor.quantized->role == StoredRole::kTensorScale) {
        SLIPWAY_RETURN_IF_ERROR(
            ReadTensorScales(found, ScaledMatrixCount(plan_.quantized[index]), stored_[index].tensor_scales));
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadTensorScales(const ManifestTensor& tensor, std::int64_t count, std::vector<float>& scales) const {
    const auto bytes = static_cast<std::size_t>(InfoOf(tensor.dtype).bytes);
    const auto corrupt = [&tensor](const std::string& message) {
      return Error(Reason::kArtifactCorrupt, message, {.tensor = tensor.name, .file = tensor.file});
    };
    if (bytes > sizeof(std::uint32_t) || tensor.bytes <= 0 ||
        tensor.bytes % (count * static_cast<std::int64_t>(bytes)) != 0) {
      return corrupt(fmt::format("is not of {} scales", count));
    }
    std::vector<std::byte> stored(static_cast<std::size_t>(tensor.bytes));
    SLIPWAY_RETURN_IF_ERROR(artifact_.Read(tensor, 0, stored));
    // Where modules that are joined share one, it is there for each of them.
    const std::size_t matrix = stored.size() / static_cast<std::size_t>(count);
    for (std::size_t at = 0; at < stored.size(); at += bytes) {
      if (at % matrix != 0) {
        if (!std::equal(&stored[at], &stored[at] + bytes, &stored[at - bytes])) {
          return corrupt("has a scale for each module that is joined, and those that are one differ");
        }
        continue;
      }
      std::uint32_t bits = 0;
      std::memcpy(&bits, stored.data() + at, bytes);
      const auto half = static_cast<std::uint16_t>(bits);
      scales.push_back(tensor.dtype == DType::kBF16  ? FromBFloat16(half)
                       : tensor.dtype == DType::kF16 ? FromHalf(half)
                                                     : FloatOf(bits));
    }
    return absl::OkStatus();
  }

  absl::Status ReadReport() {
    const std::string path(kQualityJsonFile);
    if (!artifact_.directory().Exists(path)) {
      return absl::OkStatus();
    }
    SLIPWAY_ASSIGN_OR_RETURN(const std::string text, artifact_.directory().ReadSmallFile(path, kMaximumReport));
    SLIPWAY_ASSIGN_OR_RETURN(const auto reported, ParseQuality(text));
    for (ComparedWeight& weight : report_.weights) {
      if (const auto found = reported.find(weight.name); found != reported.end()) {
        weight.reported = found->second;
      }
    }
    report_.has_report = true;
    return absl::OkStatus();
  }

  // A plan of one file without a header: what is compared with the source's values, and what is made without scales.
  // found_ is filled beside it.
  [[nodiscard]] ExportPlan Expected() {
    ExportPlan expected;
    expected.options = plan_.options;
    expected.checkpoint = plan_.checkpoint;
    expected.quantized = plan_.quantized;
    Shard& shard = expected.shards.emplace_back();
    for (const OutputTensor& tensor : plan_.tensors) {
      if (tensor.quantized && tensor.quantized->weight >= 0 &&
          (tensor.quantized->role == StoredRole::kScales || tensor.quantized->role == StoredRole::kZeroPoints ||
           tensor.quantized->role == StoredRole::kTensorScale || tensor.quantized->role == StoredRole::kFloat8Scale)) {
        continue;  // what their errors are tells of them
      }
      found_.push_back(artifact_.Find(plan_, tensor));
      OutputTensor& copy = expected.tensors.emplace_back(tensor);
      copy.shard = 0;
      copy.file_offset = shard.bytes;
      shard.bytes += copy.bytes;
      ++shard.tensor_count;
    }
    return expected;
  }

  absl::Status Compare() {
    const ExportPlan expected = Expected();
    first_different_.assign(expected.tensors.size(), -1);
    MemoryBudget memory(std::max(resources_.memory_bytes, MinimumMemoryBudget(expected)));
    const Quantization quantization{
        .quantizer = nullptr,
        .tensor_scales = {},
        .probe = [&](const QuantizedWeight& weight, std::int64_t first_row, const Values& values) {
          return CompareValues(static_cast<std::size_t>(&weight - expected.quantized.data()), first_row, values);
        }};
    SegmentCutter cutter(expected, 0, kSegmentBytes);
    SegmentPipeline pipeline(expected, expected.shards.front(), cutter,
                             {[&](const LoadedSegment& loaded) { return CompareSegment(expected, loaded); }},
                             {.memory = &memory,
                              .threads = std::max(resources_.threads, 1),
                              .cancelled = [] { return false; },
                              .quantization = &quantization});
    SLIPWAY_RETURN_IF_ERROR(pipeline.Run());
    for (std::size_t i = 0; i < expected.tensors.size(); ++i) {
      const OutputTensor& tensor = expected.tensors[i];
      if (IsCodes(tensor)) {
        continue;
      }
      const ManifestTensor& stored = *found_[i];
      if (first_different_[i] < 0) {
        ++report_.equal;
      } else {
        report_.different.push_back({stored.name, stored.file, stored.offset + first_different_[i]});
      }
    }
    return absl::OkStatus();
  }

  static bool IsCodes(const OutputTensor& tensor) {
    return tensor.quantized && tensor.quantized->weight >= 0 && tensor.quantized->role == StoredRole::kCodes;
  }

  // Tensors that are not codes, byte by byte. Segments come one after the other.
  absl::Status CompareSegment(const ExportPlan& expected, const LoadedSegment& loaded) {
    const Segment& segment = loaded.segment();
    std::int64_t position = segment.file_offset;
    std::vector<std::byte> stored;
    for (std::size_t i = 0; i < segment.parts.size(); ++i) {
      const TensorPart& part = segment.parts[i];
      const OutputTensor& tensor = expected.tensors[static_cast<std::size_t>(part.tensor)];
      std::int64_t first = position - tensor.file_offset;
      position += part.bytes;
      if (IsCodes(tensor)) {
        continue;
      }
      const ManifestTensor& found = *found_[static_cast<std::size_t>(part.tensor)];
      for (std::size_t piece = loaded.first_pieces()[i]; piece < loaded.first_pieces()[i + 1]; ++piece) {
        const iovec& bytes = loaded.pieces()[piece];
        stored.resize(bytes.iov_len);
        SLIPWAY_RETURN_IF_ERROR(artifact_.Read(found, first, stored));
        Note(static_cast<std::size_t>(part.tensor), first, stored, static_cast<const std::byte*>(bytes.iov_base));
        first += static_cast<std::int64_t>(bytes.iov_len);
      }
      if (progress_) {
        progress_(part.bytes);
      }
    }
    return absl::OkStatus();
  }

  void Note(std::size_t tensor, std::int64_t first, std::span<const std::byte> stored, const std::byte* expected) {
    if (first_different_[tensor] < 0 && std::memcmp(stored.data(), expected, stored.size()) != 0) {
      const auto at = std::ranges::mismatch(stored, std::span(expected, stored.size())).in1 - stored.begin();
      first_different_[tensor] = first + at;
    }
  }

  // What the codes of a weight's rows stand for, against the rows. From any thread.
  absl::Status CompareValues(std::size_t index, std::int64_t first_row, const Values& values) {
    const QuantizedWeight& weight = plan_.quantized[index];
    const auto row_bytes = static_cast<std::size_t>(values.columns * InfoOf(values.dtype).bytes);
    std::int64_t step = 0;
    for (std::int64_t row = 0; row < values.rows; row += step) {
      step = RowsFrom(weight, first_row + row, values.rows - row);
      const Values band{
          values.dtype,
          values.bytes.subspan(static_cast<std::size_t>(row) * row_bytes, static_cast<std::size_t>(step) * row_bytes),
          step, values.columns};
      if (weight.kept_columns == 0) {
        SLIPWAY_RETURN_IF_ERROR(CompareBand(index, first_row + row, band));
        continue;
      }
      const std::vector<std::byte> kept = KeptColumns(weight, band.bytes, InfoOf(values.dtype).bytes);
      SLIPWAY_RETURN_IF_ERROR(CompareBand(index, first_row + row, {values.dtype, kept, step, weight.kept_columns}));
    }
    return absl::OkStatus();
  }

  absl::Status CompareBand(std::size_t index, std::int64_t first_row, const Values& values) {
    const QuantizedWeight& weight = plan_.quantized[index];
    const StoredWeight& stored = stored_[index];
    // Nothing of what is not stored.
    const auto read = [&](const ManifestTensor* tensor, StoredRole role) -> absl::StatusOr<std::vector<std::byte>> {
      std::vector<std::byte> bytes;
      if (tensor != nullptr) {
        bytes.resize(static_cast<std::size_t>(OutputBytesOf(weight, role, values.rows)));
        SLIPWAY_RETURN_IF_ERROR(artifact_.Read(*tensor, OutputBytesOf(weight, role, first_row), bytes));
      }
      return bytes;
    };
    SLIPWAY_ASSIGN_OR_RETURN(const std::vector<std::byte> codes, read(stored.codes, StoredRole::kCodes));
    SLIPWAY_ASSIGN_OR_RETURN(const std::vector<std::byte> scales, read(stored.scales, StoredRole::kScales));
    SLIPWAY_ASSIGN_OR_RETURN(const std::vector<std::byte> zero_points,
                             read(stored.zero_points, StoredRole::kZeroPoints));
    const auto matrix = static_cast<std::size_t>(ScaledMatrixAt(weight, first_row).number);
    const std::vector<RowStatistics> rows =
        MeasureStoredBand(values, {.coding = weight.coding,
                                   .codes = codes,
                                   .scales = scales,
                                   .zero_points = zero_points,
                                   .tensor_scale = stored.tensor_scales.empty() ? 1.0F : stored.tensor_scales[matrix]});
    {
      const std::scoped_lock lock(mutex_);
      report_.weights[index].found.Add(rows, values.columns);
    }
    if (progress_) {
      progress_(static_cast<std::int64_t>(codes.size() + scales.size() + zero_points.size()));
    }
    return absl::OkStatus();
  }

  const ArtifactTensors& artifact_;
  const ExportPlan& plan_;
  const ComparisonResources& resources_;
  const std::function<void(std::int64_t)>& progress_;
  std::vector<StoredWeight> stored_;           // as plan_.quantized
  std::vector<const ManifestTensor*> found_;   // of each tensor of Expected()
  std::vector<std::int64_t> first_different_;  // likewise, the byte; -1: none
  std::mutex mutex_;
  ComparisonReport report_;  // `found` guarded by mutex_ while the pipeline runs
};

}  // namespace

bool ComparedWeight::Agrees() const {
  return reported && reported->elements == found.elements && reported->amax == found.amax &&
         reported->largest_error == found.largest_error && reported->saturated == found.saturated &&
         reported->zeros == found.zeros && AlmostEqual(reported->squared_error, found.squared_error) &&
         AlmostEqual(reported->squared_value, found.squared_value);
}

bool ComparisonReport::Passed() const {
  return different.empty() && std::ranges::all_of(weights, &ComparedWeight::Agrees);
}

WeightStatistics ComparisonReport::Total() const {
  WeightStatistics total;
  for (const ComparedWeight& weight : weights) {
    total.Add(weight.found);
  }
  return total;
}

absl::StatusOr<ComparisonReport> CompareWithCheckpoint(const std::string& artifact, const std::string& checkpoint,
                                                       const ComparisonResources& resources,
                                                       const std::function<void(std::int64_t)>& progress) {
  SLIPWAY_ASSIGN_OR_RETURN(const ArtifactTensors tensors, ArtifactTensors::Open(artifact));
  if (!tensors.manifest().options) {
    return Error(Reason::kOptionUnsupported,
                 "the manifest does not say with which options the artifact was made: export it again");
  }
  ExportOptions options = *tensors.manifest().options;
  options.checkpoint = checkpoint;
  options.digest = tensors.manifest().digest;
  SLIPWAY_ASSIGN_OR_RETURN(const auto plan, MakePlan(options));
  return Comparison(tensors, *plan, resources, progress).Run();
}

}  // namespace slipway::engine
