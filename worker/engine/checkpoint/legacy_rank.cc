#include "worker/engine/checkpoint/legacy_rank.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/checkpoint/ignored_tally.h"
#include "worker/engine/checkpoint/legacy_names.h"
#include "worker/engine/checkpoint/stored_names.h"
#include "worker/engine/checkpoint/torch_archive.h"

namespace slipway::engine {
namespace {

constexpr int kMaximumDepth = 8;  // of dictionaries in the model's
constexpr std::int64_t kMaximumEntries = 2'000'000;
constexpr std::size_t kMaximumModels = 1'000;  // virtual pipeline stages of one rank
constexpr std::size_t kMaximumNameBytes = 4'096;

// Keys of a rank's dictionary that are understood; all others are ignored.
constexpr std::array<std::string_view, 3> kCommonKeys = {"args", "checkpoint_version", "iteration"};
constexpr std::array<std::string_view, 3> kOptimizerKeys = {"optimizer", "opt_param_scheduler", "lr_scheduler"};

template <std::size_t N>
bool IsOneOf(std::string_view key, const std::array<std::string_view, N>& keys) {
  return std::ranges::find(keys, key) != keys.end();
}

class RankReader {
 public:
  RankReader(LegacyRankFile& rank, const TorchArchive& archive, const PickleDocument& document)
      : rank_(rank), archive_(archive), document_(document) {}

  absl::Status Run() {
    if (document_.root().kind() != PickleValue::Kind::kDictionary) {
      return Corrupt("the file does not hold a dictionary", "");
    }
    SLIPWAY_ASSIGN_OR_RETURN(rank_.common, ReadCommonState(document_, document_.root()));
    SLIPWAY_RETURN_IF_ERROR(ReadModels());
    IgnoreTheRest();
    rank_.ignored = ignored_.Take();
    return absl::OkStatus();
  }

 private:
  absl::Status ReadModels() {
    if (const auto model = document_.Find(document_.root(), "model")) {
      return ReadModel(*model);
    }
    while (rank_.models.size() < kMaximumModels) {
      const auto model = document_.Find(document_.root(), fmt::format("model{}", rank_.models.size()));
      if (!model) {
        break;
      }
      SLIPWAY_RETURN_IF_ERROR(ReadModel(*model));
    }
    return rank_.models.empty() ? Corrupt("the file holds no model", "") : absl::OkStatus();
  }

  absl::Status ReadModel(PickleValue model) {
    rank_.models.emplace_back();
    return Walk(model, "", 0);
  }

  // Recursion is bounded by kMaximumDepth, its steps by kMaximumEntries.
  absl::Status Walk(PickleValue dictionary, const std::string& prefix, int depth) {
    if (depth > kMaximumDepth) {
      return Error(Reason::kLimitExceeded, fmt::format("dictionaries nested more than {} deep", kMaximumDepth),
                   {.tensor = prefix, .file = rank_.name});
    }
    const auto items = document_.Items(dictionary);
    for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
      const auto key = document_.Text(items[i]);
      if (!key || prefix.size() + key->size() > kMaximumNameBytes) {
        return Corrupt("a key of the model's dictionary is not a name", prefix);
      }
      if (++entries_ > kMaximumEntries) {
        return Error(Reason::kLimitExceeded, fmt::format("more than {} entries in the model", kMaximumEntries),
                     {.file = rank_.name});
      }
      SLIPWAY_RETURN_IF_ERROR(ReadEntry(prefix + std::string(*key), items[i + 1], depth));
    }
    return absl::OkStatus();
  }

  absl::Status ReadEntry(const std::string& path, PickleValue value, int depth) {
    if (const auto quantizer = ParseQuantizerTensorName(path)) {
      ignored_.Add(kQuantizerState, path, std::nullopt);
      return AddWhere(CheckNotNeeded(*quantizer), {.file = rank_.name});
    }
    if (const auto reason = ReasonToIgnore(path)) {
      ignored_.Add(*reason, path, std::nullopt);
      return absl::OkStatus();
    }
    if (value.kind() == PickleValue::Kind::kDictionary) {
      return Walk(value, path + ".", depth + 1);
    }
    if (!IsTensor(document_, value)) {
      ignored_.Add("no tensor", path, std::nullopt);
      return absl::OkStatus();
    }
    auto tensor = Locate(value);
    if (!tensor.ok()) {
      return AddWhere(std::move(tensor).status(), {.tensor = path, .file = rank_.name});
    }
    tensor->versioned_qkv = HasVersionedQkvOrder(path);
    const std::string name = CoreName(path);
    if (!rank_.models.back().emplace(name, *std::move(tensor)).second) {
      return Error(Reason::kTensorDuplicated, fmt::format("two entries are {}", name),
                   {.tensor = path, .file = rank_.name});
    }
    return absl::OkStatus();
  }

  // Where the tensor's storage lies, once it is sure that the storage holds all that the tensor views.
  [[nodiscard]] absl::StatusOr<LegacyRankTensor> Locate(PickleValue value) const {
    SLIPWAY_ASSIGN_OR_RETURN(TorchTensor view, DescribeTensor(document_, value));
    SLIPWAY_ASSIGN_OR_RETURN(const ArchiveMember storage, archive_.Storage(view.storage_key));
    const auto span = SpanOf(view.shape, view.strides);
    const auto end = span ? CheckedAdd(view.storage_offset, *span) : std::nullopt;
    const auto end_bytes = end ? CheckedMultiply(*end, InfoOf(view.dtype).bytes) : std::nullopt;
    if (!end_bytes || view.storage_offset < 0 || *end_bytes > storage.size || view.storage_bytes > storage.size) {
      return Error(Reason::kCheckpointCorrupt,
                   fmt::format("the tensor leaves its storage, member {} of {} bytes", storage.name, storage.size),
                   {.offset = storage.position});
    }
    return LegacyRankTensor{.view = std::move(view), .position = storage.position};
  }

  void IgnoreTheRest() {
    const auto items = document_.Items(document_.root());
    for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
      const auto key = document_.Text(items[i]);
      if (!key || IsOneOf(*key, kCommonKeys) || key->starts_with("model")) {
        continue;
      }
      ignored_.Add(IsOneOf(*key, kOptimizerKeys) ? "optimizer state" : "training state", *key, std::nullopt);
    }
  }

  [[nodiscard]] absl::Status Corrupt(std::string_view message, std::string_view tensor) const {
    return Error(Reason::kCheckpointCorrupt, message, {.tensor = std::string(tensor), .file = rank_.name});
  }

  LegacyRankFile& rank_;
  const TorchArchive& archive_;
  const PickleDocument& document_;
  IgnoredTally ignored_;
  std::int64_t entries_ = 0;
};

}  // namespace

absl::StatusOr<LegacyRankFile> ReadRankFile(const SourceDirectory& directory, const std::string& name) {
  LegacyRankFile rank{.name = name, .file = nullptr, .common = {}, .models = {}, .ignored = {}};
  SLIPWAY_ASSIGN_OR_RETURN(rank.file, directory.Open(name));
  const auto read = [&rank]() -> absl::Status {
    SLIPWAY_ASSIGN_OR_RETURN(const TorchArchive archive, TorchArchive::Open(*rank.file, 0, rank.file->size()));
    SLIPWAY_ASSIGN_OR_RETURN(const PickleDocument document, archive.ReadPickle());
    return RankReader(rank, archive, document).Run();
  };
  if (absl::Status status = read(); !status.ok()) {
    return AddWhere(std::move(status), {.file = name});
  }
  return rank;
}

}  // namespace slipway::engine
