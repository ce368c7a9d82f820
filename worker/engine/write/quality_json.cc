#include "worker/engine/write/quality_json.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "worker/engine/write/report_numbers.h"

namespace slipway::engine {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kFormat = "slipway-quality-report";
constexpr int kVersion = 1;

std::string Dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json ShapeOf(const Shape& shape) {
  Json extents = Json::array();
  for (const std::int64_t extent : shape) {
    extents.push_back(extent);
  }
  return extents;
}

Json WithSum(Json row, const QualitySum& sum) {
  row["tensors"] = sum.tensors;
  row["bytes_before"] = sum.bytes_before;
  row["bytes_after"] = sum.bytes_after;
  row["bits_per_weight"] = RoundedNumber(sum.BitsPerWeight());
  row["sqnr_db"] = RoundedNumber(sum.statistics.SignalToQuantizationNoise());
  row["relative_error"] = RoundedNumber(sum.statistics.RelativeError());
  row["amax_to_rms"] = RoundedNumber(OutlierRatio(sum.statistics));
  row["outside_bound"] = sum.outside;
  row.update(StatisticsToJson(sum.statistics));
  return row;
}

Json RowOf(const QualityFormat& format) {
  return WithSum({{"format", std::string(format.format->name)},
                  {"summary", std::string(format.format->summary)},
                  {"config_form", std::string(NameOf(format.layout->form))},
                  {"algorithm", std::string(format.layout->algorithm)},
                  {"activations", std::string(NameOf(format.layout->activations))},
                  {"input_ranges", format.input_ranges},
                  {"loaded_by", format.loaded_by},
                  {"error_bound", format.format->error_bound}},
                 format.sum);
}

Json RowOf(const QualityLayer& layer) {
  return WithSum({{"layer", layer.name},
                  {"least_sqnr_db", RoundedNumber(layer.least)},
                  {"mean_sqnr_db", RoundedNumber(layer.mean)}},
                 layer.sum);
}

Json RowOf(const QualityTensor& tensor) {
  return WithSum({{"name", tensor.name},
                  {"layer", LayerName(tensor.place)},
                  {"format", std::string(tensor.format->name)},
                  {"shape", {tensor.rows, tensor.columns}},
                  {"within_bound", !tensor.Outside()}},
                 tensor.sum);
}

Json RowOf(const UnquantizedTensor& tensor) {
  return {{"name", tensor.name},
          {"dtype", std::string(InfoOf(tensor.dtype).safetensors_name)},
          {"shape", ShapeOf(tensor.shape)},
          {"bytes", tensor.bytes}};
}

// Row by row: a report of 100,000 tensors never exists as a tree.
template <class Row>
std::string Rows(const std::vector<Row>& rows) {
  std::string text = "[";
  for (const Row& row : rows) {
    text += text.size() > 1 ? ",\n    " : "\n    ";
    text += Dump(RowOf(row));
  }
  return text + (rows.empty() ? "]" : "\n  ]");
}

}  // namespace

std::string QualityToJson(const QualityReport& report) {
  std::string text = "{\n";
  const auto field = [&text](std::string_view name, const std::string& value) {
    text += fmt::format("{}  \"{}\": {}", text.size() > 2 ? ",\n" : "", name, value);
  };
  field("format", Dump(std::string(kFormat)));
  field("version", std::to_string(kVersion));
  field("architecture", Dump(report.architecture));
  field("loaded_by", Dump(report.loaded_by));
  field("ranges", Dump(report.ranges));
  field("warnings", Dump(report.warnings));
  field("total", Dump(WithSum(Json::object(), report.total)));
  field("formats", Rows(report.formats));
  field("layers", Rows(report.layers));
  field("tensors", Rows(report.tensors));
  field("unquantized_bytes", std::to_string(report.unquantized_bytes));
  field("unquantized", Rows(report.unquantized));
  return text + "\n}\n";
}

absl::StatusOr<std::map<std::string, WeightStatistics>> ParseQuality(std::string_view json) {
  try {
    const nlohmann::json report = nlohmann::json::parse(json);
    if (report.at("format") != std::string(kFormat) || report.at("version") != kVersion) {
      return Error(Reason::kArtifactCorrupt, "not a quality report of a version that is known here");
    }
    std::map<std::string, WeightStatistics> tensors;
    for (const nlohmann::json& row : report.at("tensors")) {
      tensors[row.at("name").get<std::string>()] = StatisticsFromJson(row);
    }
    return tensors;
  } catch (const nlohmann::json::exception& error) {
    return Error(Reason::kArtifactCorrupt, fmt::format("the quality report cannot be understood: {}", error.what()));
  }
}

}  // namespace slipway::engine
