#include "worker/engine/run/tensor_scales.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "common/error.h"
#include "worker/engine/quantize/scale_search.h"
#include "worker/engine/run/code_bands.h"
#include "worker/engine/run/quantized_bands.h"
#include "worker/engine/run/segment_cutter.h"
#include "worker/engine/run/segment_pipeline.h"

namespace slipway::engine {
namespace {

using Probe = decltype(Quantization::probe);

// For engines that turn INT4 codes into FP8 ones.
constexpr float kFloat8Bound = 448;

// The scales of a shard's weights, found step by step.
class Finder {
 public:
  Finder(const ExportPlan& plan, std::int32_t shard, Quantizer& quantizer, const RunResources& resources,
         const RunControl& control)
      : plan_(plan),
        shard_(plan.shards[static_cast<std::size_t>(shard)]),
        quantizer_(quantizer),
        resources_(resources),
        control_(control) {}

  absl::StatusOr<std::vector<float>> Find() {
    std::vector<float> scales(plan_.scale_groups.size(), 1.0F);
    std::set<std::int32_t> groups = GroupsOfShard();
    std::erase_if(groups, [&](std::int32_t group) {
      const auto known = resources_.scales == nullptr ? std::nullopt : resources_.scales->Find(plan_.hash, group);
      scales[static_cast<std::size_t>(group)] = known.value_or(1.0F);
      return known.has_value();
    });
    SLIPWAY_RETURN_IF_ERROR(FindAmaxes(groups));
    for (const std::int32_t group : groups) {
      scales[static_cast<std::size_t>(group)] = RuleScale(group);
    }
    SLIPWAY_RETURN_IF_ERROR(Search(groups, scales));
    for (const std::int32_t group : groups) {
      if (resources_.scales != nullptr) {
        resources_.scales->Keep(plan_.hash, group, scales[static_cast<std::size_t>(group)]);
      }
    }
    return scales;
  }

 private:
  [[nodiscard]] const ScaleGroup& GroupAt(std::int32_t group) const {
    return plan_.scale_groups[static_cast<std::size_t>(group)];
  }
  [[nodiscard]] const QuantizedWeight& WeightAt(std::int32_t weight) const {
    return plan_.quantized[static_cast<std::size_t>(weight)];
  }
  [[nodiscard]] const QuantizedWeight& FirstOf(std::int32_t group) const {
    return WeightAt(GroupAt(group).weights.front());
  }

  [[nodiscard]] std::set<std::int32_t> GroupsOfShard() const {
    std::set<std::int32_t> groups;
    for (std::int32_t i = shard_.first_tensor; i < shard_.first_tensor + shard_.tensor_count; ++i) {
      const OutputTensor& tensor = plan_.tensors[static_cast<std::size_t>(i)];
      if (tensor.quantized && tensor.quantized->weight >= 0 && WeightAt(tensor.quantized->weight).scale_group >= 0) {
        const QuantizedWeight& weight = WeightAt(tensor.quantized->weight);
        for (std::int64_t matrix = 0; matrix < ScaledMatrixCount(weight); ++matrix) {
          groups.insert(weight.scale_group + static_cast<std::int32_t>(matrix));
        }
      }
    }
    return groups;
  }

  // Appends the matrices that a group's scale is of, as weights of that group.
  void AppendMatrices(std::int32_t group, std::vector<QuantizedWeight>& matrices) const {
    const ScaleGroup& members = GroupAt(group);
    if (members.measured.empty()) {
      std::ranges::transform(members.weights, std::back_inserter(matrices),
                             [this](std::int32_t weight) { return WeightAt(weight); });
    }
    for (const OutputTensor& values : members.measured) {
      QuantizedWeight& matrix = matrices.emplace_back();
      matrix.values = values;
      matrix.rows = values.shape.front();
      matrix.columns = values.shape.back();
      matrix.format = FirstOf(group).format;
      matrix.layout = FirstOf(group).layout;
      matrix.coding = FirstOf(group).coding;
      matrix.scale_group = group;
    }
  }

  // Hands all values of the weights to `probe`, some rows at a time.
  absl::Status Read(std::vector<QuantizedWeight> weights, const Probe& probe) {
    if (weights.empty()) {
      return absl::OkStatus();
    }
    ExportPlan codes;  // all that is needed of a plan that would write the weights' codes, in one file without a header
    codes.options = plan_.options;
    codes.checkpoint = plan_.checkpoint;
    Shard& shard = codes.shards.emplace_back();
    for (QuantizedWeight& weight : weights) {
      OutputTensor& tensor = codes.tensors.emplace_back();
      tensor.name = weight.values.name;
      tensor.quantized = QuantizedPart{.weight = static_cast<std::int32_t>(codes.quantized.size())};
      codes.quantized.push_back(std::move(weight));
      tensor.bytes =
          OutputBytesOf(codes.quantized.back(), StoredRole::kCodes, BandsOf(codes.quantized.back()).total_rows);
      tensor.file_offset = shard.bytes;
      shard.bytes += tensor.bytes;
      ++shard.tensor_count;
    }
    const Quantization quantization{.quantizer = &quantizer_, .tensor_scales = {}, .probe = probe};
    const SegmentPipeline::Lane alive = [this](const LoadedSegment&) {
      if (control_.written) {
        control_.written(0);  // it gets on, though nothing is written yet
      }
      return absl::OkStatus();
    };
    SegmentCutter cutter(codes, 0, resources_.segment_bytes);
    SegmentPipeline pipeline(
        codes, shard, cutter, {alive},
        {.memory = resources_.memory,
         .threads = resources_.threads,
         .share = resources_.share,
         .cancelled = [this] { return control_.cancelled != nullptr && control_.cancelled->load(); },
         .buffers = resources_.buffers,
         .quantization = &quantization});
    return pipeline.Run();
  }

  absl::Status FindAmaxes(const std::set<std::int32_t>& groups) {
    std::vector<QuantizedWeight> weights;
    for (const std::int32_t group : groups) {
      if (const ScaleGroup& members = GroupAt(group); !members.amax) {
        AppendMatrices(group, weights);
      } else {
        amaxes_[group] = *members.amax;
      }
    }
    std::mutex mutex;
    return Read(std::move(weights), [&](const QuantizedWeight& weight, std::int64_t, const Values& values) {
      SLIPWAY_ASSIGN_OR_RETURN(const Measured measured, quantizer_.Measure(values));
      if (measured.first_bad >= 0) {
        return Error(Reason::kCheckpointCorrupt, "has a value that is not a finite number: it cannot be quantized",
                     {.tensor = weight.values.name});
      }
      const std::scoped_lock lock(mutex);
      float& amax = amaxes_[weight.scale_group];
      amax = std::max(amax, measured.amax);
      return absl::OkStatus();
    });
  }

  [[nodiscard]] float RuleScale(std::int32_t group) const {
    const QuantizedWeight& weight = FirstOf(group);
    const auto found = amaxes_.find(group);
    const float amax = found == amaxes_.end() ? 0 : found->second;  // of weights without elements
    if (Stores(*weight.layout, StoredRole::kFloat8Scale)) {
      return amax > 0 ? amax / kFloat8Bound : 1.0F;
    }
    return TensorScale(weight.coding, amax);
  }

  // Replaces scales of kTensor by the neighbours of least squared error, where that is asked for.
  absl::Status Search(const std::set<std::int32_t>& groups, std::vector<float>& scales) {
    struct Sums {
      std::vector<float> scales;
      std::vector<double> errors;  // [row][scale]
    };
    std::map<std::string, Sums> sums;  // by the weight's name
    std::vector<QuantizedWeight> weights;
    std::map<std::int32_t, std::vector<std::string>> names;  // by group
    for (const std::int32_t group : groups) {
      const Coding& coding = FirstOf(group).coding;
      if (coding.sharing != Sharing::kTensor || coding.search == ScaleSearch::kAmax) {
        continue;
      }
      const std::size_t first = weights.size();
      AppendMatrices(group, weights);
      for (const QuantizedWeight& weight : std::span(weights).subspan(first)) {
        Sums& entry = sums[weight.values.name];
        for (const float factor : AmaxFactors(coding.element)) {
          entry.scales.push_back(TensorScale(coding, amaxes_[group] * factor));
        }
        entry.errors.resize(static_cast<std::size_t>(weight.rows) * entry.scales.size());
        names[group].push_back(weight.values.name);
      }
    }
    SLIPWAY_RETURN_IF_ERROR(
        Read(std::move(weights), [&](const QuantizedWeight& weight, std::int64_t row, const Values& values) {
          Sums& entry = sums.find(weight.values.name)->second;
          const std::size_t width = entry.scales.size();
          return quantizer_.SquaredErrors(
              weight.coding, values, entry.scales,
              std::span(entry.errors)
                  .subspan(static_cast<std::size_t>(row) * width, static_cast<std::size_t>(values.rows) * width));
        }));
    for (const auto& [group, matrices] : names) {
      std::vector<double> totals;
      for (const std::string& name : matrices) {
        const Sums& entry = sums.at(name);
        const std::size_t width = entry.scales.size();
        totals.resize(width);
        for (std::size_t i = 0; i < entry.errors.size(); ++i) {  // row by row, whoever computed them
          totals[i % width] += entry.errors[i];
        }
        const auto best = std::ranges::min_element(totals) - totals.begin();
        scales[static_cast<std::size_t>(group)] = entry.scales[static_cast<std::size_t>(best)];
      }
    }
    return absl::OkStatus();
  }

  const ExportPlan& plan_;
  const Shard& shard_;
  Quantizer& quantizer_;
  const RunResources& resources_;
  const RunControl& control_;
  std::map<std::int32_t, float> amaxes_;  // by scale group
};

}  // namespace

absl::StatusOr<std::vector<float>> FindTensorScales(const ExportPlan& plan, std::int32_t shard, Quantizer& quantizer,
                                                    const RunResources& resources, const RunControl& control) {
  return Finder(plan, shard, quantizer, resources, control).Find();
}

}  // namespace slipway::engine
