// A checkpoint of random tensors in random pieces, a plan over it, and the bytes that the plan's files must have,
// assembled element by element from the tensors rather than from the files.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/file_system.h"
#include "tests/support/temporary_directory.h"
#include "worker/engine/plan/export_plan.h"

namespace slipway::test {

std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, const std::string& content);
// Names directly below, sorted.
std::vector<std::string> NamesIn(const std::string& directory);

struct RandomExportOptions {
  std::uint32_t seed = 1;
  int tensors = 6;
  int shards = 2;
  std::int64_t largest_extent = 40;
  DigestAlgorithm digest = DigestAlgorithm::kSha256;
};

struct RandomExport {
  std::shared_ptr<engine::ExportPlan> plan;
  std::vector<std::string> expected;  // the whole file, one a shard
};

// Writes the checkpoint's files into `directory`. The plan has two texts and no sidecars.
RandomExport MakeRandomExport(const std::string& directory, const RandomExportOptions& options);

}  // namespace slipway::test
