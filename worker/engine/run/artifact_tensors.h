// The tensors of a published artifact, by name, and those of ranks by their files too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/storage/source.h"
#include "worker/engine/write/manifest.h"

namespace slipway::engine {

// Thread-safe once it is made.
class ArtifactTensors {
 public:
  // Reads the manifest. NOT_FOUND where there is none, ARTIFACT_CORRUPT.
  static absl::StatusOr<ArtifactTensors> Open(const std::string& directory);

  [[nodiscard]] const Manifest& manifest() const { return *manifest_; }
  [[nodiscard]] const SourceDirectory& directory() const { return *directory_; }

  // PLAN_MISMATCH, naming the tensor, unless the artifact has the plan's tensors, each with its dtype and shape, and no
  // others.
  [[nodiscard]] absl::Status CheckAre(const ExportPlan& plan) const;

  // What the artifact has for that tensor of the plan, or null: of a rank what its file has, else of any file.
  [[nodiscard]] const ManifestTensor* Find(const ExportPlan& plan, const OutputTensor& tensor) const;
  // Bytes from `first` on of a tensor, inside of it.
  [[nodiscard]] absl::Status Read(const ManifestTensor& tensor, std::int64_t first, std::span<std::byte> bytes) const;

 private:
  std::unique_ptr<const SourceDirectory> directory_;
  std::unique_ptr<const Manifest> manifest_;
  std::map<std::pair<std::string_view, std::string_view>, const ManifestTensor*> by_name_and_file_;
  std::map<std::string, std::unique_ptr<SourceFile>> files_;
};

}  // namespace slipway::engine
