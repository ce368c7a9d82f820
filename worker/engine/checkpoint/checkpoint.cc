#include "worker/engine/checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "common/error.h"
#include "worker/engine/checkpoint/iteration.h"
#include "worker/engine/checkpoint/legacy.h"
#include "worker/engine/checkpoint/safetensors_directory.h"
#include "worker/engine/checkpoint/torch_dist.h"
#include "worker/engine/checkpoint/zarr.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kMaximumJsonBytes = std::int64_t{1} << 20;

// The formats by what lies in the directory, in the order in which Megatron-LM itself looks.
absl::StatusOr<CheckpointFormat> DetectFormat(const SourceDirectory& directory) {
  SLIPWAY_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, directory.List());
  const auto has = [&entries](std::string_view name) {
    return std::ranges::count(entries, name, &DirectoryEntry::name) != 0;
  };
  const auto unsupported = [&directory](std::string_view message, std::string_view name) {
    return Error(Reason::kCheckpointUnsupported, message, {.file = fmt::format("{}/{}", directory.path(), name)});
  };
  const bool has_ranks =
      std::ranges::any_of(entries, [](const auto& entry) { return entry.name.starts_with("mp_rank_0"); });
  if (has("metadata.json")) {
    SLIPWAY_ASSIGN_OR_RETURN(const std::string text, directory.ReadSmallFile("metadata.json", kMaximumJsonBytes));
    const nlohmann::json metadata = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!metadata.is_object() || !metadata.contains("sharded_backend") || !metadata["sharded_backend"].is_string()) {
      return Error(Reason::kCheckpointCorrupt, "metadata.json does not name a sharded_backend",
                   {.file = fmt::format("{}/metadata.json", directory.path()), .offset = 0});
    }
    const std::string backend = metadata["sharded_backend"].get<std::string>();
    if (has_ranks) {
      return unsupported("the directory has files of two formats: metadata.json and mp_rank_0*", "metadata.json");
    }
    if (backend != "torch_dist" && backend != "zarr") {
      return unsupported(fmt::format("distributed checkpoints of backend \"{}\" are not read", backend),
                         "metadata.json");
    }
    return backend == "zarr" ? CheckpointFormat::kZarr : CheckpointFormat::kTorchDist;
  }
  if (has_ranks && has(".metadata")) {
    return unsupported("the directory has files of two formats: .metadata and mp_rank_0*", ".metadata");
  }
  if (has_ranks) {
    return CheckpointFormat::kTorchLegacy;
  }
  if (has(".metadata")) {
    return CheckpointFormat::kTorchDcp;  // or fsdp_dtensor: its reader tells
  }
  if (LooksLikeHuggingFace(entries)) {
    return CheckpointFormat::kHuggingFace;
  }
  return Error(Reason::kCheckpointNotFound,
               "no checkpoint: neither metadata.json nor mp_rank_* nor .metadata nor config.json",
               {.file = directory.path()});
}

}  // namespace

std::string_view NameOf(CheckpointFormat format) {
  switch (format) {
    case CheckpointFormat::kTorchDist:
      return "torch_dist";
    case CheckpointFormat::kTorchLegacy:
      return "torch";
    case CheckpointFormat::kFsdpDtensor:
      return "fsdp_dtensor";
    case CheckpointFormat::kTorchDcp:
      return "torch_dcp";
    case CheckpointFormat::kZarr:
      return "zarr";
    case CheckpointFormat::kHuggingFace:
      return "huggingface";
  }
  return "";
}

absl::StatusOr<std::shared_ptr<const Checkpoint>> ReadCheckpoint(const std::string& path, const ReadOptions& options) {
  SLIPWAY_ASSIGN_OR_RETURN(IterationDirectory found, FindIteration(path, options));
  SLIPWAY_ASSIGN_OR_RETURN(const CheckpointFormat format, DetectFormat(*found.directory));
  switch (format) {
    case CheckpointFormat::kTorchDist:
      return ReadTorchDistCheckpoint(std::move(found));
    case CheckpointFormat::kTorchLegacy:
      return ReadLegacyCheckpoint(std::move(found.root), std::move(found.directory), found.iteration, found.release);
    case CheckpointFormat::kFsdpDtensor:
    case CheckpointFormat::kTorchDcp:
      return ReadPlainDistCheckpoint(std::move(found));
    case CheckpointFormat::kZarr:
      return ReadZarrCheckpoint(std::move(found));
    case CheckpointFormat::kHuggingFace:
      return ReadSafetensorsDirectory(found.directory->path());
  }
  return Error(Reason::kInternal, "a format without a reader", {.file = path});
}

absl::Status CheckUnchanged(const Checkpoint& checkpoint) {
  for (const CheckpointFile& file : checkpoint.files) {
    // By name as well: a file that was replaced leaves the open one as it was.
    const absl::StatusOr<std::unique_ptr<SourceFile>> now =
        (file.directory != nullptr ? file.directory : checkpoint.directory)->Open(file.name);
    const bool same = now.ok() && (*now)->identity() == file.identity;
    if (!same) {
      return Error(Reason::kCheckpointChanged,
                   now.ok() ? "the file changed since the export was planned"
                            : fmt::format("the file can no longer be opened: {}", std::string(now.status().message())),
                   {.file = file.file->name()});
    }
  }
  return absl::OkStatus();
}

}  // namespace slipway::engine
