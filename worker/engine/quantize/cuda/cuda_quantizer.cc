#include "worker/engine/quantize/cuda/cuda_quantizer.h"

#include <algorithm>

#include "common/error.h"

namespace slipway::engine {
namespace {

std::int64_t LanesOf(std::int64_t memory_budget) {
  return std::clamp<std::int64_t>(memory_budget / kSmallestCudaBudget, 1, kCudaLanes);
}

std::int64_t LaneBytes(std::int64_t memory_budget) {
  constexpr std::int64_t kMultiple = std::int64_t{1} << 16;
  return std::min(memory_budget / LanesOf(memory_budget), kLargestCudaLane) / kMultiple * kMultiple;
}

}  // namespace

std::int64_t CudaQuantizerBytes(std::int64_t memory_budget) {
  return memory_budget < kSmallestCudaBudget ? 0 : LanesOf(memory_budget) * LaneBytes(memory_budget);
}

}  // namespace slipway::engine

#ifdef SLIPWAY_HAVE_CUDA

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <bit>
#include <cstddef>
#include <string>
#include <utility>

#include "worker/engine/quantize/cuda/kernels.h"
#include "worker/engine/quantize/cuda/lane.h"
#include "worker/engine/quantize/cuda/pieces.h"

namespace slipway::engine {
namespace {

static_assert(sizeof(RowStatistics) == sizeof(DeviceRowStatistics) &&
              offsetof(RowStatistics, squared_value) == offsetof(DeviceRowStatistics, squared_value) &&
              offsetof(RowStatistics, amax) == offsetof(DeviceRowStatistics, amax) &&
              offsetof(RowStatistics, largest_error) == offsetof(DeviceRowStatistics, largest_error) &&
              offsetof(RowStatistics, saturated) == offsetof(DeviceRowStatistics, saturated) &&
              offsetof(RowStatistics, zeros) == offsetof(DeviceRowStatistics, zeros));

constexpr std::int64_t kAlignment = 256;

DeviceValues ValuesAt(const Values& values, const std::byte* data) {
  return {.dtype = values.dtype, .data = data, .rows = values.rows, .columns = values.columns};
}

class CudaQuantizer final : public Quantizer {
 public:
  CudaQuantizer(int device, std::int64_t lane_bytes, std::string name)
      : device_(device), lane_bytes_(lane_bytes), name_(std::move(name)) {}
  ~CudaQuantizer() override {
    const DeviceScope scope(device_);
    lanes_.Clear();
  }

  absl::Status AddLanes(std::int64_t count) {
    const DeviceScope scope(device_);
    SLIPWAY_RETURN_IF_ERROR(scope.status());
    for (std::int64_t i = 0; i < count; ++i) {
      SLIPWAY_ASSIGN_OR_RETURN(Lane lane, Lane::Create(lane_bytes_));
      lanes_.Add(std::move(lane));
    }
    return absl::OkStatus();
  }

  [[nodiscard]] bool takes_pinned_memory() const override { return true; }
  [[nodiscard]] std::string_view name() const override { return name_; }

  absl::StatusOr<Measured> Measure(const Values& values) override {
    const DeviceScope scope(device_);
    SLIPWAY_RETURN_IF_ERROR(scope.status());
    const LanePool::Loan lane = lanes_.Take();
    absl::StatusOr<Measured> measured = MeasureIn(*lane, values);
    return measured.ok() ? std::move(measured) : Drained(*lane, std::move(measured).status());
  }

  absl::Status Quantize(const QuantizeJob& job) override {
    const std::optional<std::int64_t> rows = RowsOfPiece(job, lane_bytes_);
    if (!rows.has_value()) {
      return TooSmall(LayoutOf(job, std::min(RowsTogether(job), job.values.rows)).size);
    }
    const DeviceScope scope(device_);
    SLIPWAY_RETURN_IF_ERROR(scope.status());
    const LanePool::Loan lane = lanes_.Take();
    for (std::int64_t first = 0; first < job.values.rows; first += *rows) {
      const absl::Status status = QuantizePiece(*lane, PieceOf(job, first, std::min(*rows, job.values.rows - first)));
      if (!status.ok()) {
        return Drained(*lane, status);
      }
    }
    return absl::OkStatus();
  }

  absl::Status SquaredErrors(const Coding& coding, const Values& values, std::span<const float> scales,
                             std::span<double> errors) override {
    if (scales.empty()) {
      return absl::OkStatus();
    }
    const auto scale_bytes = static_cast<std::int64_t>(scales.size_bytes());
    const std::int64_t row_bytes = values.columns * InfoOf(values.dtype).bytes;
    const auto error_bytes = static_cast<std::int64_t>(scales.size() * sizeof(double));
    const std::int64_t overhead = scale_bytes + 3 * kAlignment;
    const std::int64_t rows = (lane_bytes_ - overhead) / (row_bytes + error_bytes);
    if (rows < 1) {
      return TooSmall(overhead + row_bytes + error_bytes);
    }
    const DeviceScope scope(device_);
    SLIPWAY_RETURN_IF_ERROR(scope.status());
    const LanePool::Loan lane = lanes_.Take();
    for (std::int64_t first = 0; first < values.rows; first += rows) {
      const std::int64_t count = std::min(rows, values.rows - first);
      Values part = values;
      part.rows = count;
      part.bytes = values.bytes.subspan(static_cast<std::size_t>(first * row_bytes),
                                        static_cast<std::size_t>(count * row_bytes));
      const absl::Status status = SquaredErrorsOfPart(*lane, coding, part, scales,
                                                      errors.subspan(static_cast<std::size_t>(first) * scales.size(),
                                                                     static_cast<std::size_t>(count) * scales.size()));
      if (!status.ok()) {
        return Drained(*lane, status);
      }
    }
    return absl::OkStatus();
  }

 private:
  // Nothing that is still queued may write to memory of a call that has returned.
  static absl::Status Drained(Lane& lane, absl::Status status) {
    lane.stream.Wait().IgnoreError();
    return status;
  }

  [[nodiscard]] absl::Status TooSmall(std::int64_t needed) const {
    return Error(
        Reason::kMemoryBudgetTooSmall,
        fmt::format("{}: {} bytes of GPU memory are needed at a time, a call has {}", name_, needed, lane_bytes_));
  }

  [[nodiscard]] absl::StatusOr<Measured> MeasureIn(Lane& lane, const Values& values) const {
    const std::int64_t bytes = InfoOf(values.dtype).bytes;
    const std::int64_t count = values.rows * values.columns;
    // The result lies before the values, so that these begin at a multiple of 256.
    const std::int64_t most = (lane_bytes_ - kAlignment) / bytes;
    const DeviceMeasured nothing;
    SLIPWAY_RETURN_IF_ERROR(lane.Upload(std::as_bytes(std::span(&nothing, 1)), 0));
    for (std::int64_t first = 0; first < count; first += most) {
      const std::int64_t part = std::min(most, count - first);
      if (first > 0) {  // the lane's host memory is free again
        SLIPWAY_RETURN_IF_ERROR(lane.stream.Wait());
      }
      SLIPWAY_RETURN_IF_ERROR(lane.Upload(
          values.bytes.subspan(static_cast<std::size_t>(first * bytes), static_cast<std::size_t>(part * bytes)),
          kAlignment));
      const DeviceValues on_device{
          .dtype = values.dtype, .data = lane.device.data() + kAlignment, .rows = 1, .columns = part};
      SLIPWAY_RETURN_IF_ERROR(CudaStatus(
          LaunchMeasure(on_device, first, std::bit_cast<DeviceMeasured*>(lane.device.data()), lane.stream.get()),
          "measuring"));
    }
    DeviceMeasured found;
    const std::span<std::byte> target = std::as_writable_bytes(std::span(&found, 1));
    SLIPWAY_RETURN_IF_ERROR(lane.Download(0, target));
    SLIPWAY_RETURN_IF_ERROR(lane.stream.Wait());
    lane.Collect(0, target);
    return Measured{.amax = std::bit_cast<float>(static_cast<std::uint32_t>(found.amax_bits)),
                    .first_bad = static_cast<std::int64_t>(found.first_bad)};  // all ones: -1
  }

  static absl::Status QuantizePiece(Lane& lane, const QuantizeJob& job) {
    const PieceLayout layout = LayoutOf(job, job.values.rows);
    std::byte* device = lane.device.data();
    const std::span<std::byte> statistics = std::as_writable_bytes(job.statistics);
    SLIPWAY_RETURN_IF_ERROR(lane.Upload(job.values.bytes, layout.values));
    SLIPWAY_RETURN_IF_ERROR(lane.Upload(std::as_bytes(job.amaxes), layout.amaxes));
    const DeviceJob on_device{
        .coding = job.coding,
        .values = ValuesAt(job.values, device + layout.values),
        .tensor_scale = job.tensor_scale,
        .amaxes = job.amaxes.empty() ? nullptr : std::bit_cast<const float*>(device + layout.amaxes),
        .codes = job.codes.empty() ? nullptr : device + layout.codes,
        .scales = device + layout.scales,
        .zero_points =
            HasZeroPoints(job.coding.rule) ? std::bit_cast<std::int8_t*>(device + layout.zero_points) : nullptr,
        .statistics =
            job.statistics.empty() ? nullptr : std::bit_cast<DeviceRowStatistics*>(device + layout.statistics)};
    SLIPWAY_RETURN_IF_ERROR(CudaStatus(LaunchQuantize(on_device, lane.stream.get()), "quantizing"));
    SLIPWAY_RETURN_IF_ERROR(lane.Download(layout.codes, job.codes));
    SLIPWAY_RETURN_IF_ERROR(lane.Download(layout.scales, job.scales));
    SLIPWAY_RETURN_IF_ERROR(lane.Download(layout.zero_points, job.zero_points));
    SLIPWAY_RETURN_IF_ERROR(lane.Download(layout.statistics, statistics));
    SLIPWAY_RETURN_IF_ERROR(lane.stream.Wait());
    lane.Collect(layout.codes, job.codes);
    lane.Collect(layout.scales, job.scales);
    lane.Collect(layout.zero_points, job.zero_points);
    lane.Collect(layout.statistics, statistics);
    return absl::OkStatus();
  }

  static absl::Status SquaredErrorsOfPart(Lane& lane, const Coding& coding, const Values& values,
                                          std::span<const float> scales, std::span<double> errors) {
    const auto aligned = [](std::size_t size) {
      return (static_cast<std::int64_t>(size) + kAlignment - 1) / kAlignment * kAlignment;
    };
    const std::int64_t scales_at = aligned(values.bytes.size());
    const std::int64_t errors_at = scales_at + aligned(scales.size_bytes());
    std::byte* device = lane.device.data();
    SLIPWAY_RETURN_IF_ERROR(lane.Upload(values.bytes, 0));
    SLIPWAY_RETURN_IF_ERROR(lane.Upload(std::as_bytes(scales), scales_at));
    SLIPWAY_RETURN_IF_ERROR(CudaStatus(
        LaunchSquaredErrors(coding, ValuesAt(values, device), std::bit_cast<const float*>(device + scales_at),
                            static_cast<std::int64_t>(scales.size()), std::bit_cast<double*>(device + errors_at),
                            lane.stream.get()),
        "summing squared errors"));
    const std::span<std::byte> target = std::as_writable_bytes(errors);
    SLIPWAY_RETURN_IF_ERROR(lane.Download(errors_at, target));
    SLIPWAY_RETURN_IF_ERROR(lane.stream.Wait());
    lane.Collect(errors_at, target);
    return absl::OkStatus();
  }

  int device_;
  std::int64_t lane_bytes_;
  std::string name_;
  LanePool lanes_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Quantizer>> MakeCudaQuantizer(int device, std::int64_t memory_budget) {
  if (memory_budget < kSmallestCudaBudget) {
    return Error(Reason::kMemoryBudgetTooSmall,
                 fmt::format("quantization on a GPU needs {} bytes of its memory", kSmallestCudaBudget));
  }
  cudaDeviceProp properties{};
  SLIPWAY_RETURN_IF_ERROR(
      CudaStatus(cudaGetDeviceProperties(&properties, device), fmt::format("looking at cuda:{}", device)));
  auto quantizer = std::make_unique<CudaQuantizer>(device, LaneBytes(memory_budget),
                                                   fmt::format("cuda:{} ({})", device, properties.name));
  SLIPWAY_RETURN_IF_ERROR(quantizer->AddLanes(LanesOf(memory_budget)));
  return quantizer;
}

}  // namespace slipway::engine

#else

namespace slipway::engine {

absl::StatusOr<std::unique_ptr<Quantizer>> MakeCudaQuantizer(int, std::int64_t) { return std::unique_ptr<Quantizer>(); }

}  // namespace slipway::engine

#endif
