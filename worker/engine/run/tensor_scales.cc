#include "worker/engine/run/tensor_scales.h"

#include <algorithm>
#include <functional>
#include <mutex>
#include <set>
#include <utility>

#include "common/error.h"
#include "worker/engine/run/segment_cutter.h"
#include "worker/engine/run/segment_pipeline.h"

namespace slipway::engine {
namespace {

// A plan that "writes" the values of weights as they are, one after the other, in one file without a header.
ExportPlan ValuesPlan(const ExportPlan& plan, const std::vector<std::int32_t>& weights) {
  ExportPlan values;
  values.options = plan.options;
  values.checkpoint = plan.checkpoint;
  Shard& shard = values.shards.emplace_back();
  for (const std::int32_t weight : weights) {
    OutputTensor& tensor = values.tensors.emplace_back(plan.quantized[static_cast<std::size_t>(weight)].values);
    tensor.shard = 0;
    tensor.file_offset = shard.bytes;
    shard.bytes += tensor.bytes;
    ++shard.tensor_count;
  }
  return values;
}

using Taker = std::function<absl::Status(const LoadedSegment&, std::size_t part)>;

// Hands every part of the values to `take`, from several threads at once.
absl::Status ReadValues(const ExportPlan& values, const RunResources& resources, const RunControl& control,
                        const Taker& take) {
  const auto lanes = static_cast<std::int64_t>(resources.threads);
  std::vector<SegmentPipeline::Lane> takers;
  for (std::int64_t lane = 0; lane < lanes; ++lane) {
    // Lanes get all segments: each takes its turn.
    takers.emplace_back([&, lane, number = std::int64_t{0}](const LoadedSegment& segment) mutable {
      if (number++ % lanes != lane) {
        return absl::OkStatus();
      }
      for (std::size_t part = 0; part < segment.segment().parts.size(); ++part) {
        SLIPWAY_RETURN_IF_ERROR(take(segment, part));
      }
      if (control.written) {
        control.written(0);  // it gets on, though nothing is written yet
      }
      return absl::OkStatus();
    });
  }
  SegmentCutter cutter(values, 0, resources.segment_bytes);
  SegmentPipeline pipeline(values, values.shards.front(), cutter, std::move(takers),
                           {.memory = resources.memory, .threads = resources.threads, .cancelled = [&control] {
                              return control.cancelled != nullptr && control.cancelled->load();
                            }});
  return pipeline.Run();
}

// The amax of each of `weights`.
absl::StatusOr<std::vector<float>> FindAmaxes(const ExportPlan& plan, const std::vector<std::int32_t>& weights,
                                              Quantizer& quantizer, const RunResources& resources,
                                              const RunControl& control) {
  const ExportPlan values = ValuesPlan(plan, weights);
  std::vector<float> amaxes(weights.size(), 0);
  std::mutex mutex;
  const Taker take = [&](const LoadedSegment& segment, std::size_t index) {
    const TensorPart& part = segment.segment().parts[index];
    const OutputTensor& tensor = values.tensors[static_cast<std::size_t>(part.tensor)];
    float amax = 0;
    for (std::size_t i = segment.first_pieces()[index]; i < segment.first_pieces()[index + 1]; ++i) {
      const iovec& piece = segment.pieces()[i];
      const auto count = static_cast<std::int64_t>(piece.iov_len) / InfoOf(tensor.dtype).bytes;
      SLIPWAY_ASSIGN_OR_RETURN(
          const Measured measured,
          quantizer.Measure({.dtype = tensor.transform.to,
                             .bytes = {static_cast<const std::byte*>(piece.iov_base), piece.iov_len},
                             .rows = 1,
                             .columns = count}));
      if (measured.first_bad >= 0) {
        return Error(Reason::kCheckpointCorrupt, "has a value that is not a finite number: it cannot be quantized",
                     {.tensor = tensor.name});
      }
      amax = std::max(amax, measured.amax);
    }
    const std::scoped_lock lock(mutex);
    float& total = amaxes[static_cast<std::size_t>(part.tensor)];
    total = std::max(total, amax);
    return absl::OkStatus();
  };
  SLIPWAY_RETURN_IF_ERROR(ReadValues(values, resources, control, take));
  return amaxes;
}

// For engines that turn INT4 codes into FP8 ones.
constexpr float kFloat8Bound = 448;

float ScaleOf(const QuantizedWeight& weight, float amax) {
  const bool float8 = std::ranges::find(weight.layout->tensors, StoredRole::kFloat8Scale, &LayoutTensor::role) !=
                      weight.layout->tensors.end();
  if (float8) {
    return amax > 0 ? amax / kFloat8Bound : 1.0F;
  }
  return TensorScale(weight.coding, amax);
}

// The scale groups that the shard's outputs need.
std::set<std::int32_t> GroupsOf(const ExportPlan& plan, const Shard& shard) {
  std::set<std::int32_t> groups;
  for (std::int32_t i = shard.first_tensor; i < shard.first_tensor + shard.tensor_count; ++i) {
    const OutputTensor& tensor = plan.tensors[static_cast<std::size_t>(i)];
    if (tensor.quantized && tensor.quantized->weight >= 0) {
      const std::int32_t group = plan.quantized[static_cast<std::size_t>(tensor.quantized->weight)].scale_group;
      if (group >= 0) {
        groups.insert(group);
      }
    }
  }
  return groups;
}

}  // namespace

absl::StatusOr<std::vector<float>> FindTensorScales(const ExportPlan& plan, std::int32_t shard, Quantizer& quantizer,
                                                    const RunResources& resources, const RunControl& control) {
  std::vector<float> scales(plan.scale_groups.size(), 1.0F);
  std::vector<std::int32_t> weights;
  const std::set<std::int32_t> groups = GroupsOf(plan, plan.shards[static_cast<std::size_t>(shard)]);
  for (const std::int32_t group : groups) {
    const ScaleGroup& members = plan.scale_groups[static_cast<std::size_t>(group)];
    if (!members.amax) {
      weights.insert(weights.end(), members.weights.begin(), members.weights.end());
    }
  }
  std::vector<float> found;
  if (!weights.empty()) {
    SLIPWAY_ASSIGN_OR_RETURN(found, FindAmaxes(plan, weights, quantizer, resources, control));
  }
  std::size_t next = 0;
  for (const std::int32_t group : groups) {
    const ScaleGroup& members = plan.scale_groups[static_cast<std::size_t>(group)];
    float amax = members.amax.value_or(0);
    for (std::size_t i = 0; !members.amax && i < members.weights.size(); ++i) {
      amax = std::max(amax, found[next++]);
    }
    scales[static_cast<std::size_t>(group)] =
        ScaleOf(plan.quantized[static_cast<std::size_t>(members.weights.front())], amax);
  }
  return scales;
}

}  // namespace slipway::engine
