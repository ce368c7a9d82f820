#include "worker/engine/write/verify.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/digest.h"
#include "common/error.h"
#include "worker/engine/storage/source.h"
#include "worker/engine/target/rank_targets.h"
#include "worker/engine/write/index.h"
#include "worker/engine/write/manifest.h"
#include "worker/engine/write/safetensors.h"
#include "worker/engine/write/verify_bytes.h"

namespace slipway::engine {
namespace {

constexpr int kMaximumDepth = 16;
constexpr std::size_t kMaximumFiles = 1'000'000;
constexpr std::int64_t kMaximumIndex = std::int64_t{1} << 30;

absl::Status ListFiles(const SourceDirectory& directory, const std::string& prefix, int depth,
                       std::set<std::string>& found) {
  SLIPWAY_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, directory.List());
  for (const DirectoryEntry& entry : entries) {
    if (entry.is_directory) {
      if (depth == kMaximumDepth) {
        return Corrupt("directories are nested too deeply", {.file = prefix + entry.name});
      }
      SLIPWAY_ASSIGN_OR_RETURN(const auto below, directory.OpenDirectory(entry.name));
      SLIPWAY_RETURN_IF_ERROR(ListFiles(*below, prefix + entry.name + "/", depth + 1, found));
    } else if (found.size() < kMaximumFiles) {
      found.insert(prefix + entry.name);
    }
  }
  return absl::OkStatus();
}

// What a manifest stands in, and its text.
struct Artifact {
  std::unique_ptr<SourceDirectory> directory;
  std::string text;
  Manifest manifest;
};

// `path` for messages.
absl::StatusOr<Artifact> OpenArtifact(absl::StatusOr<std::unique_ptr<SourceDirectory>> opened,
                                      const std::string& path) {
  const std::string manifest_path(kManifestFile);
  if (!opened.ok() || !(*opened)->Exists(manifest_path)) {
    return Error(Reason::kNotFound, "there is no artifact: no manifest.json",
                 {.file = fmt::format("{}/{}", path, kManifestFile)});
  }
  auto text = (*opened)->ReadSmallFile(manifest_path, kMaximumManifest);
  if (!text.ok()) {
    return AsCorrupt(text.status(), {.file = manifest_path});
  }
  auto manifest = ParseManifest(*text);
  if (!manifest.ok()) {
    return AddWhere(manifest.status(), {.file = manifest_path});
  }
  return Artifact{.directory = *std::move(opened), .text = *std::move(text), .manifest = *std::move(manifest)};
}

class Verification {
 public:
  Verification(std::unique_ptr<SourceDirectory> directory, Manifest manifest,
               const std::function<void(std::int64_t)>& progress)
      : directory_(std::move(directory)), manifest_(std::move(manifest)), progress_(progress) {}

  absl::StatusOr<VerifyReport> Run(int threads) {
    SLIPWAY_RETURN_IF_ERROR(CheckListing());
    SLIPWAY_RETURN_IF_ERROR(OpenFiles());
    if (!manifest_.directories.empty()) {
      return RunDirectories(threads);
    }
    for (const ManifestFile& file : manifest_.files) {
      if (file.path.ends_with(".safetensors")) {
        SLIPWAY_RETURN_IF_ERROR(CheckHeader(file.path));
      }
    }
    if (!tensors_of_.empty()) {
      return Corrupt("the manifest has tensors of a file that is none of the artifact's",
                     {.tensor = tensors_of_.begin()->second.front()->name, .file = tensors_of_.begin()->first});
    }
    SLIPWAY_RETURN_IF_ERROR(CheckIndex());
    SLIPWAY_RETURN_IF_ERROR(VerifyBytes(manifest_, files_, threads, progress_));
    return Report();
  }

 private:
  [[nodiscard]] VerifyReport Report() const {
    VerifyReport report{.files = static_cast<std::int64_t>(manifest_.files.size()),
                        .tensors = static_cast<std::int64_t>(manifest_.tensors.size()),
                        .bytes = 0,
                        .plan_hash = manifest_.plan_hash,
                        .digest_algorithm = std::string(NameOf(manifest_.digest))};
    for (const ManifestFile& file : manifest_.files) {
      report.bytes += file.size;
    }
    return report;
  }

  // Of several targets: every directory is proven by its own manifest, and each file of this one is a directory's, with
  // the digest that the directory's manifest has of it.
  absl::StatusOr<VerifyReport> RunDirectories(int threads) {
    if (!manifest_.tensors.empty()) {
      return Corrupt("the manifest of several targets has tensors of its own",
                     {.tensor = manifest_.tensors.front().name, .file = std::string(kManifestFile)});
    }
    files_.clear();  // the directories open them again
    std::map<std::string, ManifestFile> listed;
    for (const ManifestFile& file : manifest_.files) {
      listed.emplace(file.path, file);
    }
    VerifyReport report = Report();
    for (const ManifestDirectory& named : manifest_.directories) {
      SLIPWAY_ASSIGN_OR_RETURN(VerifiedDirectory verified, VerifyDirectory(named, threads, listed));
      report.tensors += verified.tensors;
      report.directories.push_back(std::move(verified));
    }
    return listed.empty() ? absl::StatusOr<VerifyReport>(std::move(report))
                          : Corrupt("the file is of none of the targets", {.file = listed.begin()->first});
  }

  // Takes the directory's files out of `listed`.
  absl::StatusOr<VerifiedDirectory> VerifyDirectory(const ManifestDirectory& named, int threads,
                                                    std::map<std::string, ManifestFile>& listed) {
    const Where where{.file = fmt::format("{}/{}", named.path, kManifestFile)};
    auto opened = OpenArtifact(directory_->OpenDirectory(named.path), named.path);
    if (!opened.ok()) {
      return AsCorrupt(opened.status(), where);
    }
    Artifact artifact = *std::move(opened);
    if (!artifact.manifest.directories.empty()) {
      return Corrupt("a target's manifest has directories of its own", where);
    }
    if (artifact.manifest.options && artifact.manifest.options->targets != std::vector{named.target}) {
      return Corrupt(fmt::format("the directory's manifest is not of target {}", named.target), where);
    }
    const auto own = listed.extract(where.file);
    if (!own || own.mapped().digest != DigestOf(artifact.text)) {
      return Corrupt("a target's manifest is not the one that was written", where);
    }
    for (const ManifestFile& file : artifact.manifest.files) {
      const auto node = listed.extract(fmt::format("{}/{}", named.path, file.path));
      if (!node || node.mapped().size != file.size || node.mapped().digest != file.digest) {
        return Corrupt("the manifests contradict each other", {.file = fmt::format("{}/{}", named.path, file.path)});
      }
    }
    auto report = Verification(std::move(artifact.directory), std::move(artifact.manifest), progress_).Run(threads);
    if (!report.ok()) {
      Where inside = WhereOf(report.status());
      inside.file = inside.file.empty() ? named.path : fmt::format("{}/{}", named.path, inside.file);
      return Error(ReasonOf(report.status()), std::string(report.status().message()), inside);
    }
    return VerifiedDirectory{.target = named.target,
                             .path = named.path,
                             .files = report->files,
                             .tensors = report->tensors,
                             .bytes = report->bytes,
                             .plan_hash = report->plan_hash};
  }

  [[nodiscard]] std::string DigestOf(std::string_view text) const {
    Digest digest(manifest_.digest);
    digest.Update(text);
    return digest.Finish();
  }

  absl::Status CheckListing() {
    std::set<std::string> found;
    if (const absl::Status status = ListFiles(*directory_, "", 0, found); !status.ok()) {
      return AsCorrupt(status, {.file = directory_->path()});
    }
    std::set<std::string> expected{std::string(kManifestFile)};
    for (const ManifestFile& file : manifest_.files) {
      if (!expected.insert(file.path).second) {
        return Corrupt("the manifest names the file twice", {.file = file.path});
      }
      if (!found.contains(file.path)) {
        return Corrupt("a file of the manifest is missing", {.file = file.path});
      }
    }
    for (const std::string& path : found) {
      if (!expected.contains(path)) {
        return Corrupt("the file is not in the manifest", {.file = path});
      }
    }
    return absl::OkStatus();
  }

  absl::Status OpenFiles() {
    for (const ManifestFile& file : manifest_.files) {
      auto opened = directory_->Open(file.path);
      if (!opened.ok()) {
        return AsCorrupt(opened.status(), {.file = file.path});
      }
      if ((*opened)->size() != file.size) {
        return Corrupt(fmt::format("the file has {} bytes, the manifest says {}", (*opened)->size(), file.size),
                       {.file = file.path});
      }
      files_[file.path] = *std::move(opened);
    }
    std::set<std::pair<std::string_view, std::string_view>> names;
    for (const ManifestTensor& tensor : manifest_.tensors) {
      const std::string_view file = HasRanks() ? std::string_view(tensor.file) : "";
      if (!names.emplace(file, tensor.name).second) {
        return Corrupt("the manifest names the tensor twice", {.tensor = tensor.name, .file = tensor.file});
      }
      tensors_of_[tensor.file].push_back(&tensor);
    }
    return absl::OkStatus();
  }

  // The file's header and the manifest say the same of its tensors. Takes the file's out of tensors_of_.
  absl::Status CheckHeader(const std::string& path) {
    const auto header = ReadSafetensorsHeader(*files_.at(path));
    if (!header.ok()) {
      return AsCorrupt(header.status(), {.file = path});
    }
    std::map<std::string_view, const ManifestTensor*> expected;
    if (const auto node = tensors_of_.extract(path)) {
      for (const ManifestTensor* tensor : node.mapped()) {
        expected[tensor->name] = tensor;
      }
    }
    for (const SafetensorsEntry& entry : header->entries) {
      const auto node = expected.extract(entry.name);
      if (!node) {
        return Corrupt("the tensor is not in the manifest", {.tensor = entry.name, .file = path});
      }
      const ManifestTensor& tensor = *node.mapped();
      if (tensor.dtype != entry.dtype || tensor.shape != entry.shape ||
          tensor.offset != header->data_position + entry.begin || tensor.bytes != entry.end - entry.begin) {
        return Corrupt("the file's header and the manifest contradict each other",
                       {.tensor = entry.name, .file = path, .offset = tensor.offset});
      }
    }
    return expected.empty() ? absl::OkStatus()
                            : Corrupt("a tensor of the manifest is not in its file",
                                      {.tensor = std::string(expected.begin()->first), .file = path});
  }

  // Ranks have tensors of the same names, each in its own file.
  [[nodiscard]] bool HasRanks() const {
    return manifest_.options && !manifest_.options->targets.empty() &&
           FindRankTarget(manifest_.options->targets.front()) != nullptr;
  }

  // The index maps every tensor to its file; there is one exactly where there are several files of tensors, unless
  // these are of ranks.
  absl::Status CheckIndex() {
    const std::string index_path(kIndexFile);
    const auto weights = std::ranges::count_if(
        manifest_.files, [](const ManifestFile& file) { return file.path.ends_with(".safetensors"); });
    if (!files_.contains(index_path)) {
      return weights > 1 && !HasRanks() ? Corrupt("the index is missing", {.file = index_path}) : absl::OkStatus();
    }
    const auto text = directory_->ReadSmallFile(index_path, kMaximumIndex);
    if (!text.ok()) {
      return AsCorrupt(text.status(), {.file = index_path});
    }
    const nlohmann::json index = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
    if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
      return Corrupt("not an index of safetensors files", {.file = index_path});
    }
    const nlohmann::json& map = index["weight_map"];
    for (const ManifestTensor& tensor : manifest_.tensors) {
      if (!map.contains(tensor.name) || map[tensor.name] != tensor.file) {
        return Corrupt("the index does not have the tensor in its file", {.tensor = tensor.name, .file = index_path});
      }
    }
    return map.size() == manifest_.tensors.size()
               ? absl::OkStatus()
               : Corrupt("the index has tensors that the artifact has not", {.file = index_path});
  }

  std::unique_ptr<SourceDirectory> directory_;
  const Manifest manifest_;
  const std::function<void(std::int64_t)>& progress_;
  ArtifactFiles files_;
  std::map<std::string, std::vector<const ManifestTensor*>> tensors_of_;  // by file
};

}  // namespace

absl::StatusOr<VerifyReport> VerifyArtifact(const std::string& directory, int threads,
                                            const std::function<void(std::int64_t)>& progress) {
  SLIPWAY_ASSIGN_OR_RETURN(Artifact artifact, OpenArtifact(OpenLocalDirectory(directory), directory));
  return Verification(std::move(artifact.directory), std::move(artifact.manifest), progress).Run(std::max(threads, 1));
}

}  // namespace slipway::engine
