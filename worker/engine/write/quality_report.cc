#include "worker/engine/write/quality_report.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <limits>
#include <map>
#include <tuple>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "worker/engine/plan/consumers.h"
#include "worker/engine/write/quality_text.h"

namespace slipway::engine {
namespace {

constexpr std::size_t kMostDigits = 9;
constexpr double kBitsOfByte = 8;

struct Consumer {
  std::uint8_t bit;
  std::string_view name;
};
constexpr Consumer kConsumers[] = {{kLoadsVllm, "vLLM"},
                                   {kLoadsSglang, "SGLang"},
                                   {kLoadsTensorRtLlm, "TensorRT-LLM"},
                                   {kLoadsTransformers, "transformers"}};

std::vector<std::string> NamesOf(std::uint8_t loaders) {
  std::vector<std::string> names;
  for (const Consumer& consumer : kConsumers) {
    if ((loaders & consumer.bit) != 0) {
      names.emplace_back(consumer.name);
    }
  }
  return names;
}

bool IsNumber(std::string_view word) {
  return !word.empty() && word.size() <= kMostDigits &&
         std::ranges::all_of(word, [](char c) { return c >= '0' && c <= '9'; });
}

void Add(const QualitySum& one, QualitySum& sum) {
  sum.tensors += one.tensors;
  sum.bytes_before += one.bytes_before;
  sum.bytes_after += one.bytes_after;
  sum.outside += one.outside;
  sum.statistics.Add(one.statistics);
}

class Maker {
 public:
  Maker(const ExportPlan& plan, const std::vector<ShardResult>& results) : plan_(plan), results_(results) {}

  QualityReport Make() {
    report_.architecture = plan_.architecture;
    report_.warnings = plan_.warnings;
    AddTensors();
    Measure();
    std::ranges::sort(report_.tensors, {}, [](const QualityTensor& tensor) {
      return std::tie(tensor.place.prefix, tensor.place.layer, tensor.name);
    });
    AddLayers();
    AddFormats();
    return std::move(report_);
  }

 private:
  void AddTensors() {
    for (const QuantizedWeight& weight : plan_.quantized) {
      QualityTensor& tensor = report_.tensors.emplace_back();
      tensor.place = PlaceOf(weight.module);
      tensor.format = weight.format;
      tensor.rows = weight.rows;
      tensor.columns = weight.kept_columns > 0 ? weight.kept_columns : weight.columns;
      tensor.sum.tensors = 1;
      tensor.sum.bytes_before = tensor.rows * tensor.columns * InfoOf(weight.values.dtype).bytes;
    }
    for (const OutputTensor& output : plan_.tensors) {
      if (output.quantized && output.quantized->weight >= 0) {
        QualityTensor& tensor = report_.tensors[static_cast<std::size_t>(output.quantized->weight)];
        tensor.sum.bytes_after += output.bytes;
        if (output.quantized->role == StoredRole::kCodes) {
          tensor.name = ReportedName(plan_, output);
        }
      } else {
        report_.unquantized.push_back({ReportedName(plan_, output), output.dtype, output.shape, output.bytes});
        report_.unquantized_bytes += output.bytes;
      }
    }
  }

  void Measure() {
    for (const ShardResult& shard : results_) {
      const auto first = static_cast<std::size_t>(plan_.shards[static_cast<std::size_t>(shard.shard)].first_tensor);
      for (std::size_t i = 0; i < shard.tensors.size(); ++i) {
        const OutputTensor& output = plan_.tensors[first + i];
        if (shard.tensors[i].quantization && output.quantized && output.quantized->weight >= 0) {
          QualityTensor& tensor = report_.tensors[static_cast<std::size_t>(output.quantized->weight)];
          tensor.sum.statistics = *shard.tensors[i].quantization;
          tensor.sum.outside = tensor.sum.statistics.RelativeError() > tensor.format->error_bound ? 1 : 0;
        }
      }
    }
  }

  void AddLayers() {
    std::int64_t with_error = 0;
    double decibels = 0;
    for (std::size_t i = 0; i < report_.tensors.size(); ++i) {
      const QualityTensor& tensor = report_.tensors[i];
      const ModulePlace& place = tensor.place;
      const ModulePlace* const before = i == 0 ? nullptr : &report_.tensors[i - 1].place;
      if (before == nullptr || std::tie(before->prefix, before->layer) != std::tie(place.prefix, place.layer)) {
        report_.layers.push_back({.name = LayerName(place),
                                  .sum = {},
                                  .least = std::numeric_limits<double>::infinity(),
                                  .mean = std::numeric_limits<double>::infinity()});
        with_error = 0;
        decibels = 0;
      }
      QualityLayer& layer = report_.layers.back();
      Add(tensor.sum, layer.sum);
      Add(tensor.sum, report_.total);
      const double sqnr = tensor.sum.statistics.SignalToQuantizationNoise();
      if (std::isfinite(sqnr)) {
        layer.least = std::min(layer.least, sqnr);
        decibels += sqnr;
        layer.mean = decibels / static_cast<double>(++with_error);
      }
    }
  }

  void AddFormats() {
    const bool experts = std::ranges::any_of(
        plan_.tensors, [](const OutputTensor& tensor) { return tensor.name.find(".experts.") != std::string::npos; });
    std::map<std::string_view, const QuantizedWeight*> first;  // by the format's name
    std::map<std::string_view, std::int64_t> ranges;
    for (const QuantizedWeight& weight : plan_.quantized) {
      first.emplace(weight.format->name, &weight);
      ranges[weight.format->name] += weight.input_amax ? 1 : 0;
    }
    const auto possible = static_cast<std::uint8_t>(~KeptFrom(plan_));
    std::uint8_t all = 0xFF;
    std::int64_t with_ranges = 0;
    for (const auto& [name, weight] : first) {
      const std::uint8_t loaders = (experts ? weight->layout->expert_loaders : weight->layout->loaders) & possible;
      all &= loaders;
      QualityFormat& format = report_.formats.emplace_back();
      format.format = weight->format;
      format.layout = weight->layout;
      format.input_ranges = ranges[name];
      with_ranges += format.input_ranges;
      format.loaded_by = NamesOf(loaders);
      for (const QualityTensor& tensor : report_.tensors) {
        if (tensor.format == format.format) {
          Add(tensor.sum, format.sum);
        }
      }
    }
    report_.loaded_by = NamesOf(all);
    if (with_ranges > 0) {
      report_.ranges = plan_.options.ranges.empty() ? "the checkpoint's calibration, or the recipe where a warning "
                                                      "says so"
                                                    : "the file of --ranges, or the recipe where a warning says so";
    }
  }

  const ExportPlan& plan_;
  const std::vector<ShardResult>& results_;
  QualityReport report_;
};

}  // namespace

ModulePlace PlaceOf(std::string_view module) {
  const std::vector<std::string_view> words = SplitAtDots(module);
  const auto number = std::ranges::find_if(words, IsNumber);
  ModulePlace place;
  auto rest = words.begin();
  // A number after "experts" is no layer's.
  if (number != words.end() && number != words.begin() && *std::prev(number) != "experts") {
    place.prefix = fmt::format("{}", fmt::join(words.begin(), number, "."));
    for (const char digit : *number) {
      place.layer = std::max<std::int64_t>(place.layer, 0) * 10 + (digit - '0');
    }
    rest = std::next(number);
    if (std::distance(rest, words.end()) > 1) {
      ++rest;  // the block: "mlp"
    }
  }
  std::vector<std::string_view> kind(rest, words.end());
  std::ranges::replace_if(kind, IsNumber, std::string_view("*"));
  place.kind = fmt::format("{}", fmt::join(kind, "."));
  return place;
}

std::string ReportedName(const ExportPlan& plan, const OutputTensor& tensor) {
  const Shard& shard = plan.shards[static_cast<std::size_t>(tensor.shard)];
  return shard.is_rank ? fmt::format("{}.{}", shard.file.substr(0, shard.file.rfind('.')), tensor.name) : tensor.name;
}

std::string LayerName(const ModulePlace& place) {
  return place.layer < 0 ? std::string() : place.prefix + "." + std::to_string(place.layer);
}

double QualitySum::BitsPerWeight() const {
  return statistics.elements == 0
             ? 0
             : kBitsOfByte * static_cast<double>(bytes_after) / static_cast<double>(statistics.elements);
}

double OutlierRatio(const WeightStatistics& statistics) {
  return statistics.squared_value > 0
             ? static_cast<double>(statistics.amax) /
                   std::sqrt(statistics.squared_value / static_cast<double>(statistics.elements))
             : 0;
}

QualityReport MakeQualityReport(const ExportPlan& plan, const std::vector<ShardResult>& results) {
  return Maker(plan, results).Make();
}

}  // namespace slipway::engine
