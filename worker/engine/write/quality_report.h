// What quantization did to a model, as numbers: made at publication from the plan and from what was measured while the
// shards were written. quality_json.h and quality_page.h say it to programs and to people.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "worker/engine/plan/export_plan.h"
#include "worker/engine/quantize/weight_statistics.h"
#include "worker/engine/run/shard_writer.h"

namespace slipway::engine {

inline constexpr std::string_view kQualityJsonFile = "report.json";
inline constexpr std::string_view kQualityPageFile = "report.html";

// Where a module is: "model.layers.3.mlp.experts.7.up_proj" is in layer 3 of "model.layers", as "experts.*.up_proj".
struct ModulePlace {
  std::string prefix;       // "model.layers"; empty where the name has no number
  std::int64_t layer = -1;  // 3; -1 where the name has no number
  std::string kind;         // without the layer and the block within it; experts' numbers are "*"
  auto operator<=>(const ModulePlace&) const = default;  // NOLINT(modernize-use-nullptr): as of LeaseKey
};
ModulePlace PlaceOf(std::string_view module);
std::string LayerName(const ModulePlace& place);  // "model.layers.3"; empty outside of layers

// What a report calls a tensor: its name, which of a rank begins with the file's, "rank1.transformer.ln_f.weight".
std::string ReportedName(const ExportPlan& plan, const OutputTensor& tensor);

// Weights taken together.
struct QualitySum {
  std::int64_t tensors = 0;
  WeightStatistics statistics;
  std::int64_t bytes_before = 0;  // as an export without quantization would have written them
  std::int64_t bytes_after = 0;   // codes, scales and whatever else stands for them
  std::int64_t outside = 0;       // tensors whose error is beyond their format's bound
  [[nodiscard]] double BitsPerWeight() const;
};

struct QualityTensor {
  std::string name;  // of its codes
  ModulePlace place;
  const Format* format = nullptr;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  QualitySum sum;  // of this one
  [[nodiscard]] bool Outside() const { return sum.outside > 0; }
};

struct QualityLayer {
  std::string name;  // empty: what is in no layer
  QualitySum sum;
  double least = 0;  // SQNR in dB, of the worst tensor
  double mean = 0;   // of the tensors that have an error; infinite where none has
};

// A format, in the layout that the plan took.
struct QualityFormat {
  const Format* format = nullptr;
  const Layout* layout = nullptr;
  std::int64_t input_ranges = 0;       // modules whose input has a stored range
  std::vector<std::string> loaded_by;  // "vLLM"; models with experts are loaded by fewer
  QualitySum sum;
};

struct UnquantizedTensor {
  std::string name;
  DType dtype = DType::kBF16;
  Shape shape;
  std::int64_t bytes = 0;
};

struct QualityReport {
  std::string architecture;
  std::vector<std::string> loaded_by;  // what loads all of the formats
  std::string ranges;                  // where ranges of activations came from, in words; empty where there are none
  std::vector<std::string> warnings;   // the plan's
  QualitySum total;
  std::vector<QualityFormat> formats;
  std::vector<QualityLayer> layers;    // in order
  std::vector<QualityTensor> tensors;  // by layer and name
  std::vector<UnquantizedTensor> unquantized;
  std::int64_t unquantized_bytes = 0;
};

// amax over the root of the mean square: 1 for values of one magnitude, about 4.5 for a large matrix of Gaussian ones.
double OutlierRatio(const WeightStatistics& statistics);

// Of a plan that quantizes, with the results of all its shards.
QualityReport MakeQualityReport(const ExportPlan& plan, const std::vector<ShardResult>& results);

}  // namespace slipway::engine
