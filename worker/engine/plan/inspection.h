// What `slipway inspect` shows.
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"

namespace slipway::engine {

struct InspectOptions {
  std::string checkpoint;
  std::optional<std::int64_t> iteration;
  bool tensors = false;
  std::string hf_config = {};  // as ExportOptions has them: what the checkpoint itself cannot say
  std::string architecture = {};
};

// {"path", "format", "writer", "iteration" (or null), "checkpoint_version", "architecture" (or null), "model_type",
// "summary", "alternatives": [families that fit as well], "configuration": {...: configuration_json.h}, "parameters"
// (without vocabulary padding, once a plan can be made), "active_parameters" (a token, with experts; else null),
// "layout": {"tensor_parallel", "pipeline_parallel", ...}, "dtypes": {"BF16": count}, "tensor_count", "piece_count",
// "weight_bytes", "files": {"count", "bytes"}, "ignored": [{"reason", "count", "bytes", "examples"}], "notes": [what an
// export would warn of], "problems": ["..."], "advice": [what to do about each problem], "tensors": [{"name", "dtype",
// "shape", "pieces", "bytes"}] if asked for}. A checkpoint that can be read but not exported is described, with the
// reasons under "problems"; only an unreadable one is an error.
absl::StatusOr<nlohmann::ordered_json> Inspect(const InspectOptions& options);

}  // namespace slipway::engine
