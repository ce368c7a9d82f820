#include "worker/engine/checkpoint/canonical.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/checked_math.h"
#include "common/error.h"
#include "worker/engine/checkpoint/canonical_name.h"
#include "worker/engine/checkpoint/stored_names.h"

namespace slipway::engine {
namespace {

// A stacked tensor of no elements may claim any number of layers without a byte on disk.
constexpr std::size_t kMaximumCanonicalTensors = 4'000'000;

// Range of numbers that one stored tensor holds of a repeated module: [first, first + count).
struct Range {
  std::int64_t first = 0;
  std::int64_t count = 1;
  bool stacked = false;  // along an axis
};

std::string TensorOf(const Checkpoint& checkpoint, std::int32_t stored) {
  return checkpoint.tensors[static_cast<std::size_t>(stored)].name;
}

enum class Subject { kWeights, kQuantizers };

// Grouped experts have one input quantizer, of a name that in a weight's would stack them.
void ShareAmongExperts(std::string_view stored, CanonicalName& name) {
  const auto quantizer = ParseQuantizerTensorName(stored);
  if (quantizer && name.expert.repeated && !name.expert.index && quantizer->quantizer == "input_quantizer") {
    name.expert.repeated = false;
    name.middle.pop_back();  // the dot before the number
  }
}

class Canonicalizer {
 public:
  Canonicalizer(const Checkpoint& checkpoint, Subject subject) : checkpoint_(checkpoint), subject_(subject) {}

  absl::StatusOr<std::map<std::string, CanonicalTensor>> Run() {
    for (std::size_t i = 0; i < checkpoint_.tensors.size(); ++i) {
      SLIPWAY_RETURN_IF_ERROR(Add(static_cast<std::int32_t>(i)));
    }
    SLIPWAY_RETURN_IF_ERROR(JoinParts());
    SLIPWAY_RETURN_IF_ERROR(subject_ == Subject::kWeights ? FindNibbles() : absl::OkStatus());
    return std::move(tensors_);
  }

 private:
  // A weight stored in parts, while they are gathered.
  struct Partial {
    std::vector<CanonicalPart> parts;  // by part number; stored is -1 where it has not come yet
  };

  absl::Status Add(std::int32_t index) {
    const StoredTensor& stored = checkpoint_.tensors[static_cast<std::size_t>(index)];
    if (ParseQuantizerTensorName(stored.name).has_value() != (subject_ == Subject::kQuantizers)) {
      return absl::OkStatus();
    }
    SLIPWAY_ASSIGN_OR_RETURN(CanonicalName name, ParseStoredName(stored.name));
    ShareAmongExperts(stored.name, name);
    std::size_t axis = 0;
    SLIPWAY_ASSIGN_OR_RETURN(const Range layers, RangeOf(name.layer, stored, "layer", kMaximumLayers, axis));
    SLIPWAY_ASSIGN_OR_RETURN(const Range experts, RangeOf(name.expert, stored, "expert", kMaximumExperts, axis));
    const auto count = CheckedMultiply(layers.count, experts.count);
    if (!count || static_cast<std::size_t>(*count) > kMaximumCanonicalTensors - total_) {
      return Error(Reason::kLimitExceeded, fmt::format("more than {} weights", kMaximumCanonicalTensors),
                   {.tensor = stored.name});
    }
    total_ += static_cast<std::size_t>(*count);
    for (std::int64_t layer = layers.first; layer < layers.first + layers.count; ++layer) {
      for (std::int64_t expert = experts.first; expert < experts.first + experts.count; ++expert) {
        CanonicalPart part{.stored = index, .fixed = {}};
        if (layers.stacked) {
          part.fixed.push_back(layer);
        }
        if (experts.stacked) {
          part.fixed.push_back(expert);
        }
        SLIPWAY_RETURN_IF_ERROR(Place(Spell(name, layer, expert), name, std::move(part)));
      }
    }
    return absl::OkStatus();
  }

  static absl::StatusOr<Range> RangeOf(const Repetition& repetition, const StoredTensor& stored, std::string_view what,
                                       std::int64_t maximum, std::size_t& axis) {
    if (!repetition.repeated) {
      return Range{};
    }
    if (repetition.index) {
      return Range{.first = *repetition.index};
    }
    if (axis >= stored.shape.size()) {
      return Error(Reason::kTensorShapeMismatch, fmt::format("the tensor has no {} axis", what),
                   {.tensor = stored.name});
    }
    const std::int64_t count = stored.shape[axis++];
    if (count > maximum) {
      return Error(Reason::kLimitExceeded, fmt::format("{} {}s; the most is {}", count, what, maximum),
                   {.tensor = stored.name});
    }
    return Range{.count = count, .stacked = true};
  }

  absl::Status Place(std::string spelled, const CanonicalName& name, CanonicalPart part) {
    if (name.parts == 1) {
      const auto [place, added] = tensors_.try_emplace(spelled);
      if (!added) {
        return Duplicated(spelled, place->second.parts.front().stored, part.stored);
      }
      const StoredTensor& stored = checkpoint_.tensors[static_cast<std::size_t>(part.stored)];
      place->second = CanonicalTensor{
          .name = std::move(spelled),
          .dtype = stored.dtype,
          .shape = Shape(stored.shape.begin() + static_cast<std::ptrdiff_t>(part.fixed.size()), stored.shape.end()),
          .parts = {std::move(part)}};
      return absl::OkStatus();
    }
    Partial& partial = partials_[spelled];
    partial.parts.resize(name.parts, CanonicalPart{.stored = -1, .fixed = {}});
    CanonicalPart& place = partial.parts[name.part];
    if (place.stored >= 0) {
      return Duplicated(spelled, place.stored, part.stored);
    }
    place = std::move(part);
    return absl::OkStatus();
  }

  absl::Status JoinParts() {
    for (auto& [name, partial] : partials_) {
      SLIPWAY_ASSIGN_OR_RETURN(CanonicalTensor tensor, Join(name, std::move(partial.parts)));
      const std::int32_t first = tensor.parts.front().stored;
      const auto [place, added] = tensors_.try_emplace(name, std::move(tensor));
      if (!added) {
        return Duplicated(name, place->second.parts.front().stored, first);
      }
    }
    return absl::OkStatus();
  }

  // mtq.compress leaves NVFP4 codes in place of a weight, with scales of blocks and one of the whole beside them.
  absl::Status FindNibbles() {
    if (std::ranges::none_of(tensors_, [](const auto& entry) { return entry.second.dtype == DType::kU8; })) {
      return absl::OkStatus();
    }
    SLIPWAY_ASSIGN_OR_RETURN(const auto quantizers, Canonicalizer(checkpoint_, Subject::kQuantizers).Run());
    for (auto& [name, tensor] : tensors_) {
      const auto scale = quantizers.find(name + "_quantizer._scale");
      if (tensor.dtype != DType::kU8 || tensor.shape.size() != 2 || scale == quantizers.end() ||
          scale->second.dtype != DType::kF8E4M3 || !quantizers.contains(name + "_quantizer._double_scale")) {
        continue;
      }
      const auto columns = CheckedMultiply(tensor.shape.back(), 2);
      if (!columns) {
        return Error(Reason::kLimitExceeded, "has more than 2^63 columns", {.tensor = name});
      }
      tensor.shape.back() = *columns;
      tensor.nibbles = true;
    }
    return absl::OkStatus();
  }

  [[nodiscard]] absl::StatusOr<CanonicalTensor> Join(const std::string& name, std::vector<CanonicalPart> parts) const {
    CanonicalTensor joined{.name = name, .dtype = {}, .shape = {}, .parts = {}};
    const auto present = std::ranges::find_if(parts, [](const CanonicalPart& part) { return part.stored >= 0; });
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (parts[i].stored < 0) {
        return Error(Reason::kTensorMissing, fmt::format("part {} of {} of {}", i + 1, parts.size(), name),
                     {.tensor = SpellStoredPart(TensorOf(checkpoint_, present->stored), i)});
      }
      const StoredTensor& stored = checkpoint_.tensors[static_cast<std::size_t>(parts[i].stored)];
      const Shape shape(stored.shape.begin() + static_cast<std::ptrdiff_t>(parts[i].fixed.size()), stored.shape.end());
      if (i == 0) {
        joined.dtype = stored.dtype;
        joined.shape = shape;
        if (shape.empty()) {
          return Error(Reason::kTensorShapeMismatch, "a part of a weight has no rows", {.tensor = stored.name});
        }
        continue;
      }
      SLIPWAY_RETURN_IF_ERROR(Append(stored, shape, joined));
    }
    joined.parts = std::move(parts);
    return joined;
  }

  // Adds the rows of one more part to the joined tensor's.
  static absl::Status Append(const StoredTensor& stored, const Shape& shape, CanonicalTensor& joined) {
    const bool fits = stored.dtype == joined.dtype && shape.size() == joined.shape.size() &&
                      std::equal(shape.begin() + 1, shape.end(), joined.shape.begin() + 1);
    const auto rows = fits ? CheckedAdd(joined.shape[0], shape[0]) : std::nullopt;
    if (!rows) {
      return Error(Reason::kTensorShapeMismatch,
                   fmt::format("the part's shape [{}] and dtype {} do not go with [{}] and {} of the parts before",
                               fmt::join(shape, ", "), InfoOf(stored.dtype).torch_name, fmt::join(joined.shape, ", "),
                               InfoOf(joined.dtype).torch_name),
                   {.tensor = stored.name});
    }
    joined.shape[0] = *rows;
    return absl::OkStatus();
  }

  [[nodiscard]] absl::Status Duplicated(const std::string& name, std::int32_t first, std::int32_t second) const {
    return Error(Reason::kTensorDuplicated,
                 fmt::format("{} and {} are the same weight, {}", TensorOf(checkpoint_, first),
                             TensorOf(checkpoint_, second), name),
                 {.tensor = TensorOf(checkpoint_, second)});
  }

  const Checkpoint& checkpoint_;
  const Subject subject_;
  std::map<std::string, CanonicalTensor> tensors_;
  std::map<std::string, Partial> partials_;  // ordered, so that the same error comes first every time
  std::size_t total_ = 0;
};

}  // namespace

absl::StatusOr<std::map<std::string, CanonicalTensor>> Canonicalize(const Checkpoint& checkpoint) {
  return Canonicalizer(checkpoint, Subject::kWeights).Run();
}

absl::StatusOr<std::map<std::string, CanonicalTensor>> CanonicalizeQuantizers(const Checkpoint& checkpoint) {
  return Canonicalizer(checkpoint, Subject::kQuantizers).Run();
}

absl::StatusOr<std::string> ModuleOfState(std::string_view stored) {
  constexpr std::string_view kState = "._extra_state";
  constexpr std::string_view kShard = "/shard_";
  const std::size_t end = stored.find(kState);
  if (end == std::string_view::npos) {
    return Error(Reason::kInternal, "is no module's state", {.tensor = std::string(stored)});
  }
  SLIPWAY_ASSIGN_OR_RETURN(const CanonicalName name, ParseStoredName(stored.substr(0, end)));
  std::string_view indices = stored.substr(end + kState.size());
  indices.remove_prefix(indices.starts_with(kShard) ? kShard.size() : indices.size());
  indices = indices.substr(0, indices.find('_'));
  absl::Status status;
  const auto take = [&](const Repetition& repetition) -> std::int64_t {
    if (!repetition.repeated || repetition.index) {
      return repetition.index.value_or(0);
    }
    std::int64_t number = 0;
    const auto [rest, error] = std::from_chars(indices.data(), indices.data() + indices.size(), number);
    if (error != std::errc() || number < 0) {
      status = Error(Reason::kCheckpointCorrupt, "the name of a module's state does not say of which layer it is",
                     {.tensor = std::string(stored)});
    }
    indices.remove_prefix(static_cast<std::size_t>(rest - indices.data()));
    indices.remove_prefix(indices.starts_with('.') ? 1 : 0);
    return number;
  };
  const std::int64_t layer = take(name.layer);
  const std::int64_t expert = take(name.expert);
  SLIPWAY_RETURN_IF_ERROR(status);
  return Spell(name, layer, expert);
}

}  // namespace slipway::engine
