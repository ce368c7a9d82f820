#include "worker/engine/checkpoint/quantizer_state.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/checkpoint/dist_index.h"
#include "worker/engine/checkpoint/pickle.h"
#include "worker/engine/checkpoint/quantizer_pickle.h"
#include "worker/engine/checkpoint/torch_archive.h"
#include "worker/engine/checkpoint/torch_tensor.h"

namespace slipway::engine {
namespace {

constexpr std::int64_t kMaximumState = 64 << 20;
constexpr std::string_view kDirectory = "modelopt_state";
constexpr std::string_view kCommonEntry = "common_state/";

// The pickle at [position, position + length) of a file, whether torch.save wrapped it or not.
absl::StatusOr<PickleDocument> ReadWrapped(const SourceFile& file, std::int64_t position, std::int64_t length) {
  constexpr std::array kZip = {std::byte{'P'}, std::byte{'K'}, std::byte{3}, std::byte{4}};
  std::array<std::byte, 4> beginning{};
  if (length >= static_cast<std::int64_t>(beginning.size())) {
    SLIPWAY_RETURN_IF_ERROR(file.ReadAt(position, beginning));
  }
  if (beginning == kZip) {
    SLIPWAY_ASSIGN_OR_RETURN(const TorchArchive archive, TorchArchive::Open(file, position, length));
    return archive.ReadPickle();
  }
  SLIPWAY_ASSIGN_OR_RETURN(Window window, file.Map(position, length));
  return ParsePickle(std::move(window), {.file = file.name(), .file_position = position});
}

struct ByteRange {
  std::int64_t position = 0;
  std::int64_t length = 0;
};

// The bytes of the one uint8 tensor in the list that a state is; absent where it is something else.
absl::StatusOr<std::optional<ByteRange>> FindPayload(const TorchArchive& archive) {
  SLIPWAY_ASSIGN_OR_RETURN(const PickleDocument document, archive.ReadPickle());
  const std::span<const PickleValue> items = document.Items(document.root());
  if (document.root().kind() != PickleValue::Kind::kList || items.size() != 1 || !IsTensor(document, items[0])) {
    return std::nullopt;
  }
  SLIPWAY_ASSIGN_OR_RETURN(const TorchTensor tensor, DescribeTensor(document, items[0]));
  if (tensor.dtype != DType::kU8 || tensor.shape.size() != 1 || tensor.shape[0] == 0 || tensor.strides[0] != 1) {
    return std::nullopt;
  }
  SLIPWAY_ASSIGN_OR_RETURN(const ArchiveMember storage, archive.Storage(tensor.storage_key));
  if (tensor.storage_offset > storage.size || tensor.shape[0] > storage.size - tensor.storage_offset) {
    return Error(Reason::kCheckpointCorrupt, "a module's state reaches past its storage");
  }
  return ByteRange{.position = storage.position + tensor.storage_offset, .length = tensor.shape[0]};
}

absl::StatusOr<ModuleQuantizers> ReadState(const SourceFile& file, const ModuleState& state) {
  if (state.length > kMaximumState) {
    return Error(Reason::kLimitExceeded, fmt::format("a module's state of {} bytes", state.length));
  }
  SLIPWAY_ASSIGN_OR_RETURN(const TorchArchive archive, TorchArchive::Open(file, state.position, state.length));
  SLIPWAY_ASSIGN_OR_RETURN(const std::optional<ByteRange> payload, FindPayload(archive));
  if (!payload) {
    return ModuleQuantizers();
  }
  SLIPWAY_ASSIGN_OR_RETURN(const PickleDocument document, ReadWrapped(file, payload->position, payload->length));
  return QuantizersOf(document);
}

// The common state of the distributed checkpoint in `directory`.
absl::StatusOr<ModelOptState> ReadCommon(const SourceDirectory& directory) {
  if (directory.Exists("common.pt")) {
    SLIPWAY_ASSIGN_OR_RETURN(const auto file, directory.Open("common.pt"));
    SLIPWAY_ASSIGN_OR_RETURN(const PickleDocument document, ReadWrapped(*file, 0, file->size()));
    return ModelOptStateOf(document, document.root());
  }
  SLIPWAY_ASSIGN_OR_RETURN(const auto index_file, directory.Open(".metadata"));
  SLIPWAY_ASSIGN_OR_RETURN(Window window, index_file->Map(0, index_file->size()));
  SLIPWAY_ASSIGN_OR_RETURN(const auto index, DistIndex::Read(std::move(window), index_file->name()));
  const auto entry = std::ranges::find_if(index->entries(), [](const DistEntry& candidate) {
    return !candidate.is_tensor && candidate.name.starts_with(kCommonEntry);
  });
  if (entry == index->entries().end()) {
    return ModelOptState();
  }
  SLIPWAY_ASSIGN_OR_RETURN(const std::vector<DistBlock> blocks, index->Blocks(*entry));
  const DistLocation& location = blocks.front().location;
  SLIPWAY_ASSIGN_OR_RETURN(const auto file, directory.Open(std::string(location.file)));
  if (location.offset < 0 || location.offset > file->size() || location.length > file->size() - location.offset) {
    return Error(Reason::kCheckpointCorrupt, "the common state lies outside its file",
                 {.file = file->name(), .offset = location.offset});
  }
  SLIPWAY_ASSIGN_OR_RETURN(const PickleDocument document, ReadWrapped(*file, location.offset, location.length));
  const std::span<const PickleValue> items = document.Items(document.root());
  return ModelOptStateOf(document, items.empty() ? document.root() : items[0]);
}

// Whether `c` is one of a set such as "kv", "a-z", "!a-z".
bool IsInSet(std::string_view set, char c) {
  const bool negated = set.starts_with('!');
  set.remove_prefix(negated ? 1 : 0);
  bool found = false;
  for (std::size_t i = 0; i < set.size(); ++i) {
    const bool is_range = i + 2 < set.size() && set[i + 1] == '-';
    found = found || (is_range ? set[i] <= c && c <= set[i + 2] : set[i] == c);
    i += is_range ? 2 : 0;
  }
  return found != negated;
}

// How long the part of `pattern` is that stands for one character, if `c` fits it; 0 where it does not.
std::size_t MatchOne(std::string_view pattern, char c) {
  if (pattern.empty()) {
    return 0;
  }
  const std::size_t end = pattern.front() == '[' ? pattern.find(']', pattern.starts_with("[!") ? 3 : 2)
                                                 : std::string_view::npos;  // the first in a set is itself
  if (end != std::string_view::npos) {
    return IsInSet(pattern.substr(1, end - 1), c) ? end + 1 : 0;
  }
  return pattern.front() == '?' || pattern.front() == c ? 1 : 0;
}

// Whether a name matches a pattern of * (anything), ? (one character) and [set] (one of it), as Python's fnmatch does.
bool Matches(std::string_view pattern, std::string_view name) {
  std::size_t p = 0;
  std::size_t n = 0;
  std::size_t star = std::string_view::npos;
  std::size_t retry = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      retry = n;
    } else if (const std::size_t length = MatchOne(pattern.substr(p), name[n]); length > 0) {
      p += length;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++retry;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

}  // namespace

std::string DescribeSettings(const QuantizerSettings& settings) {
  if (!settings.enabled) {
    return "disabled";
  }
  std::string text = settings.integer_bits > 0
                         ? fmt::format("INT{}", settings.integer_bits)
                         : fmt::format("FP({}, {})", settings.exponent_bits, settings.mantissa_bits);
  if (settings.block_rows > 0) {
    text += fmt::format(" in blocks of {} x {}", settings.block_rows, settings.block_columns);
  } else if (settings.block_columns > 0) {
    text += fmt::format(" in blocks of {}", settings.block_columns);
  } else if (settings.by_row) {
    text += " by row";
  }
  if (settings.scale_exponent > 0) {
    text += fmt::format(", scales FP({}, {})", settings.scale_exponent, settings.scale_mantissa);
  }
  return settings.dynamic ? text + ", dynamic" : text;
}

absl::StatusOr<ModuleQuantizers> ReadModuleState(const Checkpoint& checkpoint, const ModuleState& state) {
  const SourceFile& file = *checkpoint.files[static_cast<std::size_t>(state.file)].file;
  absl::StatusOr<ModuleQuantizers> quantizers = ReadState(file, state);
  return quantizers.ok()
             ? std::move(quantizers)
             : absl::StatusOr<ModuleQuantizers>(AddWhere(
                   quantizers.status(), {.tensor = state.name, .file = file.name(), .offset = state.position}));
}

absl::StatusOr<ModelOptState> ReadModelOptState(const Checkpoint& checkpoint) {
  const std::string name(kDirectory);
  if (checkpoint.directory == nullptr || !checkpoint.directory->Exists(name)) {
    return ModelOptState();
  }
  SLIPWAY_ASSIGN_OR_RETURN(const auto directory, checkpoint.directory->OpenDirectory(name));
  absl::StatusOr<ModelOptState> state = ReadCommon(*directory);
  return state.ok() ? std::move(state)
                    : absl::StatusOr<ModelOptState>(AddWhere(state.status(), {.file = directory->path()}));
}

ModuleQuantizers QuantizersByRules(const ModelOptState& state, std::string_view module) {
  constexpr auto kNames =
      std::to_array<std::string_view>({"weight_quantizer", "input_quantizer", "k_bmm_quantizer", "v_bmm_quantizer"});
  ModuleQuantizers quantizers;
  for (const std::string_view quantizer : kNames) {
    const std::string name = fmt::format("{}.{}", module, quantizer);
    std::vector<QuantizerSettings> settings(1);
    bool matched = false;
    for (const QuantizerRule& rule : state.rules) {
      if (!Matches(rule.pattern, name)) {
        continue;
      }
      matched = true;
      settings = rule.settings.empty() ? settings : rule.settings;
      for (QuantizerSettings& each : settings) {
        each.enabled = rule.enabled;
      }
    }
    for (std::size_t i = 0; matched && i < settings.size(); ++i) {
      quantizers[settings.size() == 1 ? std::string(quantizer) : fmt::format("{}.{}", quantizer, i)] = settings[i];
    }
  }
  return quantizers;
}

}  // namespace slipway::engine
