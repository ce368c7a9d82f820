#include "worker/engine/checkpoint/iteration.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.h"
#include "worker/engine/checkpoint/safetensors_directory.h"

namespace slipway::engine {
namespace {

constexpr std::string_view kTracker = "latest_checkpointed_iteration.txt";
constexpr std::int64_t kMaximumTrackerBytes = 4096;
constexpr std::size_t kMaximumIterationsNamed = 20;

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

bool IsIterationDirectory(const std::vector<DirectoryEntry>& entries) {
  return std::ranges::any_of(entries, [](const DirectoryEntry& entry) {
    return entry.name == "metadata.json" || entry.name == ".metadata" || entry.name == "run_config.yaml" ||
           entry.name == "train_state.pt" || entry.name.starts_with("mp_rank_0");
  });
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
  for (const DirectoryEntry& entry : entries) {
    const std::optional<std::int64_t> number = IterationOfName(entry.name);
    if (number && *number == iteration) {
      SLIPWAY_ASSIGN_OR_RETURN(std::shared_ptr<const SourceDirectory> directory, root->OpenDirectory(entry.name));
      return IterationDirectory{
          .root = std::move(root), .directory = std::move(directory), .iteration = iteration, .release = false};
    }
    if (number) {
      present.push_back(*number);
    }
  }
  return NotFound(
      fmt::format("iter_{:07} ({}) is not there; there are {}", iteration, wanted_by, ListOf(std::move(present))),
      root->path());
}

}  // namespace

absl::StatusOr<IterationDirectory> FindIteration(const std::string& path, const ReadOptions& options) {
  SLIPWAY_ASSIGN_OR_RETURN(std::shared_ptr<const SourceDirectory> root, OpenLocalDirectory(path));
  SLIPWAY_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries, root->List());
  if (IsIterationDirectory(entries)) {
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
  if (options.iteration) {
    return OpenIteration(std::move(root), entries, *options.iteration, "asked for");
  }
  if (std::ranges::count(entries, kTracker, &DirectoryEntry::name) != 0) {
    SLIPWAY_ASSIGN_OR_RETURN(const std::string content,
                             root->ReadSmallFile(std::string(kTracker), kMaximumTrackerBytes));
    const std::string_view latest = Trim(content);
    if (latest == "release") {
      SLIPWAY_ASSIGN_OR_RETURN(std::shared_ptr<const SourceDirectory> directory, root->OpenDirectory("release"));
      return IterationDirectory{
          .root = std::move(root), .directory = std::move(directory), .iteration = 0, .release = true};
    }
    const std::optional<std::int64_t> number = ParseNumber(latest);
    if (!number) {
      return Error(Reason::kCheckpointCorrupt, "the tracker file holds neither a number nor the word release",
                   {.file = fmt::format("{}/{}", path, kTracker), .offset = 0});
    }
    return OpenIteration(std::move(root), entries, *number, "named by the tracker file");
  }
  std::optional<std::int64_t> latest;
  for (const DirectoryEntry& entry : entries) {
    latest = std::max(latest, IterationOfName(entry.name));
  }
  if (!latest && LooksLikeHuggingFace(entries)) {
    return IterationDirectory{.root = root, .directory = root, .iteration = 0, .release = false};
  }
  if (!latest) {
    return NotFound(fmt::format("no checkpoint: neither {} nor iter_* nor the files of an iteration or of a Hugging "
                                "Face directory",
                                kTracker),
                    path);
  }
  return OpenIteration(std::move(root), entries, *latest, "the latest");
}

}  // namespace slipway::engine
