// An artifact against the checkpoint it was made of: the plan is made again from the manifest's options, the checkpoint
// is read again, codes are decoded with their scales. Nothing of what the export measured is believed.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/quantize/weight_statistics.h"

namespace slipway::engine {

struct ComparedWeight {
  std::string name;  // of its codes
  std::string format;
  WeightStatistics found;
  std::optional<WeightStatistics> reported;  // by report.json, where that has it
  double error_bound = 0;                    // of the format
  // What is found is what is reported: counts and magnitudes exactly, sums but for the order in which they are added.
  [[nodiscard]] bool Agrees() const;
};

struct DifferentTensor {
  std::string name;
  std::string file;
  std::int64_t offset = 0;  // of the first byte that differs, in the file
};

struct ComparisonReport {
  std::vector<ComparedWeight> weights;     // what is stored as codes, in the plan's order
  std::int64_t equal = 0;                  // other tensors, which are what the plan makes of the source, bit for bit
  std::vector<DifferentTensor> different;  // and those that are not
  bool same_output = false;                // the plan that was made again would write the manifest's very output
  bool has_report = false;                 // the artifact has a quality report
  [[nodiscard]] bool Passed() const;
  [[nodiscard]] WeightStatistics Total() const;
};

struct ComparisonResources {
  std::int64_t memory_bytes = 0;  // budget; less than the plan's peak is made that
  int threads = 1;
};

// Compares what VerifyArtifact has proven. Holds a few bands and segments at a time, under the budget. Errors: as
// MakePlan; PLAN_MISMATCH, naming the tensor, where the artifact has other tensors than an export of this checkpoint
// with its options; OPTION_UNSUPPORTED for a manifest without options; CHECKPOINT_* and ARTIFACT_CORRUPT from reading.
// `progress` gets bytes compared, from any thread.
absl::StatusOr<ComparisonReport> CompareWithCheckpoint(const std::string& artifact, const std::string& checkpoint,
                                                       const ComparisonResources& resources,
                                                       const std::function<void(std::int64_t)>& progress);

}  // namespace slipway::engine
