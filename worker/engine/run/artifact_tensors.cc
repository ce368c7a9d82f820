#include "worker/engine/run/artifact_tensors.h"

#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/write/verify_bytes.h"

namespace slipway::engine {

absl::StatusOr<ArtifactTensors> ArtifactTensors::Open(const std::string& directory) {
  ArtifactTensors artifact;
  auto opened = OpenLocalDirectory(directory);
  const std::string manifest_path(kManifestFile);
  if (!opened.ok() || !(*opened)->Exists(manifest_path)) {
    return Error(Reason::kNotFound, "there is no artifact: no manifest.json",
                 {.file = fmt::format("{}/{}", directory, kManifestFile)});
  }
  artifact.directory_ = *std::move(opened);
  SLIPWAY_ASSIGN_OR_RETURN(const std::string text, artifact.directory_->ReadSmallFile(manifest_path, kMaximumManifest));
  SLIPWAY_ASSIGN_OR_RETURN(Manifest manifest, ParseManifest(text));
  artifact.manifest_ = std::make_unique<const Manifest>(std::move(manifest));
  for (const ManifestTensor& tensor : artifact.manifest_->tensors) {
    artifact.by_name_and_file_.emplace(std::pair(std::string_view(tensor.name), std::string_view(tensor.file)),
                                       &tensor);
    if (!artifact.files_.contains(tensor.file)) {
      auto file = artifact.directory_->Open(tensor.file);
      if (!file.ok()) {
        return AsCorrupt(file.status(), {.file = tensor.file});
      }
      artifact.files_.emplace(tensor.file, *std::move(file));
    }
  }
  return artifact;
}

absl::Status ArtifactTensors::CheckAre(const ExportPlan& plan) const {
  for (const OutputTensor& tensor : plan.tensors) {
    const ManifestTensor* const found = Find(plan, tensor);
    if (found == nullptr) {
      return Error(Reason::kPlanMismatch, "an export of this checkpoint has the tensor, the artifact has not",
                   {.tensor = tensor.name});
    }
    const ManifestTensor& stored = *found;
    if (stored.dtype != tensor.dtype || stored.shape != tensor.shape || stored.bytes != tensor.bytes) {
      return Error(Reason::kPlanMismatch, "has another dtype or shape in an export of this checkpoint",
                   {.tensor = tensor.name, .file = stored.file});
    }
  }
  if (by_name_and_file_.size() != plan.tensors.size()) {
    return Error(Reason::kPlanMismatch, fmt::format("the artifact has {} tensors, an export of this checkpoint {}",
                                                    by_name_and_file_.size(), plan.tensors.size()));
  }
  return absl::OkStatus();
}

const ManifestTensor* ArtifactTensors::Find(const ExportPlan& plan, const OutputTensor& tensor) const {
  const Shard& shard = plan.shards[static_cast<std::size_t>(tensor.shard)];
  const std::string_view file = shard.is_rank ? std::string_view(shard.file) : std::string_view();
  const auto found = by_name_and_file_.lower_bound({tensor.name, file});
  const bool is_it = found != by_name_and_file_.end() && found->first.first == tensor.name &&
                     (!shard.is_rank || found->first.second == file);
  return is_it ? found->second : nullptr;
}

absl::Status ArtifactTensors::Read(const ManifestTensor& tensor, std::int64_t first, std::span<std::byte> bytes) const {
  const absl::Status status = files_.at(tensor.file)->ReadAt(tensor.offset + first, bytes);
  return status.ok() ? status : AsCorrupt(status, {.tensor = tensor.name, .file = tensor.file});
}

}  // namespace slipway::engine
