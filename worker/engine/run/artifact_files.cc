#include "worker/engine/run/artifact_files.h"

#include <utility>

#include <fmt/format.h>

#include "common/kill_point.h"
#include "worker/engine/plan/join_plans.h"
#include "worker/engine/run/staging.h"
#include "worker/engine/write/index.h"
#include "worker/engine/write/manifest.h"
#include "worker/engine/write/quality_json.h"
#include "worker/engine/write/quality_page.h"
#include "worker/engine/write/quality_report.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kMaximumSidecar = std::int64_t{128} << 20;

std::string DigestOf(DigestAlgorithm algorithm, std::string_view content) {
  Digest digest(algorithm);
  digest.Update(content);
  return digest.Finish();
}

// Writes files into the directory and takes down what they were.
class Collector {
 public:
  Collector(std::string directory, DigestAlgorithm digest, FileSystem& files)
      : directory_(std::move(directory)), digest_(digest), files_(files) {}

  absl::Status Add(const std::string& path, std::string_view content) {
    const std::string full = fmt::format("{}/{}", directory_, path);
    if (path.find('/') != std::string::npos) {
      SLIPWAY_RETURN_IF_ERROR(files_.MakeDirectories(ParentOf(full)));
    }
    SLIPWAY_RETURN_IF_ERROR(files_.WriteSmallFileAtomically(full, content));
    written_.push_back({path, static_cast<std::int64_t>(content.size()), DigestOf(digest_, content)});
    return absl::OkStatus();
  }

  [[nodiscard]] std::vector<ManifestFile> Take() { return std::exchange(written_, {}); }

 private:
  std::string directory_;
  DigestAlgorithm digest_;
  FileSystem& files_;
  std::vector<ManifestFile> written_;
};

absl::StatusOr<std::string> ReadSidecar(const SidecarFile& sidecar, FileSystem& files) {
  auto content = files.ReadSmallFile(sidecar.source, kMaximumSidecar);
  if (!content.ok() && ReasonOf(content.status()) != Reason::kLimitExceeded) {
    return Error(Reason::kCheckpointUnreadable, std::string(content.status().message()), {.file = sidecar.source});
  }
  SLIPWAY_RETURN_IF_ERROR(content.status());
  const auto now = files.Identify(sidecar.source);
  if (!now.ok() || *now != sidecar.identity) {
    return Error(Reason::kCheckpointChanged, "the file changed since the plan was made", {.file = sidecar.source});
  }
  return content;
}

// All of a manifest but its files and tensors.
Manifest Describe(const ExportPlan& plan, const std::string& export_name) {
  const Checkpoint& checkpoint = *plan.checkpoint;
  Manifest manifest;
  manifest.export_name = export_name;
  manifest.plan_hash = plan.hash;
  manifest.output_hash = plan.output_hash;
  manifest.architecture = plan.architecture;
  manifest.options = plan.options;
  manifest.source_path = checkpoint.path;
  manifest.source_format = std::string(NameOf(checkpoint.format));
  manifest.iteration = checkpoint.iteration;
  manifest.digest = plan.options.digest;
  for (const CheckpointFile& file : checkpoint.files) {
    const std::string& name = file.directory == nullptr ? file.name : file.file->name();
    manifest.source_files.push_back({name, file.identity.size, file.identity.modified_ns});
  }
  return manifest;
}

void DescribeShards(const ExportPlan& plan, const std::vector<ShardResult>& results, Manifest& manifest) {
  for (const ShardResult& shard : results) {
    manifest.files.push_back({shard.file, shard.bytes, shard.digest});
    const auto first = static_cast<std::size_t>(plan.shards[static_cast<std::size_t>(shard.shard)].first_tensor);
    for (std::size_t i = 0; i < shard.tensors.size(); ++i) {
      const OutputTensor& tensor = plan.tensors[first + i];
      ManifestTensor& row = manifest.tensors.emplace_back();
      row = {tensor.name,        tensor.dtype, tensor.shape,         shard.file,
             tensor.file_offset, tensor.bytes, shard.tensors[i].xxh3};
      if (shard.tensors[i].rounding) {
        row.cast = {.from = tensor.transform.from, .rounding = *shard.tensors[i].rounding};
      }
      if (const auto& statistics = shard.tensors[i].quantization; statistics && tensor.quantized) {
        const QuantizedWeight& weight = plan.quantized[static_cast<std::size_t>(tensor.quantized->weight)];
        row.quantization = {.format = std::string(weight.format->name),
                            .sqnr = statistics->SignalToQuantizationNoise(),
                            .relative_error = statistics->RelativeError()};
      }
    }
  }
}

// The files of the directory that an export of one target writes, its manifest among them.
absl::StatusOr<std::vector<ManifestFile>> WriteDirectory(const ExportPlan& plan,
                                                         const std::vector<ShardResult>& results,
                                                         const std::string& export_name, const std::string& directory,
                                                         FileSystem& files) {
  Collector collector(directory, plan.options.digest, files);
  for (const TextFile& text : plan.texts) {
    SLIPWAY_RETURN_IF_ERROR(collector.Add(text.path, text.content));
  }
  for (const SidecarFile& sidecar : plan.sidecars) {
    SLIPWAY_ASSIGN_OR_RETURN(const std::string content, ReadSidecar(sidecar, files));
    SLIPWAY_RETURN_IF_ERROR(collector.Add(sidecar.path, content));
  }
  if (plan.shards.size() > 1 && !plan.shards.front().is_rank) {
    SLIPWAY_RETURN_IF_ERROR(collector.Add(std::string(kIndexFile), IndexToJson(plan)));
  }
  if (!plan.quantized.empty()) {
    const QualityReport report = MakeQualityReport(plan, results);
    SLIPWAY_RETURN_IF_ERROR(collector.Add(std::string(kQualityJsonFile), QualityToJson(report)));
    SLIPWAY_RETURN_IF_ERROR(collector.Add(std::string(kQualityPageFile), QualityToHtml(report)));
  }
  SLIPWAY_KILL_POINT("publish-before-manifest");
  Manifest manifest = Describe(plan, export_name);
  DescribeShards(plan, results, manifest);
  std::vector<ManifestFile> others = collector.Take();
  manifest.files.insert(manifest.files.end(), others.begin(), others.end());
  SLIPWAY_RETURN_IF_ERROR(collector.Add(std::string(kManifestFile), ManifestToJson(manifest)));
  manifest.files.push_back(collector.Take().front());
  return std::move(manifest.files);
}

// What was written of one of a joined plan's directories, in the words of its own plan.
std::vector<ShardResult> ResultsOfDirectory(const ExportPlan& joined, std::size_t directory,
                                            const std::vector<ShardResult>& results) {
  std::vector<ShardResult> own;
  for (const std::int32_t shard : joined.directories[directory].shards) {
    ShardResult& copy = own.emplace_back(results[static_cast<std::size_t>(shard)]);
    copy.shard = static_cast<std::int32_t>(own.size()) - 1;
    copy.file = PathInDirectory(joined.directories[directory], copy.file);
  }
  return own;
}

absl::Status WriteDirectories(const ExportPlan& plan, const std::vector<ShardResult>& results,
                              const std::string& export_name, const std::string& output, FileSystem& files) {
  Manifest manifest = Describe(plan, export_name);
  for (std::size_t i = 0; i < plan.directories.size(); ++i) {
    const std::string& path = plan.directories[i].path;
    const ExportPlan own = PlanOfDirectory(plan, i);
    SLIPWAY_ASSIGN_OR_RETURN(std::vector<ManifestFile> written,
                             WriteDirectory(own, ResultsOfDirectory(plan, i, results), export_name,
                                            fmt::format("{}/{}", output, path), files));
    for (ManifestFile& file : written) {
      file.path = fmt::format("{}/{}", path, file.path);
      manifest.files.push_back(std::move(file));
    }
    manifest.directories.push_back({.path = path, .target = own.options.targets.front()});
  }
  SLIPWAY_KILL_POINT("publish-before-manifest");
  return files.WriteSmallFileAtomically(fmt::format("{}/{}", output, kManifestFile), ManifestToJson(manifest));
}

}  // namespace

absl::Status WriteArtifactFiles(const ExportPlan& plan, const std::vector<ShardResult>& results,
                                const std::string& export_name, const std::string& directory, FileSystem& files) {
  return plan.directories.empty() ? WriteDirectory(plan, results, export_name, directory, files).status()
                                  : WriteDirectories(plan, results, export_name, directory, files);
}

}  // namespace slipway::engine
