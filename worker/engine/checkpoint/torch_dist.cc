#include "worker/engine/checkpoint/torch_dist.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/checkpoint/arguments.h"
#include "worker/engine/checkpoint/common_archive.h"
#include "worker/engine/checkpoint/coverage.h"
#include "worker/engine/checkpoint/dist_index.h"
#include "worker/engine/checkpoint/file_table.h"
#include "worker/engine/checkpoint/ignored_tally.h"
#include "worker/engine/checkpoint/run_config.h"
#include "worker/engine/checkpoint/stored_names.h"

namespace slipway::engine {
namespace {

constexpr std::string_view kCommonState = "common_state/";
constexpr std::string_view kMegatronFsdp = "model.module.";
constexpr std::string_view kExtraState = "._extra_state";
constexpr std::string_view kModelOptDirectory = "modelopt_state";

// What surrounds the tensors.
enum class Surroundings {
  kMegatron,  // common.pt, or the entry "common_state/..."
  kFlat,      // entries "args", "iteration"...
  kNone,      // what is not a tensor belongs to another framework and is not looked at
};

class TorchDistReader {
 public:
  TorchDistReader(Checkpoint& checkpoint, Surroundings surroundings)
      : checkpoint_(checkpoint), surroundings_(surroundings), files_(checkpoint) {}
  absl::Status Read();

 private:
  absl::Status ReadIndex();
  absl::Status ReadEntry(const DistEntry& entry);
  absl::Status ReadTensor(const DistEntry& entry);
  absl::Status ReadModuleState(const DistEntry& entry);
  absl::Status ReadCommonEntry(const DistEntry& entry, CommonForm form);
  absl::Status ReadCommonFile();
  void Ignore(const DistEntry& entry, std::string_view reason);
  absl::StatusOr<std::int32_t> FileOf(const DistLocation& location);
  absl::StatusOr<Piece> PieceOf(const DistBlock& block, std::int64_t element_bytes);
  absl::Status SortTensors();
  [[nodiscard]] absl::Status FinishFlat();
  [[nodiscard]] std::string_view Writer() const;

  Checkpoint& checkpoint_;
  const Surroundings surroundings_;
  FileTable files_;
  std::unique_ptr<const DistIndex> index_;
  IgnoredTally ignored_;
  CommonState common_;
  bool common_in_file_ = false;
  bool is_megatron_fsdp_ = false;
  bool has_quantizers_ = false;
};

absl::StatusOr<std::int32_t> TorchDistReader::FileOf(const DistLocation& location) {
  if (location.file.empty() || location.file == "." || location.file == ".." ||
      location.file.find_first_of(std::string_view("/\0", 2)) != std::string_view::npos) {
    return Error(Reason::kPathOutsideRoot,
                 fmt::format("the index names a file \"{}\", which is not directly in the checkpoint", location.file),
                 {.file = fmt::format("{}/.metadata", checkpoint_.directory->path())});
  }
  return files_.NumberOf(std::string(location.file));
}

absl::StatusOr<Piece> TorchDistReader::PieceOf(const DistBlock& block, std::int64_t element_bytes) {
  const DistLocation& location = block.location;
  SLIPWAY_ASSIGN_OR_RETURN(const std::int32_t number, FileOf(location));
  const SourceFile& file = files_.At(number);
  const Where where = {.file = file.name(), .offset = location.offset};
  if (location.transformed) {
    return Error(Reason::kCheckpointUnsupported, "the block was compressed or encrypted when it was saved", where);
  }
  if (location.offset > file.size() || location.length > file.size() - location.offset) {
    return Error(Reason::kCheckpointCorrupt,
                 fmt::format("the block of {} bytes lies outside its file, which has {}", location.length, file.size()),
                 where);
  }
  const std::optional<std::int64_t> volume = CheckedVolume(block.sizes);
  const std::optional<std::int64_t> bytes = volume ? CheckedMultiply(*volume, element_bytes) : std::nullopt;
  if (!bytes || *bytes > location.length) {
    return Error(Reason::kCheckpointCorrupt,
                 fmt::format("the block of size [{}] does not fit the {} bytes that the index gives it",
                             fmt::join(block.sizes, ", "), location.length),
                 where);
  }
  Piece piece;
  piece.offsets.assign(block.offsets.begin(), block.offsets.end());
  piece.sizes.assign(block.sizes.begin(), block.sizes.end());
  piece.file = number;
  piece.position = location.offset;
  piece.length = location.length;
  piece.in_archive = true;
  return piece;
}

absl::Status TorchDistReader::ReadTensor(const DistEntry& entry) {
  StoredTensor tensor;
  tensor.name = std::string(WithoutWrappers(entry.name));
  const std::optional<DType> dtype = DTypeFromTorchName(entry.dtype.name);
  if (entry.dtype.module != "torch" || !dtype) {
    return Error(Reason::kCheckpointUnsupported,
                 fmt::format("the tensor's dtype is {}.{}", entry.dtype.module, entry.dtype.name));
  }
  tensor.dtype = *dtype;
  tensor.shape.assign(entry.shape.begin(), entry.shape.end());
  SLIPWAY_ASSIGN_OR_RETURN(const std::vector<DistBlock> blocks, index_->Blocks(entry));
  tensor.pieces.reserve(blocks.size());
  for (const DistBlock& block : blocks) {
    if (CheckedVolume(block.sizes) == 0) {
      continue;  // of a rank that has no part in the tensor
    }
    SLIPWAY_ASSIGN_OR_RETURN(Piece piece, PieceOf(block, InfoOf(*dtype).bytes));
    tensor.pieces.push_back(std::move(piece));
  }
  SLIPWAY_RETURN_IF_ERROR(CheckCoverage(tensor));
  checkpoint_.tensors.push_back(std::move(tensor));
  return absl::OkStatus();
}

absl::Status TorchDistReader::ReadModuleState(const DistEntry& entry) {
  const absl::StatusOr<std::vector<DistBlock>> blocks = index_->Blocks(entry);
  const absl::StatusOr<Piece> piece =
      blocks.ok() && !blocks->empty() ? PieceOf(blocks->front(), 1) : absl::StatusOr<Piece>(blocks.status());
  if (piece.ok()) {  // otherwise as if it were not there: it is needed only where nothing else says the same
    checkpoint_.module_states.push_back({.name = std::string(WithoutWrappers(entry.name)),
                                         .file = piece->file,
                                         .position = piece->position,
                                         .length = piece->length});
  }
  Ignore(entry, kQuantizerState);
  return absl::OkStatus();
}

absl::Status TorchDistReader::ReadCommonFile() {
  if (surroundings_ != Surroundings::kMegatron || !checkpoint_.directory->Exists("common.pt")) {
    return absl::OkStatus();
  }
  common_in_file_ = true;
  SLIPWAY_ASSIGN_OR_RETURN(const std::int32_t number, files_.NumberOf("common.pt"));
  const SourceFile& file = files_.At(number);
  return ReadCommonArchive(file, 0, file.size(), CommonForm::kDictionary, {}, common_);
}

absl::Status TorchDistReader::ReadCommonEntry(const DistEntry& entry, CommonForm form) {
  SLIPWAY_ASSIGN_OR_RETURN(const std::vector<DistBlock> blocks, index_->Blocks(entry));
  SLIPWAY_ASSIGN_OR_RETURN(const Piece piece, PieceOf(blocks.front(), 1));
  return ReadCommonArchive(files_.At(piece.file), piece.position, piece.length, form, entry.name, common_);
}

// What is ignored need not be sound: a size is a courtesy.
void TorchDistReader::Ignore(const DistEntry& entry, std::string_view reason) {
  const absl::StatusOr<std::vector<DistBlock>> blocks = index_->Blocks(entry);
  std::optional<std::int64_t> bytes = blocks.ok() ? std::optional<std::int64_t>(0) : std::nullopt;
  for (std::size_t i = 0; bytes && i < blocks->size(); ++i) {
    bytes = CheckedAdd(*bytes, (*blocks)[i].location.length);
  }
  ignored_.Add(reason, entry.name, bytes);
}

absl::Status TorchDistReader::ReadEntry(const DistEntry& entry) {
  if (surroundings_ == Surroundings::kMegatron && entry.name.starts_with(kCommonState)) {
    return common_in_file_ || entry.is_tensor ? absl::OkStatus()
                                              : ReadCommonEntry(entry, CommonForm::kListOfDictionary);
  }
  if (surroundings_ == Surroundings::kFlat && !entry.is_tensor && IsCommonKey(entry.name)) {
    return ReadCommonEntry(entry, CommonForm::kValue);
  }
  if (has_quantizers_ && !entry.is_tensor && entry.name.find(kExtraState) != std::string_view::npos) {
    return ReadModuleState(entry);
  }
  std::string_view reason = ReasonToIgnoreName(entry.name);
  if (reason.empty() && !entry.is_tensor) {
    reason = "objects that are no tensors";
  }
  if (!reason.empty()) {
    Ignore(entry, reason);
    return absl::OkStatus();
  }
  is_megatron_fsdp_ = is_megatron_fsdp_ || entry.name.starts_with(kMegatronFsdp);
  return ReadTensor(entry);
}

absl::Status TorchDistReader::ReadIndex() {
  SLIPWAY_ASSIGN_OR_RETURN(const std::int32_t number, FileOf({.file = ".metadata"}));
  const SourceFile& file = files_.At(number);
  SLIPWAY_ASSIGN_OR_RETURN(Window window, file.Map(0, file.size()));
  SLIPWAY_ASSIGN_OR_RETURN(index_, DistIndex::Read(std::move(window), file.name()));
  return absl::OkStatus();
}

absl::Status TorchDistReader::SortTensors() {
  std::ranges::sort(checkpoint_.tensors, {}, &StoredTensor::name);
  const auto repeated = std::ranges::adjacent_find(checkpoint_.tensors, {}, &StoredTensor::name);
  if (repeated != checkpoint_.tensors.end()) {
    return Error(Reason::kTensorDuplicated, "two entries of the index mean one tensor", {.tensor = repeated->name});
  }
  return absl::OkStatus();
}

// Which of the plain layouts it is shows in the names of its weights.
absl::Status TorchDistReader::FinishFlat() {
  checkpoint_.format = is_megatron_fsdp_ ? CheckpointFormat::kFsdpDtensor : CheckpointFormat::kTorchDcp;
  if (!is_megatron_fsdp_ && (common_.layout.tensor > 1 || common_.layout.pipeline > 1)) {
    return Error(
        Reason::kCheckpointUnsupported,
        fmt::format("torch_dcp of a run with tensor parallelism {} and pipeline parallelism {}: its ranks gave "
                    "different tensors the same names, so not all of the model is here",
                    common_.layout.tensor, common_.layout.pipeline),
        {.file = fmt::format("{}/.metadata", checkpoint_.directory->path())});
  }
  return absl::OkStatus();
}

std::string_view TorchDistReader::Writer() const {
  const bool by_bridge = checkpoint_.directory->Exists("run_config.yaml");
  if (is_megatron_fsdp_ && surroundings_ == Surroundings::kFlat) {
    return by_bridge ? "Megatron-Bridge with Megatron-FSDP" : "Megatron-FSDP";
  }
  if (by_bridge) {
    return "Megatron-Bridge";
  }
  if (surroundings_ == Surroundings::kFlat) {
    return "Megatron-LM with PyTorch's FSDP2";
  }
  if (!common_in_file_) {
    return "Megatron-Core 0.19 or later";
  }
  return index_->root_class().name == "MCoreMetadata" ? "Megatron-Core 0.15" : "Megatron-Core up to 0.18";
}

absl::Status TorchDistReader::Read() {
  SLIPWAY_RETURN_IF_ERROR(ReadIndex());
  SLIPWAY_RETURN_IF_ERROR(ReadCommonFile());
  has_quantizers_ = std::ranges::any_of(index_->entries(), [](const DistEntry& entry) {
    return entry.is_tensor && ParseQuantizerTensorName(entry.name).has_value();
  });
  has_quantizers_ = has_quantizers_ || checkpoint_.directory->Exists(std::string(kModelOptDirectory));
  const std::string index_file = fmt::format("{}/.metadata", checkpoint_.directory->path());
  for (const DistEntry& entry : index_->entries()) {
    if (const absl::Status status = ReadEntry(entry); !status.ok()) {
      return AddWhere(status, {.tensor = std::string(entry.name), .file = index_file});
    }
  }
  SLIPWAY_RETURN_IF_ERROR(SortTensors());
  std::ranges::sort(checkpoint_.module_states, {}, &ModuleState::name);
  if (checkpoint_.directory->Exists(std::string(kModelOptDirectory))) {
    ignored_.Add(kQuantizerState, fmt::format("{}/", kModelOptDirectory), std::nullopt);
  }
  if (surroundings_ == Surroundings::kFlat) {
    SLIPWAY_RETURN_IF_ERROR(FinishFlat());
  }
  if (checkpoint_.writer.empty()) {
    checkpoint_.writer = Writer();
  }
  SLIPWAY_RETURN_IF_ERROR(CompleteArguments(*checkpoint_.directory, common_));
  checkpoint_.ignored = ignored_.Take();
  checkpoint_.layout = common_.layout;
  checkpoint_.checkpoint_version = common_.checkpoint_version;
  checkpoint_.arguments = std::make_shared<const nlohmann::json>(std::move(common_.arguments));
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Checkpoint>> Read(IterationDirectory found, Surroundings surroundings) {
  std::shared_ptr<Checkpoint> checkpoint = CheckpointAt(std::move(found), CheckpointFormat::kTorchDist);
  SLIPWAY_RETURN_IF_ERROR(TorchDistReader(*checkpoint, surroundings).Read());
  return checkpoint;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Checkpoint>> ReadTorchDistCheckpoint(IterationDirectory found) {
  const bool by_megatron = found.framework.empty();
  return Read(std::move(found), by_megatron ? Surroundings::kMegatron : Surroundings::kNone);
}

absl::StatusOr<std::shared_ptr<const Checkpoint>> ReadPlainDistCheckpoint(IterationDirectory found) {
  return Read(std::move(found), Surroundings::kFlat);
}

}  // namespace slipway::engine
