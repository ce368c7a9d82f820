#include "worker/engine/checkpoint/legacy.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "worker/engine/checkpoint/arguments.h"
#include "worker/engine/checkpoint/ignored_tally.h"
#include "worker/engine/checkpoint/legacy_assembly.h"
#include "worker/engine/checkpoint/legacy_grid.h"
#include "worker/engine/checkpoint/legacy_rank.h"
#include "worker/engine/checkpoint/legacy_sharing.h"

namespace slipway::engine {
namespace {

constexpr std::string_view kLayers = "decoder.layers.";
constexpr std::string_view kEmbedding = "embedding.";
constexpr std::string_view kOutputLayer = "output_layer.weight";
constexpr std::string_view kExpertModule = ".experts.";

// The layer's number in the name; absent outside the layers.
std::optional<std::int64_t> LayerOf(std::string_view name) {
  if (!name.starts_with(kLayers)) {
    return std::nullopt;
  }
  name.remove_prefix(kLayers.size());
  const std::size_t dot = name.find('.');
  std::int64_t layer = 0;
  const char* const end = name.data() + std::min(dot, name.size());
  const auto [stop, error] = std::from_chars(name.data(), end, layer);
  return error == std::errc() && stop == end && layer >= 0 ? std::optional(layer) : std::nullopt;
}

// `name` with another number of its layer.
std::string WithLayer(std::string_view name, std::int64_t layer) {
  return fmt::format("{}{}{}", kLayers, layer, name.substr(name.find('.', kLayers.size())));
}

class LegacyReader {
 public:
  LegacyReader(const SourceDirectory& directory, Checkpoint& checkpoint)
      : directory_(directory), checkpoint_(checkpoint) {}

  absl::Status Run() {
    SLIPWAY_RETURN_IF_ERROR(ReadRanks());
    SLIPWAY_RETURN_IF_ERROR(CheckStages());
    SLIPWAY_RETURN_IF_ERROR(AssembleStages());
    std::ranges::sort(checkpoint_.tensors, {}, &StoredTensor::name);
    for (RankFile& rank : ranks_) {
      for (const IgnoredEntries& entries : rank.ignored) {
        ignored_.Add(entries);
      }
    }
    checkpoint_.ignored = ignored_.Take();
    return absl::OkStatus();
  }

 private:
  // Opens every rank's file; the first one's training arguments say how the ranks are laid out.
  absl::Status ReadRanks() {
    SLIPWAY_ASSIGN_OR_RETURN(const std::vector<RankPath> paths, ListRankFiles(directory_));
    SLIPWAY_ASSIGN_OR_RETURN(RankFile first, ReadRankFile(directory_, paths.front().file));
    SLIPWAY_ASSIGN_OR_RETURN(const RankGrid grid, LayOutRanks(paths, first.common.layout));
    pipeline_ranks_ = grid.size();
    tensor_ranks_ = grid.front().size();
    for (const auto& row : grid) {
      for (const std::string& file : row) {
        if (file == first.name) {
          ranks_.push_back(std::move(first));
          continue;
        }
        SLIPWAY_ASSIGN_OR_RETURN(RankFile rank, ReadRankFile(directory_, file));
        rank.common.arguments.clear();  // the first rank's speak for all
        ranks_.push_back(std::move(rank));
      }
    }
    for (const RankFile& rank : ranks_) {
      SLIPWAY_RETURN_IF_ERROR(CheckSameRun(rank));
      checkpoint_.files.push_back({rank.name, rank.file->identity(), rank.file});
    }
    TakeCommonState();
    return absl::OkStatus();
  }

  [[nodiscard]] absl::Status CheckSameRun(const RankFile& rank) const {
    const RankFile& first = ranks_.front();
    if (rank.common.iteration != first.common.iteration ||
        rank.common.checkpoint_version != first.common.checkpoint_version) {
      return Corrupt(rank, fmt::format("its iteration or checkpoint_version is not that of {}", first.name));
    }
    if (rank.models.size() != first.models.size()) {
      return Corrupt(rank, fmt::format("it holds {} virtual pipeline stages; {} holds {}", rank.models.size(),
                                       first.name, first.models.size()));
    }
    return absl::OkStatus();
  }

  void TakeCommonState() {
    CommonState& common = ranks_.front().common;
    checkpoint_.checkpoint_version = common.checkpoint_version;
    if (checkpoint_.iteration == 0 && !checkpoint_.release) {
      checkpoint_.iteration = common.iteration.value_or(0);
    }
    checkpoint_.layout = common.layout;
    checkpoint_.layout.tensor = static_cast<std::int64_t>(tensor_ranks_);
    checkpoint_.layout.pipeline = static_cast<std::int64_t>(pipeline_ranks_);
    checkpoint_.layout.virtual_pipeline = static_cast<std::int64_t>(ranks_.front().models.size());
    checkpoint_.arguments = std::make_shared<const nlohmann::json>(std::move(common.arguments));
  }

  [[nodiscard]] const RankFile& RankAt(std::size_t pipeline, std::size_t tensor) const {
    return ranks_[pipeline * tensor_ranks_ + tensor];
  }

  // Tensor-parallel ranks of one stage hold the same names, and its layers are numbered without a gap.
  [[nodiscard]] absl::Status CheckStages() const {
    for (std::size_t pipeline = 0; pipeline < pipeline_ranks_; ++pipeline) {
      for (std::size_t tensor = 0; tensor < tensor_ranks_; ++tensor) {
        for (std::size_t stage = 0; stage < ranks_.front().models.size(); ++stage) {
          const RankFile& rank = RankAt(pipeline, tensor);
          SLIPWAY_RETURN_IF_ERROR(CheckNoExperts(rank, rank.models[stage]));
          SLIPWAY_RETURN_IF_ERROR(CheckSameNames(RankAt(pipeline, 0), rank, stage));
        }
      }
    }
    return absl::OkStatus();
  }

  static absl::Status CheckNoExperts(const RankFile& rank, const RankModel& model) {
    for (const auto& [name, tensor] : model) {
      if (name.find(kExpertModule) != std::string::npos) {
        return Error(Reason::kCheckpointUnsupported, "experts in the legacy format",
                     {.tensor = name, .file = rank.name});
      }
    }
    return absl::OkStatus();
  }

  static absl::Status CheckSameNames(const RankFile& first, const RankFile& rank, std::size_t stage) {
    const auto missing = [stage](const RankFile& has, const RankFile& lacks) -> absl::Status {
      for (const auto& [name, tensor] : has.models[stage]) {
        if (!lacks.models[stage].contains(name)) {
          return Error(Reason::kCheckpointCorrupt, fmt::format("{} holds a tensor that this rank lacks", has.name),
                       {.tensor = name, .file = lacks.name});
        }
      }
      return absl::OkStatus();
    };
    SLIPWAY_RETURN_IF_ERROR(missing(first, rank));
    return missing(rank, first);
  }

  // Layers count through the virtual stages, and within one through the pipeline ranks; embeddings come first, the
  // output layer last. Counting also holds for uneven and custom pipeline layouts, which keep that order.
  absl::Status AssembleStages() {
    const std::size_t stages = ranks_.front().models.size();
    std::int64_t layers = 0;
    for (std::size_t stage = 0; stage < stages; ++stage) {
      for (std::size_t pipeline = 0; pipeline < pipeline_ranks_; ++pipeline) {
        SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t count, CountLayers(RankAt(pipeline, 0), stage));
        SLIPWAY_RETURN_IF_ERROR(AssembleStage(pipeline, stage, layers));
        layers += count;
      }
    }
    const auto expected = IntegerArgument(*checkpoint_.arguments, "num_layers");
    if (expected && *expected != layers) {
      return Error(Reason::kCheckpointCorrupt,
                   fmt::format("the ranks hold {} layers; the training arguments say {}", layers, *expected),
                   {.file = ranks_.back().name});
    }
    return absl::OkStatus();
  }

  static absl::StatusOr<std::int64_t> CountLayers(const RankFile& rank, std::size_t stage) {
    std::set<std::int64_t> layers;
    for (const auto& [name, tensor] : rank.models[stage]) {
      if (const auto layer = LayerOf(name)) {
        layers.insert(*layer);
      } else if (name.starts_with(kLayers)) {
        return Error(Reason::kCheckpointCorrupt, "a layer without a number", {.tensor = name, .file = rank.name});
      }
    }
    const auto count = static_cast<std::int64_t>(layers.size());
    if (count > 0 && *layers.rbegin() != count - 1) {
      return Corrupt(rank, fmt::format("it holds {} layers, but one is numbered {}", count, *layers.rbegin()));
    }
    return count;
  }

  absl::Status AssembleStage(std::size_t pipeline, std::size_t stage, std::int64_t first_layer) {
    for (const auto& [local_name, tensor] : RankAt(pipeline, 0).models[stage]) {
      const auto layer = LayerOf(local_name);
      const std::string name = layer ? WithLayer(local_name, first_layer + *layer) : local_name;
      if (const auto reason = CopyOfEmbedding(name, pipeline, stage)) {
        ignored_.Add(*reason, name, std::nullopt);
        continue;
      }
      if (!layer && !names_outside_layers_.insert(name).second) {
        return Error(Reason::kTensorDuplicated, "two pipeline stages hold the tensor",
                     {.tensor = name, .file = RankAt(pipeline, 0).name});
      }
      std::vector<RankPart> parts;
      for (std::size_t rank = 0; rank < tensor_ranks_; ++rank) {
        const RankFile& file = RankAt(pipeline, rank);
        parts.push_back({.tensor = &file.models[stage].at(local_name),
                         .file = static_cast<std::int32_t>(pipeline * tensor_ranks_ + rank),
                         .file_name = file.name});
      }
      SLIPWAY_ASSIGN_OR_RETURN(const Assembly assembly,
                               DecideAssembly(local_name, RankAt(pipeline, 0), RankAt(pipeline, 0).models[stage],
                                              static_cast<std::int64_t>(tensor_ranks_), *checkpoint_.arguments));
      SLIPWAY_ASSIGN_OR_RETURN(StoredTensor assembled, AssembleTensor(name, parts, assembly));
      checkpoint_.tensors.push_back(std::move(assembled));
    }
    return absl::OkStatus();
  }

  // The last stage repeats the word embeddings where the output layer is tied to them, or predicts several tokens.
  [[nodiscard]] std::optional<std::string_view> CopyOfEmbedding(std::string_view name, std::size_t pipeline,
                                                                std::size_t stage) const {
    if (pipeline == 0 && stage == 0) {
      return std::nullopt;
    }
    const bool tied = BooleanArgument(*checkpoint_.arguments, "untie_embeddings_and_output_weights") == false;
    if (name.starts_with(kEmbedding) || (tied && name == kOutputLayer)) {
      return "tied copy of the word embeddings";
    }
    return std::nullopt;
  }

  static absl::Status Corrupt(const RankFile& rank, std::string_view message) {
    return Error(Reason::kCheckpointCorrupt, message, {.file = rank.name});
  }

  const SourceDirectory& directory_;
  Checkpoint& checkpoint_;
  std::vector<RankFile> ranks_;  // pipeline rank major; the order of Checkpoint::files
  std::size_t pipeline_ranks_ = 0;
  std::size_t tensor_ranks_ = 0;
  std::set<std::string> names_outside_layers_;
  IgnoredTally ignored_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const Checkpoint>> ReadLegacyCheckpoint(std::shared_ptr<const SourceDirectory> root,
                                                                       std::shared_ptr<const SourceDirectory> directory,
                                                                       std::int64_t iteration, bool release) {
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->format = CheckpointFormat::kTorchLegacy;
  checkpoint->path = directory->path();
  checkpoint->iteration = iteration;
  checkpoint->release = release;
  checkpoint->writer = "Megatron-LM, legacy format";
  checkpoint->directory = directory;
  checkpoint->root = std::move(root);
  SLIPWAY_RETURN_IF_ERROR(LegacyReader(*directory, *checkpoint).Run());
  return checkpoint;
}

}  // namespace slipway::engine
