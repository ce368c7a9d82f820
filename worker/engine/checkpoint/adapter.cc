#include "worker/engine/checkpoint/adapter.h"

#include <cmath>
#include <limits>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/checkpoint/yaml_document.h"

namespace slipway::engine {
namespace {

using nlohmann::json;

constexpr const char* kRunConfig = "run_config.yaml";
constexpr std::int64_t kMaximumBytes = 4 << 20;
constexpr std::size_t kExamples = 3;

const json* Find(const json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string TextOf(const json* value) {
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

absl::StatusOr<AdapterSettings> SettingsOf(const Checkpoint& adapter) {
  const std::string file = fmt::format("{}/{}", adapter.path, kRunConfig);
  if (adapter.directory == nullptr || !adapter.directory->Exists(kRunConfig)) {
    return Error(Reason::kCheckpointUnsupported,
                 "is no adapter of Megatron-Bridge: there is no run_config.yaml that says what it is", {.file = file});
  }
  SLIPWAY_ASSIGN_OR_RETURN(const std::string text, adapter.directory->ReadSmallFile(kRunConfig, kMaximumBytes));
  SLIPWAY_ASSIGN_OR_RETURN(const json document, ParseYaml(text, file));
  return ReadAdapterSettings(document, file);
}

// The base's name, which either run may know.
std::string BaseModelOf(const Checkpoint& adapter, const Checkpoint& base) {
  for (const Checkpoint* checkpoint : {&base, &adapter}) {
    if (checkpoint->arguments != nullptr && checkpoint->arguments->is_object()) {
      if (std::string id = TextOf(Find(*checkpoint->arguments, "hf_model_id")); !id.empty()) {
        return id;
      }
    }
  }
  return {};
}

// The base's weights are not read.
IgnoredEntries IgnoredWeights(const Checkpoint& base) {
  IgnoredEntries ignored;
  ignored.reason = "weights of the adapter's base";
  for (const StoredTensor& tensor : base.tensors) {
    const auto elements = CheckedVolume(tensor.shape);
    const auto bytes = elements ? CheckedMultiply(*elements, InfoOf(tensor.dtype).bytes) : std::nullopt;
    const auto sum = bytes && ignored.bytes >= 0 ? CheckedAdd(ignored.bytes, *bytes) : std::nullopt;
    ignored.bytes = sum.value_or(-1);
    ++ignored.count;
    if (ignored.examples.size() < kExamples) {
      ignored.examples.push_back(tensor.name);
    }
  }
  return ignored;
}

}  // namespace

absl::StatusOr<AdapterSettings> ReadAdapterSettings(const json& document, const std::string& file) {
  const json* const peft = document.is_object() ? Find(document, "peft") : nullptr;
  if (peft == nullptr || !peft->is_object()) {
    return Error(Reason::kCheckpointUnsupported, "is no adapter: its run_config.yaml has no section peft",
                 {.file = file});
  }
  const std::string target = TextOf(Find(*peft, "_target_"));
  if (target.substr(target.rfind('.') + 1) != "LoRA") {
    return Error(Reason::kCheckpointUnsupported,
                 fmt::format("is an adapter of the kind {}: only LoRA adapters are exported",
                             target.empty() ? "that peft does not name" : target.substr(0, 100)),
                 {.file = file});
  }
  const json* const rank = Find(*peft, "dim");
  const json* const alpha = Find(*peft, "alpha");
  const json* const dropout = Find(*peft, "dropout");
  const auto is_number = [](const json* value) {
    return value != nullptr && value->is_number() && std::isfinite(value->get<double>());
  };
  if (rank == nullptr || !rank->is_number_integer() || *rank < 1 || !is_number(alpha) ||
      (dropout != nullptr && !is_number(dropout))) {
    return Error(Reason::kCheckpointCorrupt, "section peft does not state dim and alpha as numbers", {.file = file});
  }
  if (*rank > std::numeric_limits<std::int32_t>::max()) {
    return Error(Reason::kLimitExceeded, "section peft states a dim of more than 2^31", {.file = file});
  }
  AdapterSettings settings{.rank = rank->get<std::int64_t>(),
                           .alpha = alpha->get<double>(),
                           .dropout = dropout == nullptr ? 0 : dropout->get<double>(),
                           .base_model = {}};
  if (!std::isfinite(settings.Scale())) {
    return Error(Reason::kCheckpointCorrupt, "section peft states an alpha that is no FP32 number", {.file = file});
  }
  return settings;
}

absl::StatusOr<AdaptedCheckpoint> JoinAdapter(const Checkpoint& base, const std::string& path, bool alone) {
  SLIPWAY_ASSIGN_OR_RETURN(const std::shared_ptr<const Checkpoint> adapter, ReadCheckpoint(path, {}));
  SLIPWAY_ASSIGN_OR_RETURN(AdapterSettings settings, SettingsOf(*adapter));
  settings.base_model = BaseModelOf(*adapter, base);
  return JoinCheckpoints(base, *adapter, std::move(settings), alone);
}

absl::StatusOr<AdaptedCheckpoint> JoinCheckpoints(const Checkpoint& base, const Checkpoint& adapter,
                                                  AdapterSettings settings, bool alone) {
  AdaptedCheckpoint adapted;
  adapted.settings = std::move(settings);
  SLIPWAY_ASSIGN_OR_RETURN(adapted.tensors, Canonicalize(adapter));

  auto joined = std::make_shared<Checkpoint>(base);
  if (alone) {
    joined->ignored.push_back(IgnoredWeights(base));
    joined->tensors.clear();
  }
  constexpr auto kMost = static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max());
  if (joined->files.size() + adapter.files.size() > kMost || joined->tensors.size() + adapter.tensors.size() > kMost) {
    return Error(Reason::kLimitExceeded, "base and adapter have more than 2^31 tensors", {.file = adapter.path});
  }
  const auto first_file = static_cast<std::int32_t>(joined->files.size());
  const auto first_tensor = static_cast<std::int32_t>(joined->tensors.size());
  for (CheckpointFile file : adapter.files) {
    file.directory = adapter.directory;
    joined->files.push_back(std::move(file));
  }
  for (StoredTensor tensor : adapter.tensors) {
    tensor.name.insert(0, kAdapterPrefix);
    for (Piece& piece : tensor.pieces) {
      piece.file += first_file;
    }
    joined->tensors.push_back(std::move(tensor));
  }
  for (auto& [name, tensor] : adapted.tensors) {
    for (CanonicalPart& part : tensor.parts) {
      part.stored += first_tensor;
    }
  }
  for (IgnoredEntries entries : adapter.ignored) {
    entries.reason = fmt::format("adapter: {}", entries.reason);
    joined->ignored.push_back(std::move(entries));
  }
  adapted.checkpoint = std::move(joined);
  return adapted;
}

}  // namespace slipway::engine
