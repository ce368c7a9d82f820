#include "worker/engine/checkpoint/safetensors_directory.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "worker/engine/checkpoint/ignored_tally.h"
#include "worker/engine/checkpoint/safetensors_header.h"
#include "worker/engine/checkpoint/safetensors_index.h"
#include "worker/engine/storage/hub_directory.h"

namespace slipway::engine {
namespace {

constexpr std::string_view kConfig = "config.json";
constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kExtension = ".safetensors";
constexpr std::int64_t kMaximumConfig = 16 << 20;
constexpr std::int64_t kMaximumIndex = std::int64_t{256} << 20;
constexpr std::size_t kMaximumTensors = 10'000'000;
constexpr std::size_t kMaximumFiles = 100'000;

bool IsSafetensors(const DirectoryEntry& entry) { return !entry.is_directory && entry.name.ends_with(kExtension); }

bool IsPickle(const DirectoryEntry& entry) {
  return entry.name.starts_with("pytorch_model") && (entry.name.ends_with(".bin") || entry.name.ends_with(".json"));
}

// "model.safetensors", "model-00001-of-00004.safetensors": what belongs to a model whatever its index says.
bool IsNamedLikeAPart(std::string_view name) {
  if (name == kSingleFile) {
    return true;
  }
  std::string shape;
  for (const char c : name) {
    const bool digit = std::isdigit(static_cast<unsigned char>(c)) != 0;
    if (!digit || shape.empty() || shape.back() != '0') {
      shape += digit ? '0' : c;
    }
  }
  return shape == "model-0-of-0.safetensors";
}

// Counted in the text, because parsers of nested values recurse.
int DepthOf(std::string_view json) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string) {
      i += c == '\\' ? 1 : 0;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

class Reader {
 public:
  explicit Reader(Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  absl::Status Read() {
    SLIPWAY_ASSIGN_OR_RETURN(entries_, checkpoint_.directory->List());
    SLIPWAY_RETURN_IF_ERROR(FindWeights());
    SLIPWAY_RETURN_IF_ERROR(ReadConfig());
    SLIPWAY_RETURN_IF_ERROR(ChooseFiles());
    SLIPWAY_RETURN_IF_ERROR(CheckOtherFiles());
    for (const std::string& name : files_) {
      SLIPWAY_RETURN_IF_ERROR(ReadFile(name));
    }
    SLIPWAY_RETURN_IF_ERROR(SortTensors());
    SLIPWAY_RETURN_IF_ERROR(index_ ? CheckIndex() : absl::OkStatus());
    checkpoint_.ignored = ignored_.Take();
    return absl::OkStatus();
  }

 private:
  [[nodiscard]] std::string PathOf(std::string_view name) const {
    return fmt::format("{}/{}", checkpoint_.directory->path(), name);
  }
  [[nodiscard]] bool Has(std::string_view name) const {
    return std::ranges::count(entries_, name, &DirectoryEntry::name) != 0;
  }
  [[nodiscard]] absl::Status Corrupt(std::string_view message, std::string_view file) const {
    return Error(Reason::kCheckpointCorrupt, message, {.file = PathOf(file)});
  }

  [[nodiscard]] absl::Status FindWeights() const {
    if (!Has(kConfig) && Has("adapter_config.json")) {
      return Error(Reason::kCheckpointUnsupported, "is an adapter without its model: merge it into the model first",
                   {.file = PathOf("adapter_config.json")});
    }
    if (std::ranges::any_of(entries_, IsSafetensors)) {
      return absl::OkStatus();
    }
    const auto pickle = std::ranges::find_if(entries_, IsPickle);
    return pickle == entries_.end()
               ? Error(Reason::kCheckpointNotFound, "there are no safetensors files beside config.json",
                       {.file = PathOf(kConfig)})
               : Error(Reason::kCheckpointUnsupported,
                       "the weights are pickled (pytorch_model*.bin), which is not read: save the model as safetensors "
                       "first, with transformers: save_pretrained(directory, safe_serialization=True)",
                       {.file = PathOf(pickle->name)});
  }

  absl::Status ReadConfig() {
    const std::string file = PathOf(kConfig);
    if (!Has(kConfig)) {
      return Error(Reason::kCheckpointNotFound, "there are safetensors files, but no config.json beside them",
                   {.file = file});
    }
    SLIPWAY_ASSIGN_OR_RETURN(checkpoint_.hf_config,
                             checkpoint_.directory->ReadSmallFile(std::string(kConfig), kMaximumConfig));
    if (DepthOf(checkpoint_.hf_config) > kMaximumConfigDepth) {
      return Error(Reason::kConfigurationInvalid, "is nested too deeply", {.file = file});
    }
    const auto config = nlohmann::json::parse(checkpoint_.hf_config, nullptr, /*allow_exceptions=*/false);
    if (!config.is_object()) {
      return Error(Reason::kConfigurationInvalid, "is not a JSON object", {.file = file});
    }
    const auto version = config.find("transformers_version");
    checkpoint_.writer = version != config.end() && version->is_string()
                             ? fmt::format("transformers {}", version->get_ref<const std::string&>().substr(0, 40))
                             : "";
    return absl::OkStatus();
  }

  // The files that hold the model, sorted.
  absl::Status ChooseFiles() {
    const std::string index_name(kSafetensorsIndex);
    if (Has(kSafetensorsIndex)) {
      SLIPWAY_ASSIGN_OR_RETURN(const std::string text, checkpoint_.directory->ReadSmallFile(index_name, kMaximumIndex));
      SLIPWAY_ASSIGN_OR_RETURN(index_, ParseSafetensorsIndex(text, PathOf(index_name)));
      for (const auto& [tensor, file] : *index_) {
        if (!Has(file)) {
          return Error(Reason::kCheckpointCorrupt,
                       fmt::format("the index says that it is in {}, which is missing", file),
                       {.tensor = tensor, .file = PathOf(file)});
        }
        files_.insert(file);
      }
    } else if (Has(kSingleFile)) {
      files_.emplace(kSingleFile);
    } else {
      const auto other = std::ranges::find_if(entries_, IsSafetensors);
      return Corrupt(fmt::format("there is neither {} nor {}, so that {} cannot be known to be all of the model",
                                 kSingleFile, kSafetensorsIndex, other->name),
                     kSafetensorsIndex);
    }
    return files_.size() <= kMaximumFiles
               ? absl::OkStatus()
               : Error(Reason::kLimitExceeded, "names too many files", {.file = PathOf(index_name)});
  }

  absl::Status CheckOtherFiles() {
    for (const DirectoryEntry& entry : entries_) {
      if (!IsSafetensors(entry) || files_.contains(entry.name)) {
        continue;
      }
      if (IsNamedLikeAPart(entry.name)) {
        return Corrupt(index_ ? "is named like a part of the model, but the index does not name it"
                              : fmt::format("lies beside {}, and there is no index", kSingleFile),
                       entry.name);
      }
      ignored_.Add("safetensors files that are no part of the model", entry.name, std::nullopt);
    }
    return absl::OkStatus();
  }

  absl::Status ReadFile(const std::string& name) {
    SLIPWAY_ASSIGN_OR_RETURN(std::shared_ptr<const SourceFile> file, checkpoint_.directory->Open(name));
    SLIPWAY_ASSIGN_OR_RETURN(const SafetensorsHeader header, ReadSafetensorsHeader(*file));
    const auto number = static_cast<std::int32_t>(checkpoint_.files.size());
    checkpoint_.files.push_back({.name = name, .identity = file->identity(), .file = file});
    if (header.entries.size() > kMaximumTensors - checkpoint_.tensors.size()) {
      return Error(Reason::kLimitExceeded, fmt::format("there are more than {} tensors", kMaximumTensors),
                   {.file = PathOf(name)});
    }
    for (const SafetensorsEntry& entry : header.entries) {
      checkpoint_.tensors.push_back({.name = entry.name,
                                     .dtype = entry.dtype,
                                     .shape = entry.shape,
                                     .pieces = {{.offsets = Shape(entry.shape.size(), 0),
                                                 .sizes = entry.shape,
                                                 .strides = {},
                                                 .file = number,
                                                 .position = header.data_position + entry.begin,
                                                 .length = entry.end - entry.begin}}});
    }
    return absl::OkStatus();
  }

  [[nodiscard]] const std::string& FileOf(const StoredTensor& tensor) const {
    return checkpoint_.files[static_cast<std::size_t>(tensor.pieces.front().file)].name;
  }

  absl::Status SortTensors() {
    if (checkpoint_.tensors.empty()) {
      return Corrupt("there are no tensors", *files_.begin());
    }
    std::ranges::sort(checkpoint_.tensors, {}, &StoredTensor::name);
    const auto twice = std::ranges::adjacent_find(checkpoint_.tensors, {}, &StoredTensor::name);
    if (twice != checkpoint_.tensors.end()) {
      return Error(Reason::kTensorDuplicated,
                   fmt::format("is in {} and in {}", FileOf(*twice), FileOf(*std::next(twice))),
                   {.tensor = twice->name, .file = PathOf(FileOf(*twice))});
    }
    return absl::OkStatus();
  }

  // Both lists are sorted by name, and neither has a name twice.
  [[nodiscard]] absl::Status CheckIndex() const {
    auto named = index_->begin();
    for (const StoredTensor& tensor : checkpoint_.tensors) {
      const std::string& file = FileOf(tensor);
      if (named != index_->end() && named->first < tensor.name) {
        break;
      }
      if (named == index_->end() || named->first != tensor.name) {
        return Error(Reason::kTensorUnknown, "is in a file, but the index does not name it",
                     {.tensor = tensor.name, .file = PathOf(file)});
      }
      if (named->second != file) {
        return Error(Reason::kTensorMissing,
                     fmt::format("the index says that it is in {}, it is in {}", named->second, file),
                     {.tensor = tensor.name, .file = PathOf(named->second)});
      }
      ++named;
    }
    return named == index_->end() ? absl::OkStatus()
                                  : Error(Reason::kTensorMissing, "the index names it, but its file does not have it",
                                          {.tensor = named->first, .file = PathOf(named->second)});
  }

  Checkpoint& checkpoint_;
  std::vector<DirectoryEntry> entries_;
  std::optional<std::map<std::string, std::string>> index_;
  std::set<std::string> files_;
  IgnoredTally ignored_;
};

}  // namespace

bool LooksLikeHuggingFace(std::span<const DirectoryEntry> entries) {
  return std::ranges::any_of(entries, [](const DirectoryEntry& entry) {
    return entry.name == kConfig || IsSafetensors(entry) || IsPickle(entry);
  });
}

absl::StatusOr<std::shared_ptr<const Checkpoint>> ReadSafetensorsDirectory(const std::string& path) {
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->format = CheckpointFormat::kHuggingFace;
  checkpoint->path = path;
  checkpoint->arguments = std::make_shared<const nlohmann::json>(nlohmann::json::object());
  SLIPWAY_ASSIGN_OR_RETURN(checkpoint->directory, OpenHuggingFaceDirectory(path));
  checkpoint->root = checkpoint->directory;
  SLIPWAY_RETURN_IF_ERROR(Reader(*checkpoint).Read());
  return checkpoint;
}

}  // namespace slipway::engine
