#include "worker/engine/checkpoint/torch_dist.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/checkpoint/arguments.h"
#include "worker/engine/checkpoint/coverage.h"
#include "worker/engine/checkpoint/dist_index.h"
#include "worker/engine/checkpoint/ignored_tally.h"
#include "worker/engine/checkpoint/run_config.h"
#include "worker/engine/checkpoint/torch_archive.h"

namespace slipway::engine {
namespace {

constexpr std::size_t kMaximumFiles = 1'000'000;
constexpr std::string_view kCommonState = "common_state/";

// Which entries of the index are no weights.
struct IgnoredName {
  std::string_view text;
  bool at_start;  // else anywhere in the name
  std::string_view reason;
};
constexpr std::array kIgnoredNames = std::to_array<IgnoredName>({
    {"optimizer.", true, "optimizer state"},
    {"chained_", true, "optimizer state"},
    {"rng_state", true, "random number generator state"},
    {"rerun_state_machine_state", true, "rerun state"},
    {"._extra_state", false, "extra state of Transformer Engine"},
    {"_quantizer.", false, "ModelOpt quantizer state"},
    {"rotary_pos_emb.inv_freq", false, "rotary frequencies, which follow from the configuration"},
    {".router.local_tokens_per_expert", false, "counts of tokens, which training keeps"},
});

std::string_view ReasonToIgnoreEntry(const DistEntry& entry) {
  for (const IgnoredName& row : kIgnoredNames) {
    const std::size_t found = entry.name.find(row.text);
    if (row.at_start ? found == 0 : found != std::string_view::npos) {
      return row.reason;
    }
  }
  return entry.is_tensor ? std::string_view() : "objects that are no tensors";
}

std::string_view WithoutWrappers(std::string_view name) {
  for (bool again = true; again;) {
    again = false;
    for (const std::string_view wrapper : {std::string_view("module."), std::string_view("model.")}) {
      if (name.starts_with(wrapper)) {
        name.remove_prefix(wrapper.size());
        again = true;
      }
    }
  }
  return name;
}

class TorchDistReader {
 public:
  explicit TorchDistReader(Checkpoint& checkpoint) : checkpoint_(checkpoint) {}
  absl::Status Read();

 private:
  absl::Status ReadIndex();
  absl::Status ReadEntry(const DistEntry& entry);
  absl::Status ReadTensor(const DistEntry& entry);
  absl::Status ReadCommonEntry(const DistEntry& entry);
  absl::Status ReadCommonFile();
  absl::Status ReadCommon(const SourceFile& file, std::int64_t offset, std::int64_t length, bool in_list);
  void Ignore(const DistEntry& entry, std::string_view reason);
  absl::StatusOr<std::int32_t> FileOf(const DistLocation& location);
  absl::StatusOr<Piece> PieceOf(const DistBlock& block, std::int64_t element_bytes);
  absl::Status SortTensors();
  void NameWriter();

  Checkpoint& checkpoint_;
  std::unique_ptr<const DistIndex> index_;
  std::map<std::string, std::int32_t, std::less<>> file_numbers_;
  IgnoredTally ignored_;
  CommonState common_;
  bool common_in_file_ = false;
};

absl::StatusOr<std::int32_t> TorchDistReader::FileOf(const DistLocation& location) {
  const auto known = file_numbers_.find(location.file);
  if (known != file_numbers_.end()) {
    return known->second;
  }
  if (location.file.empty() || location.file == "." || location.file == ".." ||
      location.file.find_first_of(std::string_view("/\0", 2)) != std::string_view::npos) {
    return Error(Reason::kPathOutsideRoot,
                 fmt::format("the index names a file \"{}\", which is not directly in the checkpoint", location.file),
                 {.file = fmt::format("{}/.metadata", checkpoint_.directory->path())});
  }
  if (checkpoint_.files.size() == kMaximumFiles) {
    return Error(Reason::kLimitExceeded, fmt::format("the checkpoint has more than {} files", kMaximumFiles));
  }
  const std::string name(location.file);
  SLIPWAY_ASSIGN_OR_RETURN(std::shared_ptr<const SourceFile> file, checkpoint_.directory->Open(name));
  const FileIdentity identity = file->identity();
  const auto number = static_cast<std::int32_t>(checkpoint_.files.size());
  checkpoint_.files.push_back({.name = name, .identity = identity, .file = std::move(file)});
  file_numbers_.emplace(name, number);
  return number;
}

absl::StatusOr<Piece> TorchDistReader::PieceOf(const DistBlock& block, std::int64_t element_bytes) {
  const DistLocation& location = block.location;
  SLIPWAY_ASSIGN_OR_RETURN(const std::int32_t number, FileOf(location));
  const SourceFile& file = *checkpoint_.files[static_cast<std::size_t>(number)].file;
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
    SLIPWAY_ASSIGN_OR_RETURN(Piece piece, PieceOf(block, InfoOf(*dtype).bytes));
    tensor.pieces.push_back(std::move(piece));
  }
  SLIPWAY_RETURN_IF_ERROR(CheckCoverage(tensor));
  checkpoint_.tensors.push_back(std::move(tensor));
  return absl::OkStatus();
}

absl::Status TorchDistReader::ReadCommon(const SourceFile& file, std::int64_t offset, std::int64_t length,
                                         bool in_list) {
  SLIPWAY_ASSIGN_OR_RETURN(const TorchArchive archive, TorchArchive::Open(file, offset, length));
  SLIPWAY_ASSIGN_OR_RETURN(const PickleDocument document, archive.ReadPickle());
  PickleValue state = document.root();
  if (in_list) {
    const std::span<const PickleValue> items = document.Items(state);
    if (items.empty()) {
      return Error(Reason::kCheckpointCorrupt, "the common state is an empty list",
                   {.file = file.name(), .offset = offset});
    }
    state = items[0];
  }
  absl::StatusOr<CommonState> common = ReadCommonState(document, state);
  if (!common.ok()) {
    return AddWhere(common.status(), {.file = file.name(), .offset = offset});
  }
  common_ = *std::move(common);
  return absl::OkStatus();
}

absl::Status TorchDistReader::ReadCommonFile() {
  if (!checkpoint_.directory->Exists("common.pt")) {
    return absl::OkStatus();
  }
  common_in_file_ = true;
  SLIPWAY_ASSIGN_OR_RETURN(const std::int32_t number, FileOf({.file = "common.pt"}));
  const SourceFile& file = *checkpoint_.files[static_cast<std::size_t>(number)].file;
  return ReadCommon(file, 0, file.size(), false);
}

absl::Status TorchDistReader::ReadCommonEntry(const DistEntry& entry) {
  if (common_in_file_ || entry.is_tensor) {
    return absl::OkStatus();
  }
  SLIPWAY_ASSIGN_OR_RETURN(const std::vector<DistBlock> blocks, index_->Blocks(entry));
  SLIPWAY_ASSIGN_OR_RETURN(const Piece piece, PieceOf(blocks.front(), 1));
  const SourceFile& file = *checkpoint_.files[static_cast<std::size_t>(piece.file)].file;
  return ReadCommon(file, piece.position, piece.length, true);
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
  if (entry.name.starts_with(kCommonState)) {
    return ReadCommonEntry(entry);
  }
  const std::string_view reason = ReasonToIgnoreEntry(entry);
  if (reason.empty()) {
    return ReadTensor(entry);
  }
  Ignore(entry, reason);
  return absl::OkStatus();
}

absl::Status TorchDistReader::ReadIndex() {
  SLIPWAY_ASSIGN_OR_RETURN(const std::int32_t number, FileOf({.file = ".metadata"}));
  const SourceFile& file = *checkpoint_.files[static_cast<std::size_t>(number)].file;
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

void TorchDistReader::NameWriter() {
  if (checkpoint_.directory->Exists("run_config.yaml")) {
    checkpoint_.writer = "Megatron-Bridge";
  } else if (!common_in_file_) {
    checkpoint_.writer = "Megatron-Core 0.19 or later";
  } else if (index_->root_class().name == "MCoreMetadata") {
    checkpoint_.writer = "Megatron-Core 0.15";
  } else {
    checkpoint_.writer = "Megatron-Core up to 0.18";
  }
}

absl::Status TorchDistReader::Read() {
  SLIPWAY_RETURN_IF_ERROR(ReadIndex());
  SLIPWAY_RETURN_IF_ERROR(ReadCommonFile());
  const std::string index_file = fmt::format("{}/.metadata", checkpoint_.directory->path());
  for (const DistEntry& entry : index_->entries()) {
    if (const absl::Status status = ReadEntry(entry); !status.ok()) {
      return AddWhere(status, {.tensor = std::string(entry.name), .file = index_file});
    }
  }
  SLIPWAY_RETURN_IF_ERROR(SortTensors());
  if (checkpoint_.directory->Exists("modelopt_state")) {
    ignored_.Add("ModelOpt quantizer state", "modelopt_state/", std::nullopt);
  }
  NameWriter();
  SLIPWAY_RETURN_IF_ERROR(CompleteArguments(*checkpoint_.directory, common_));
  checkpoint_.ignored = ignored_.Take();
  checkpoint_.layout = common_.layout;
  checkpoint_.checkpoint_version = common_.checkpoint_version;
  checkpoint_.arguments = std::make_shared<const nlohmann::json>(std::move(common_.arguments));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Checkpoint>> ReadTorchDistCheckpoint(
    std::shared_ptr<const SourceDirectory> root, std::shared_ptr<const SourceDirectory> directory,
    std::int64_t iteration, bool release) {
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->format = CheckpointFormat::kTorchDist;
  checkpoint->path = directory->path();
  checkpoint->iteration = iteration;
  checkpoint->release = release;
  checkpoint->root = std::move(root);
  checkpoint->directory = std::move(directory);
  SLIPWAY_RETURN_IF_ERROR(TorchDistReader(*checkpoint).Read());
  return checkpoint;
}

}  // namespace slipway::engine
