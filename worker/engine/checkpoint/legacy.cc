#include "worker/engine/checkpoint/legacy.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "worker/engine/checkpoint/arguments.h"
#include "worker/engine/checkpoint/ignored_tally.h"
#include "worker/engine/checkpoint/legacy_assembly.h"
#include "worker/engine/checkpoint/legacy_grid.h"
#include "worker/engine/checkpoint/legacy_numbers.h"
#include "worker/engine/checkpoint/legacy_rank.h"
#include "worker/engine/checkpoint/legacy_sharing.h"
#include "worker/engine/checkpoint/legacy_split.h"
#include "worker/engine/checkpoint/run_config.h"

namespace slipway::engine {
namespace {

constexpr std::string_view kEmbedding = "embedding.";
constexpr std::string_view kOutputLayer = "output_layer.weight";

class LegacyReader {
 public:
  LegacyReader(const SourceDirectory& directory, Checkpoint& checkpoint)
      : directory_(directory), checkpoint_(checkpoint) {}

  absl::Status Run() {
    SLIPWAY_RETURN_IF_ERROR(ReadRanks());
    SLIPWAY_RETURN_IF_ERROR(CheckStages());
    SLIPWAY_RETURN_IF_ERROR(AssembleStages());
    std::ranges::sort(checkpoint_.tensors, {}, &StoredTensor::name);
    for (LegacyRankFile& rank : ranks_) {
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
    SLIPWAY_ASSIGN_OR_RETURN(LegacyRankFile first, ReadRankFile(directory_, paths.front().file));
    SLIPWAY_RETURN_IF_ERROR(CompleteArguments(directory_, first.common));
    const CommonState common = first.common;  // the first file's arguments speak for all
    SLIPWAY_ASSIGN_OR_RETURN(grid_, LayOutRanks(paths, common.layout));
    const std::string first_file = first.name;
    for (const std::string& file : grid_.files) {
      if (file == first_file) {
        ranks_.push_back(std::exchange(first, {}));
        continue;
      }
      SLIPWAY_ASSIGN_OR_RETURN(LegacyRankFile rank, ReadRankFile(directory_, file));
      rank.common.arguments.clear();
      ranks_.push_back(std::move(rank));
    }
    for (LegacyRankFile& rank : ranks_) {
      SLIPWAY_RETURN_IF_ERROR(CheckSameRun(rank));
      for (RankModel& model : rank.models) {
        SLIPWAY_RETURN_IF_ERROR(SplitRankModel(rank.name, grid_.tensor, grid_.expert, model));
      }
      checkpoint_.files.push_back({rank.name, rank.file->identity(), rank.file});
    }
    TakeCommonState(common);
    return absl::OkStatus();
  }

  [[nodiscard]] absl::Status CheckSameRun(const LegacyRankFile& rank) const {
    const LegacyRankFile& first = ranks_.front();
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

  void TakeCommonState(const CommonState& common) {
    checkpoint_.checkpoint_version = common.checkpoint_version;
    if (checkpoint_.iteration == 0 && !checkpoint_.release) {
      checkpoint_.iteration = common.iteration.value_or(0);
    }
    checkpoint_.layout = common.layout;
    checkpoint_.layout.tensor = grid_.tensor;
    checkpoint_.layout.pipeline = grid_.pipeline;
    checkpoint_.layout.expert = grid_.expert;
    checkpoint_.layout.virtual_pipeline = static_cast<std::int64_t>(ranks_.front().models.size());
    checkpoint_.arguments = std::make_shared<const nlohmann::json>(common.arguments);
  }

  [[nodiscard]] std::size_t IndexOf(std::int64_t pipeline, std::int64_t rank) const {
    return static_cast<std::size_t>(pipeline * grid_.stage_ranks + rank);
  }
  [[nodiscard]] const LegacyRankFile& RankAt(std::int64_t pipeline, std::int64_t rank) const {
    return ranks_[IndexOf(pipeline, rank)];
  }

  // Ranks of one stage hold tensors of the same names and shapes: shards or copies of one, or other experts.
  [[nodiscard]] absl::Status CheckStages() const {
    for (std::int64_t pipeline = 0; pipeline < grid_.pipeline; ++pipeline) {
      for (std::int64_t rank = 1; rank < grid_.stage_ranks; ++rank) {
        for (std::size_t stage = 0; stage < ranks_.front().models.size(); ++stage) {
          SLIPWAY_RETURN_IF_ERROR(CheckSameTensors(RankAt(pipeline, 0), RankAt(pipeline, rank), stage));
        }
      }
    }
    return absl::OkStatus();
  }

  static absl::Status CheckSameTensors(const LegacyRankFile& first, const LegacyRankFile& rank, std::size_t stage) {
    const auto missing = [](const LegacyRankFile& has, const LegacyRankFile& lacks, const std::string& name) {
      return Error(Reason::kCheckpointCorrupt, fmt::format("{} holds a tensor that this rank lacks", has.name),
                   {.tensor = name, .file = lacks.name});
    };
    for (const auto& [name, tensor] : first.models[stage]) {
      const auto found = rank.models[stage].find(name);
      if (found == rank.models[stage].end()) {
        return missing(first, rank, name);
      }
      const TorchTensor& view = found->second.view;
      if (view.shape != tensor.view.shape || view.dtype != tensor.view.dtype) {
        return Error(Reason::kTensorShapeMismatch,
                     fmt::format("shape [{}] of {}; {} has [{}] of {}", fmt::join(view.shape, ", "),
                                 InfoOf(view.dtype).torch_name, first.name, fmt::join(tensor.view.shape, ", "),
                                 InfoOf(tensor.view.dtype).torch_name),
                     {.tensor = name, .file = rank.name});
      }
    }
    for (const auto& [name, tensor] : rank.models[stage]) {
      if (!first.models[stage].contains(name)) {
        return missing(rank, first, name);
      }
    }
    return absl::OkStatus();
  }

  // Layers count through the virtual stages, and within one through the pipeline ranks; embeddings come first, the
  // output layer last. Counting also holds for uneven and custom pipeline layouts, which keep that order.
  absl::Status AssembleStages() {
    const std::size_t stages = ranks_.front().models.size();
    std::int64_t layers = 0;
    for (std::size_t stage = 0; stage < stages; ++stage) {
      for (std::int64_t pipeline = 0; pipeline < grid_.pipeline; ++pipeline) {
        const LegacyRankFile& rank = RankAt(pipeline, 0);
        SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t count, CountLayers(rank.name, rank.models[stage]));
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

  absl::Status AssembleStage(std::int64_t pipeline, std::size_t stage, std::int64_t first_layer) {
    const LegacyRankFile& first = RankAt(pipeline, 0);
    SLIPWAY_ASSIGN_OR_RETURN(const auto experts, CountExperts(first.name, grid_.expert, first.models[stage]));
    for (const auto& [local_name, tensor] : first.models[stage]) {
      const auto layer = LayerOf(local_name);
      const std::string name = layer ? WithLayer(local_name, first_layer + *layer) : local_name;
      if (const auto reason = CopyOfEmbedding(name, pipeline, stage)) {
        ignored_.Add(*reason, name, std::nullopt);
        continue;
      }
      if (!layer && !names_outside_layers_.insert(name).second) {
        return Error(Reason::kTensorDuplicated, "two pipeline stages hold the tensor",
                     {.tensor = name, .file = first.name});
      }
      const auto expert = ExpertOf(local_name);
      SLIPWAY_RETURN_IF_ERROR(
          expert ? AssembleExperts({pipeline, stage, local_name}, name, experts.find(expert->head)->second)
                 : Assemble({pipeline, stage, local_name}, name, 0, grid_.tensor));
    }
    return absl::OkStatus();
  }

  // A tensor by its place in the ranks' files.
  struct LocalTensor {
    std::int64_t pipeline = 0;
    std::size_t stage = 0;
    const std::string& name;
  };

  // Of the same number in every expert-parallel rank, each another expert of the model.
  absl::Status AssembleExperts(const LocalTensor& local, const std::string& name, std::int64_t experts_a_rank) {
    if (grid_.expert_tensor == 0) {
      return Error(Reason::kCheckpointUnsupported,
                   "experts that more ranks share than the layers: several ranks wrote the same file",
                   {.tensor = local.name, .file = RankAt(local.pipeline, 0).name});
    }
    const ExpertName parts = *ExpertOf(name);
    for (std::int64_t rank = 0; rank < grid_.expert; ++rank) {
      const std::int64_t expert = rank * experts_a_rank + parts.number;
      SLIPWAY_RETURN_IF_ERROR(Assemble(local, fmt::format("{}{}{}", parts.head, expert, parts.tail),
                                       rank * grid_.expert_tensor, grid_.expert_tensor));
    }
    return absl::OkStatus();
  }

  // The tensor `name` out of what `count` ranks from `first` on hold.
  absl::Status Assemble(const LocalTensor& local, const std::string& name, std::int64_t first, std::int64_t count) {
    std::vector<RankPart> parts;
    for (std::int64_t rank = first; rank < first + count; ++rank) {
      const LegacyRankFile& file = RankAt(local.pipeline, rank);
      parts.push_back({.tensor = &file.models[local.stage].at(local.name),
                       .file = static_cast<std::int32_t>(IndexOf(local.pipeline, rank)),
                       .file_name = file.name});
    }
    const LegacyRankFile& file = RankAt(local.pipeline, first);
    SLIPWAY_ASSIGN_OR_RETURN(const Assembly assembly,
                             DecideAssembly(local.name, file, file.models[local.stage], count, *checkpoint_.arguments));
    SLIPWAY_ASSIGN_OR_RETURN(StoredTensor assembled, AssembleTensor(name, parts, assembly));
    checkpoint_.tensors.push_back(std::move(assembled));
    return absl::OkStatus();
  }

  // The last stage repeats the word embeddings where the output layer is tied to them, or predicts several tokens.
  [[nodiscard]] std::optional<std::string_view> CopyOfEmbedding(std::string_view name, std::int64_t pipeline,
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

  static absl::Status Corrupt(const LegacyRankFile& rank, std::string_view message) {
    return Error(Reason::kCheckpointCorrupt, message, {.file = rank.name});
  }

  const SourceDirectory& directory_;
  Checkpoint& checkpoint_;
  RankGrid grid_;
  std::vector<LegacyRankFile> ranks_;  // as RankGrid::files; the order of Checkpoint::files
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
  checkpoint->directory = std::move(directory);
  checkpoint->root = std::move(root);
  SLIPWAY_RETURN_IF_ERROR(LegacyReader(*checkpoint->directory, *checkpoint).Run());
  return checkpoint;
}

}  // namespace slipway::engine
