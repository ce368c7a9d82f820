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
};

// {"path", "format", "writer", "iteration" (or null), "checkpoint_version", "architecture" (or null), "model_type",
// "configuration":
// {...}, "parameters", "layout": {"tensor_parallel", "pipeline_parallel", ...}, "dtypes": {"BF16": count},
// "tensor_count", "weight_bytes", "files": {"count", "bytes"}, "ignored": [{"reason", "count", "bytes", "examples"}],
// "problems": ["..."], "tensors": [{"name", "dtype", "shape", "pieces", "bytes"}] if asked for}. A checkpoint that can
// be read but not exported is described, with the reasons under "problems"; only an unreadable one is an error.
absl::StatusOr<nlohmann::ordered_json> Inspect(const InspectOptions& options);

}  // namespace slipway::engine
