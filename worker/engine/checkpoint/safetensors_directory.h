// Hugging Face directories: config.json and safetensors files, one ("model.safetensors") or those that
// model.safetensors.index.json names.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/checkpoint.h"

namespace slipway::engine {

// Whether a directory with these entries, in which nothing of Megatron's is, is to be read as a Hugging Face directory:
// it has a config.json, safetensors files or pickled weights.
[[nodiscard]] bool LooksLikeHuggingFace(std::span<const DirectoryEntry> entries);

// Reads the headers of the directory at `path`. Index and files agree both ways: every tensor of the index is in the
// file that it names, every tensor of a file is in the index. Other safetensors files are listed as ignored, except
// those that are named like parts of the model.
// Errors: CHECKPOINT_NOT_FOUND (no config.json, no weights), CHECKPOINT_UNSUPPORTED (pickled weights, an adapter),
// CHECKPOINT_CORRUPT (a header or the index that lies, a file that is missing or that the index does not name),
// TENSOR_MISSING, TENSOR_UNKNOWN, TENSOR_DUPLICATED (index against files), CONFIGURATION_INVALID (config.json),
// LIMIT_EXCEEDED, PATH_OUTSIDE_ROOT, CHECKPOINT_UNREADABLE; each with the file, and the tensor where there is one.
absl::StatusOr<std::shared_ptr<const Checkpoint>> ReadSafetensorsDirectory(const std::string& path);

}  // namespace slipway::engine
