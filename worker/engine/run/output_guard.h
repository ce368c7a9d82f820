// What an export must not put itself in place of.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "common/file_system.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::engine {

// INVALID_ARGUMENT where `output`, links resolved, is or contains what the plan reads: its checkpoint, adapter, ranges
// or Hugging Face directory.
absl::Status CheckApartFromSources(const ExportPlan& plan, const std::string& output);

// Of an output that exists and is to be replaced: OUTPUT_EXISTS unless it is an artifact of Slipway's or an empty
// directory, so that a mistyped path costs nobody their files.
absl::Status CheckReplaceable(const std::string& output, FileSystem& files);

}  // namespace slipway::engine
