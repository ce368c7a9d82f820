#include "tests/support/checkpoint_damage.h"

#include <algorithm>
#include <array>

namespace slipway::test {
namespace {

constexpr auto kDamages = std::to_array<DamageInfo>({
    {Damage::kNone, "none", "nothing"},
    {Damage::kMissingPiece, "missing-piece", "a chunk without bytes in storage_data"},
    {Damage::kMissingChunk, "missing-chunk", "chunks that do not cover their tensor"},
    {Damage::kOverlap, "overlap", "two chunks at the same place"},
    {Damage::kGlobalSizeLie, "global-size-lie", "a tensor that claims twice the rows of its chunks"},
    {Damage::kNegativeSize, "negative-size", "a chunk of negative size"},
    {Damage::kHugeSize, "huge-size", "a tensor and chunk of 2^62 by 2^62"},
    {Damage::kWrongDtype, "wrong-dtype", "an index that says float32 of bfloat16 items"},
    {Damage::kShortLength, "short-length", "an item's length that cuts its archive"},
    {Damage::kPastEnd, "past-end", "an item that lies past the end of its file"},
    {Damage::kItemShapeLie, "item-shape-lie", "an item whose own shape is not that of its chunk"},
    {Damage::kTruncatedData, "truncated-data", "a data file cut in half"},
    {Damage::kTruncatedMetadata, "truncated-metadata", "an index cut in half"},
    {Damage::kMissingFile, "missing-file", "a data file that is gone"},
    {Damage::kForbiddenGlobal, "forbidden-global", "os.system in the index"},
    {Damage::kForbiddenGlobalInCommon, "forbidden-global-in-common", "os.system in the common state"},
    {Damage::kPathEscape, "path-escape", "a data file named ../x"},
    {Damage::kAbsolutePath, "absolute-path", "a data file named /etc/passwd"},
    {Damage::kExtraTensor, "extra-tensor", "a tensor that no model has"},
    {Damage::kMissingTensor, "missing-tensor", "no final norm"},
    {Damage::kDuplicatedTensor, "duplicated-tensor", "one norm under two names"},
    {Damage::kEmptyBlocks, "empty-blocks", "chunks without elements, at a chunk's place and past the end: sound"},
    {Damage::kOverlapBehindEmptyBlocks, "overlap-behind-empty-blocks", "the same, and two chunks at the same place"},
});

SavedTensor& Named(std::vector<SavedTensor>& tensors, std::string_view name) {
  return *std::ranges::find(tensors, name, &SavedTensor::name);
}

constexpr std::string_view kDamagedTensor = "decoder.layers.self_attention.linear_qkv.weight";

void Overlap(SavedTensor& tensor) {
  tensor.items.back().offsets = tensor.items.front().offsets;
  tensor.items.back().offsets[1] += 1;
}

// Of ranks that have no part in the tensor: one listed where another begins (which has the bytes), one past the end
// with an archive of its own.
void AddEmptyBlocks(SavedTensor& tensor) {
  SavedItem inside = tensor.items.front();
  inside.sizes[0] = 0;
  inside.stored = false;
  SavedItem behind = inside;
  behind.offsets[0] = tensor.shape[0];
  behind.stored = true;
  tensor.items.insert(tensor.items.begin(), {inside, behind});
}

}  // namespace

std::span<const DamageInfo> Damages() { return kDamages; }

std::optional<Damage> DamageFromName(std::string_view name) {
  const auto* const found = std::ranges::find(kDamages, name, &DamageInfo::name);
  return found == kDamages.end() ? std::nullopt : std::optional(found->damage);
}

void DamageTensors(Damage damage, std::vector<SavedTensor>& tensors, std::int64_t ranks) {
  SavedTensor& tensor = Named(tensors, kDamagedTensor);
  SavedItem& last = tensor.items.back();
  switch (damage) {
    case Damage::kMissingPiece:
      last.stored = false;
      break;
    case Damage::kMissingChunk:
      tensor.items.pop_back();
      break;
    case Damage::kOverlap:
      Overlap(tensor);
      break;
    case Damage::kEmptyBlocks:
      AddEmptyBlocks(tensor);
      break;
    case Damage::kOverlapBehindEmptyBlocks:
      Overlap(tensor);
      AddEmptyBlocks(tensor);
      break;
    case Damage::kItemShapeLie:
      last.sizes_in_item = last.sizes;
      last.sizes_in_item.back() -= 1;
      break;
    case Damage::kExtraTensor:
      tensors.push_back(Shared("decoder.layers.self_attention.linear_mystery.weight",
                               {tensor.shape[0], tensor.shape[2]}, true, std::nullopt, ranks));
      break;
    case Damage::kMissingTensor:
      tensors.erase(std::ranges::find(tensors, "decoder.final_layernorm.weight", &SavedTensor::name));
      break;
    case Damage::kDuplicatedTensor:
      tensors.push_back(Shared("decoder.layers.input_layernorm.weight", {tensor.shape[0], tensor.shape[2]}, true,
                               std::nullopt, ranks));
      break;
    default:
      break;
  }
}

void DamageIndex(Damage damage, std::vector<SavedTensor>& tensors) {
  SavedTensor& tensor = Named(tensors, kDamagedTensor);
  SavedItem& last = tensor.items.back();
  constexpr std::int64_t kFar = std::int64_t{1} << 40;
  constexpr std::int64_t kHuge = std::int64_t{1} << 62;
  switch (damage) {
    case Damage::kGlobalSizeLie:
      tensor.shape[1] *= 2;
      break;
    case Damage::kNegativeSize:
      last.sizes[1] = -last.sizes[1];
      break;
    case Damage::kHugeSize:
      tensor.shape[1] = tensor.shape[2] = kHuge;
      last.sizes[1] = last.sizes[2] = kHuge;
      break;
    case Damage::kWrongDtype:
      tensor.dtype = "float32";
      break;
    case Damage::kShortLength:
      last.length /= 2;
      break;
    case Damage::kPastEnd:
      last.position += kFar;
      break;
    case Damage::kPathEscape:
      last.file = "../x";
      break;
    case Damage::kAbsolutePath:
      last.file = "/etc/passwd";
      break;
    default:
      break;
  }
}

void DamageFiles(Damage damage, const std::filesystem::path& directory) {
  const auto halve = [&](std::string_view file) {
    std::filesystem::resize_file(directory / file, std::filesystem::file_size(directory / file) / 2);
  };
  if (damage == Damage::kTruncatedData) {
    halve("__0_0.distcp");
  } else if (damage == Damage::kTruncatedMetadata) {
    halve(".metadata");
  } else if (damage == Damage::kMissingFile) {
    std::filesystem::remove(directory / "__0_0.distcp");
  }
}

}  // namespace slipway::test
