#include "worker/engine/plan/adapter.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/error.h"
#include "worker/engine/model/rule_instances.h"
#include "worker/engine/plan/transforms.h"

namespace slipway::engine {
namespace {

constexpr std::string_view kAdapter = ".adapter.";
constexpr std::string_view kIn = ".adapter.linear_in.weight";
constexpr std::string_view kOut = ".adapter.linear_out.weight";
constexpr std::string_view kWeight = ".weight";
constexpr std::string_view kDecoderLayers = "decoder.layers.";

// Whether the first axis of a stored tensor of that name is the decoder's layers: no layer's number is in it.
bool StacksDecoderLayers(std::string_view name) {
  name.remove_prefix(std::min(name.size(), kAdapterPrefix.size()));
  if (!name.starts_with(kDecoderLayers) || name.size() == kDecoderLayers.size()) {
    return false;
  }
  const char next = name[kDecoderLayers.size()];
  return next < '0' || next > '9';
}

std::string Joined(std::string_view stem, std::string_view ending) { return std::string(stem).append(ending); }

}  // namespace

absl::StatusOr<Adapter> Adapter::Make(const AdaptedCheckpoint& adapted, std::int64_t layers) {
  Adapter adapter(adapted);
  for (const auto& [name, tensor] : adapted.tensors) {
    SLIPWAY_RETURN_IF_ERROR(adapter.Add(tensor, layers));
  }
  if (adapter.factors_.empty()) {
    return Error(Reason::kTensorMissing, "the adapter has no weights");
  }
  for (const auto& [base, factors] : adapter.factors_) {
    if (factors.a == nullptr || factors.b == nullptr) {
      const std::string_view stem = std::string_view(base).substr(0, base.size() - kWeight.size());
      return Error(Reason::kTensorMissing, fmt::format("the adapter has only the other factor of {}", base),
                   {.tensor = Joined(stem, factors.a == nullptr ? kIn : kOut)});
    }
  }
  return adapter;
}

absl::Status Adapter::Add(const CanonicalTensor& tensor, std::int64_t layers) {
  const std::string_view name = tensor.name;
  const bool is_in = name.ends_with(kIn);
  if (!is_in && !name.ends_with(kOut)) {
    if (name.find("weight_magnitude") != std::string_view::npos) {
      return Error(Reason::kCheckpointUnsupported, "is a magnitude of DoRA: only LoRA adapters are exported",
                   {.tensor = tensor.name});
    }
    return name.find(kAdapter) != std::string_view::npos
               ? Error(Reason::kCheckpointUnsupported,
                       "is of an adapter that has more than linear_in and linear_out: only LoRA adapters are exported",
                       {.tensor = tensor.name})
               : Error(Reason::kTensorUnknown, "is no adapter's weight: is the adapter a whole model?",
                       {.tensor = tensor.name});
  }
  if (!IsFloat(tensor.dtype)) {
    return Error(Reason::kCheckpointUnsupported,
                 fmt::format("is stored as {}; adapters are F32, BF16 or F16", InfoOf(tensor.dtype).safetensors_name),
                 {.tensor = tensor.name});
  }
  for (const CanonicalPart& part : tensor.parts) {
    const StoredTensor& stored = adapted_->checkpoint->tensors[static_cast<std::size_t>(part.stored)];
    if (StacksDecoderLayers(stored.name) && stored.shape.front() != layers) {
      return Error(Reason::kTensorShapeMismatch,
                   fmt::format("the adapter is of {} layers, the model has {}", stored.shape.front(), layers),
                   {.tensor = stored.name});
    }
  }
  const std::string_view stem = name.substr(0, name.size() - (is_in ? kIn : kOut).size());
  AdapterFactors& factors = factors_[Joined(stem, kWeight)];
  (is_in ? factors.a : factors.b) = &tensor;
  return absl::OkStatus();
}

const AdapterFactors* Adapter::Find(const std::string& base) const {
  const auto found = factors_.find(base);
  return found == factors_.end() ? nullptr : &found->second;
}

absl::Status Adapter::CheckBases(const std::map<std::string, CanonicalTensor>& model) const {
  for (const auto& [base, factors] : factors_) {
    if (!model.contains(base)) {
      return Error(Reason::kTensorUnknown, fmt::format("the adapter changes {}, which the model has not", base),
                   {.tensor = factors.a->name});
    }
  }
  return absl::OkStatus();
}

absl::Status Adapter::CheckShapes(const AdapterFactors& factors, const CanonicalTensor& base) const {
  const std::int64_t rank = settings().rank;
  const auto check = [&](const CanonicalTensor& factor, const Shape& expected) {
    return factor.shape == expected
               ? absl::OkStatus()
               : Error(Reason::kTensorShapeMismatch,
                       fmt::format("is [{}], but an adapter of rank {} for {} of shape [{}] has [{}]",
                                   fmt::join(factor.shape, ", "), rank, base.name, fmt::join(base.shape, ", "),
                                   fmt::join(expected, ", ")),
                       {.tensor = factor.name});
  };
  if (base.shape.size() != 2) {
    return Error(Reason::kOptionUnsupported,
                 fmt::format("has shape [{}]: an adapter is added to matrices only", fmt::join(base.shape, ", ")),
                 {.tensor = base.name});
  }
  SLIPWAY_RETURN_IF_ERROR(check(*factors.a, {rank, base.shape[1]}));
  return check(*factors.b, {base.shape[0], rank});
}

absl::StatusOr<SourceRegion> Adapter::RegionOfA(const AdapterFactors& factors, const Checkpoint& checkpoint) const {
  SLIPWAY_ASSIGN_OR_RETURN(std::vector<SourceRegion> regions,
                           RegionsOf(*factors.a, {{0, settings().rank}}, checkpoint));
  return regions.size() == 1
             ? absl::StatusOr<SourceRegion>(std::move(regions.front()))
             : Error(Reason::kCheckpointUnsupported, "is stored in several tensors", {.tensor = factors.a->name});
}

absl::Status CheckAdaptable(const TensorRule& rule, std::string_view base) {
  const auto refuse = [base](std::string_view why) {
    return Error(Reason::kOptionUnsupported, fmt::format("has an adapter, but {}", why), {.tensor = std::string(base)});
  };
  if (IsStacked(rule)) {
    return refuse("the export stacks experts in one tensor, to which adapters cannot be added yet");
  }
  if (rule.axes != Axes::kAsStored) {
    return refuse("the export has its axes in another order, in which adapters cannot be added yet");
  }
  switch (rule.transform) {
    case Transform::kCopy:
    case Transform::kSplit:
    case Transform::kQkv:
    case Transform::kQkvGated:
    case Transform::kQkvJoined:
    case Transform::kDeltaNet:
      return absl::OkStatus();
    default:
      return refuse("adapters are only of linears in layers");
  }
}

}  // namespace slipway::engine
