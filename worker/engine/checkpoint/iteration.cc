#include "worker/engine/checkpoint/iteration.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.h"
#include "worker/engine/checkpoint/safetensors_directory.h"
#include "worker/engine/checkpoint/train_state.h"

namespace slipway::engine {
namespace {

constexpr std::string_view kTracker = "latest_checkpointed_iteration.txt";
constexpr std::string_view kStateTracker = "latest_train_state.pt";
constexpr std::int64_t kMaximumTrackerBytes = 4096;
constexpr std::size_t kMaximumIterationsNamed = 20;

absl::Status Several(std::string_view one, std::string_view other, const std::string& directory) {
  return Error(Reason::kCheckpointUnsupported,
               fmt::format("the directory is more than one checkpoint: it has {} and {}; give the one that is meant",
                           one, other),
               {.file = directory});
}

std::optional<std::int64_t> ParseNumber(std::string_view text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool whole = error == std::errc() && end == text.data() + text.size() && number >= 0;
  return whole ? std::optional(number) : std::nullopt;
}

// "iter_0000100" is 100.
std::optional<std::int64_t> IterationOfName(std::string_view name) {
  constexpr std::string_view kPrefix = "iter_";
  return name.starts_with(kPrefix) ? ParseNumber(name.substr(kPrefix.size())) : std::nullopt;
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kSpace);
  return first == std::string_view::npos ? std::string_view()
                                         : text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

// What marks a directory as one iteration's, as a training run's with several, and as NeMo's. Names of entries; empty
// where there is none.
struct Marks {
  std::string weights;        // an index or a rank's directory
  std::string configuration;  // beside them, in Megatron-Bridge's
  std::string run;
  std::string nemo;  // a directory with a distributed checkpoint in it
};

struct NemoLayout {
  std::string_view directory;
  std::string_view framework;
};
constexpr std::array kNemoLayouts = std::to_array<NemoLayout>({
    {"weights", "NeMo 2 (whose configuration, in context/, is not read)"},
    {"model_weights", "NeMo 1 (whose configuration, model_config.yaml, is not read)"},
});

absl::StatusOr<Marks> FindMarks(const SourceDirectory& directory, const std::vector<DirectoryEntry>& entries) {
  Marks marks;
  for (const DirectoryEntry& entry : entries) {
    const std::string& name = entry.name;
    if (name == "metadata.json" || name == ".metadata" || name.starts_with("mp_rank_0")) {
      marks.weights = name;
    } else if (name == "run_config.yaml" || name == "train_state.pt") {
      marks.configuration = name;
    } else if (name == kTracker || name == kStateTracker || (entry.is_directory && IterationOfName(name))) {
      marks.run = name;
    } else if (entry.is_directory && std::ranges::count(kNemoLayouts, name, &NemoLayout::directory) != 0) {
      SLIPWAY_ASSIGN_OR_RETURN(const auto below, directory.OpenDirectory(name));
      const bool is_checkpoint = below->Exists("metadata.json") || below->Exists(".metadata");
      if (is_checkpoint && !marks.nemo.empty()) {
        return Several(marks.nemo, name, directory.path());
      }
      marks.nemo = is_checkpoint ? name : marks.nemo;
    }
  }
  // Megatron-Bridge's configuration may have been copied beside the iterations; weights may not.
  const std::string& other = marks.run.empty() ? marks.nemo : marks.run;
  if (!marks.weights.empty() && !other.empty()) {
    return Several(marks.weights, other, directory.path());
  }
  if (!marks.run.empty() && !marks.nemo.empty()) {
    return Several(marks.run, marks.nemo, directory.path());
  }
  return marks;
}

std::string_view LastComponent(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) {
    path.remove_suffix(1);
  }
  return path.substr(path.rfind('/') + 1);
}

std::string ListOf(std::vector<std::int64_t> iterations) {
  if (iterations.empty()) {
    return "no iterations";
  }
  std::ranges::sort(iterations, std::greater());
  const std::size_t named = std::min(iterations.size(), kMaximumIterationsNamed);
  return fmt::format("iterations {}{}",
                     fmt::join(iterations.begin(), iterations.begin() + static_cast<std::ptrdiff_t>(named), ", "),
                     named < iterations.size() ? ", ..." : "");
}

absl::Status NotFound(std::string_view message, const std::string& file) {
  return Error(Reason::kCheckpointNotFound, message, {.file = file});
}

absl::StatusOr<IterationDirectory> OpenIteration(std::shared_ptr<const SourceDirectory> root,
                                                 const std::vector<DirectoryEntry>& entries, std::int64_t iteration,
                                                 std::string_view wanted_by) {
  std::vector<std::int64_t> present;
  const DirectoryEntry* chosen = nullptr;
  for (const DirectoryEntry& entry : entries) {
    const std::optional<std::int64_t> number = entry.is_directory ? IterationOfName(entry.name) : std::nullopt;
    if (number && *number == iteration) {
      if (chosen != nullptr) {
        return Several(chosen->name, entry.name, root->path());
      }
      chosen = &entry;
    } else if (number) {
      present.push_back(*number);
    }
  }
  if (chosen == nullptr) {
    return NotFound(
        fmt::format("iter_{:07} ({}) is not there; there are {}", iteration, wanted_by, ListOf(std::move(present))),
        root->path());
  }
  SLIPWAY_ASSIGN_OR_RETURN(std::shared_ptr<const SourceDirectory> directory, root->OpenDirectory(chosen->name));
  return IterationDirectory{.root = std::move(root), .directory = std::move(directory), .iteration = iteration};
}

// `path` is one checkpoint: which iteration it is stands in its name, if anywhere.
absl::StatusOr<IterationDirectory> TakeAsItIs(const std::shared_ptr<const SourceDirectory>& root,
                                              const std::string& path, const ReadOptions& options) {
  const std::string_view name = LastComponent(path);
  const std::optional<std::int64_t> number = IterationOfName(name);
  if (options.iteration && number != options.iteration) {
    return NotFound(
        fmt::format("iteration {} was asked for, and this is the directory of one iteration", *options.iteration),
        path);
  }
  return IterationDirectory{
      .root = root, .directory = root, .iteration = number.value_or(0), .release = name == "release"};
}

absl::StatusOr<IterationDirectory> FollowTracker(std::shared_ptr<const SourceDirectory> root,
                                                 const std::vector<DirectoryEntry>& entries) {
  SLIPWAY_ASSIGN_OR_RETURN(const std::string content, root->ReadSmallFile(std::string(kTracker), kMaximumTrackerBytes));
  const std::string_view latest = Trim(content);
  if (latest == "release") {
    SLIPWAY_ASSIGN_OR_RETURN(std::shared_ptr<const SourceDirectory> directory, root->OpenDirectory("release"));
    return IterationDirectory{.root = std::move(root), .directory = std::move(directory), .release = true};
  }
  const std::optional<std::int64_t> number = ParseNumber(latest);
  if (!number) {
    return Error(Reason::kCheckpointCorrupt, "the tracker file holds neither a number nor the word release",
                 {.file = fmt::format("{}/{}", root->path(), kTracker), .offset = 0});
  }
  return OpenIteration(std::move(root), entries, *number, "named by the tracker file");
}

absl::StatusOr<IterationDirectory> OpenLatest(std::shared_ptr<const SourceDirectory> root,
                                              const std::vector<DirectoryEntry>& entries) {
  std::optional<std::int64_t> latest;
  for (const DirectoryEntry& entry : entries) {
    latest = entry.is_directory ? std::max(latest, IterationOfName(entry.name)) : latest;
  }
  if (!latest && LooksLikeHuggingFace(entries)) {
    return IterationDirectory{.root = root, .directory = root};
  }
  if (!latest) {
    return NotFound(fmt::format("no checkpoint: neither {} nor iter_* nor the files of an iteration or of a Hugging "
                                "Face directory",
                                kTracker),
                    root->path());
  }
  return OpenIteration(std::move(root), entries, *latest, "the latest");
}

}  // namespace

absl::StatusOr<IterationDirectory> FindIteration(const std::string& path, const ReadOptions& options) {
  SLIPWAY_ASSIGN_OR_RETURN(std::shared_ptr<const SourceDirectory> root, OpenLocalDirectory(path));
  SLIPWAY_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, root->List());
  SLIPWAY_ASSIGN_OR_RETURN(const Marks marks, FindMarks(*root, entries));
  const bool is_iteration = !marks.weights.empty() || (!marks.configuration.empty() && marks.run.empty());
  if (is_iteration && marks.nemo.empty()) {
    return TakeAsItIs(root, path, options);
  }
  if (!marks.nemo.empty()) {
    SLIPWAY_ASSIGN_OR_RETURN(IterationDirectory found, TakeAsItIs(root, path, options));
    SLIPWAY_ASSIGN_OR_RETURN(found.directory, root->OpenDirectory(marks.nemo));
    found.framework = std::ranges::find(kNemoLayouts, marks.nemo, &NemoLayout::directory)->framework;
    return found;
  }
  if (options.iteration) {
    return OpenIteration(std::move(root), entries, *options.iteration, "asked for");
  }
  const auto has = [&entries](std::string_view name) {
    return std::ranges::count(entries, name, &DirectoryEntry::name) != 0;
  };
  if (has(kStateTracker)) {
    SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t step, ReadTrainingStep(*root, std::string(kStateTracker)));
    return OpenIteration(std::move(root), entries, step, "named by latest_train_state.pt");
  }
  return has(kTracker) ? FollowTracker(std::move(root), entries) : OpenLatest(std::move(root), entries);
}

std::shared_ptr<Checkpoint> CheckpointAt(IterationDirectory found, CheckpointFormat format) {
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->format = format;
  checkpoint->path = found.directory->path();
  checkpoint->iteration = found.iteration;
  checkpoint->release = found.release;
  checkpoint->writer = std::move(found.framework);
  checkpoint->root = std::move(found.root);
  checkpoint->directory = std::move(found.directory);
  return checkpoint;
}

}  // namespace slipway::engine
