// What can be wrong with a torch_dist checkpoint.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "tests/support/saved_tensor.h"

namespace slipway::test {

enum class Damage {
  kNone,
  kMissingPiece,
  kMissingChunk,
  kOverlap,
  kGlobalSizeLie,
  kNegativeSize,
  kHugeSize,
  kWrongDtype,
  kShortLength,
  kPastEnd,
  kItemShapeLie,
  kTruncatedData,
  kTruncatedMetadata,
  kMissingFile,
  kForbiddenGlobal,
  kForbiddenGlobalInCommon,
  kPathEscape,
  kAbsolutePath,
  kExtraTensor,
  kMissingTensor,
  kDuplicatedTensor,
  kEmptyBlocks,  // which is sound
  kOverlapBehindEmptyBlocks,
};

struct DamageInfo {
  Damage damage;
  std::string_view name;     // "missing-piece"
  std::string_view summary;  // what is wrong with the checkpoint
};

// All kinds of damage, and none. Static storage.
std::span<const DamageInfo> Damages();
std::optional<Damage> DamageFromName(std::string_view name);

// What has to be wrong before the items are written, of a model with Llama's tensors in `ranks` parts.
void DamageTensors(Damage damage, std::vector<SavedTensor>& tensors, std::int64_t ranks);
// What has to be wrong in the index only.
void DamageIndex(Damage damage, std::vector<SavedTensor>& tensors);
// What is wrong with whole files of `directory`, an iteration's.
void DamageFiles(Damage damage, const std::filesystem::path& directory);

}  // namespace slipway::test
