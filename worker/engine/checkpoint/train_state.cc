#include "worker/engine/checkpoint/train_state.h"

#include <array>
#include <bit>
#include <memory>
#include <optional>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/checkpoint/torch_archive.h"
#include "worker/engine/checkpoint/torch_tensor.h"

namespace slipway::engine {
namespace {

absl::Status Corrupt(std::string_view message) { return Error(Reason::kCheckpointCorrupt, message); }

absl::StatusOr<std::int64_t> ReadScalar(const SourceFile& file, const TorchArchive& archive,
                                        const PickleDocument& document, PickleValue value) {
  SLIPWAY_ASSIGN_OR_RETURN(const TorchTensor tensor, DescribeTensor(document, value));
  if (tensor.dtype != DType::kI64 || CheckedVolume(tensor.shape) != 1) {
    return Corrupt("\"step\" is not one 64-bit integer");
  }
  SLIPWAY_ASSIGN_OR_RETURN(const ArchiveMember storage, archive.Storage(tensor.storage_key));
  std::array<std::byte, sizeof(std::int64_t)> bytes = {};
  const auto start = CheckedMultiply(tensor.storage_offset, sizeof(std::int64_t));
  if (!start || storage.size < static_cast<std::int64_t>(bytes.size()) ||
      *start > storage.size - static_cast<std::int64_t>(bytes.size())) {
    return Corrupt("\"step\" reaches past its storage");
  }
  SLIPWAY_RETURN_IF_ERROR(file.ReadAt(storage.position + *start, bytes));
  return std::bit_cast<std::int64_t>(bytes);
}

absl::StatusOr<std::int64_t> ReadStep(const SourceFile& file) {
  SLIPWAY_ASSIGN_OR_RETURN(const TorchArchive archive, TorchArchive::Open(file, 0, file.size()));
  SLIPWAY_ASSIGN_OR_RETURN(const PickleDocument document, archive.ReadPickle());
  const std::optional<PickleValue> value = document.Find(document.root(), "step");
  if (!value) {
    return Corrupt("the training state has no \"step\"");
  }
  std::optional<std::int64_t> step = value->Integer();
  if (!step) {
    SLIPWAY_ASSIGN_OR_RETURN(step, ReadScalar(file, archive, document, *value));
  }
  return *step >= 0 ? absl::StatusOr<std::int64_t>(*step) : Corrupt("the training state's \"step\" is negative");
}

}  // namespace

absl::StatusOr<std::int64_t> ReadTrainingStep(const SourceDirectory& directory, const std::string& name) {
  SLIPWAY_ASSIGN_OR_RETURN(const std::unique_ptr<SourceFile> file, directory.Open(name));
  absl::StatusOr<std::int64_t> step = ReadStep(*file);
  return step.ok() ? step : AddWhere(step.status(), {.file = file->name(), .offset = 0});
}

}  // namespace slipway::engine
