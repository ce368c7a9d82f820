// report.json: everything of a quality report, for programs.
//
// {"format": "slipway-quality-report", "version": 1, "architecture", "loaded_by", "ranges", "warnings", "total": SUM,
// "formats": [{"format", "summary", "config_form", "algorithm", "activations", "input_ranges", "loaded_by",
// "error_bound", SUM}], "layers": [{"layer", "least_sqnr_db", "mean_sqnr_db", SUM}], "tensors": [{"name", "layer",
// "format", "shape", "within_bound", SUM}], "unquantized_bytes", "unquantized": [{"name", "dtype", "shape", "bytes"}]}
//
// SUM: {"tensors", "bytes_before", "bytes_after", "bits_per_weight", "sqnr_db" (null where there is no error),
// "relative_error", "amax_to_rms", "outside_bound", and the sums of weight_statistics.h, exact}. What follows from the
// sums has six digits.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "worker/engine/write/quality_report.h"

namespace slipway::engine {

[[nodiscard]] std::string QualityToJson(const QualityReport& report);

// The statistics of each tensor, by name. ARTIFACT_CORRUPT for anything that QualityToJson would not have written,
// extra fields excepted.
absl::StatusOr<std::map<std::string, WeightStatistics>> ParseQuality(std::string_view json);

}  // namespace slipway::engine
