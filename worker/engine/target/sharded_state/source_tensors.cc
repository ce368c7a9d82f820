#include "worker/engine/target/sharded_state/source_tensors.h"

#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/error.h"

namespace slipway::engine::sharded_state {

absl::StatusOr<DType> SourceTensors::Take(const std::string& name, const Shape& shape) {
  const auto found = model_.tensors.find(name);
  if (found == model_.tensors.end()) {
    return Error(Reason::kTensorMissing,
                 fmt::format("{}: {} has it by its config.json", engine_.target, model_.architecture),
                 {.tensor = name});
  }
  const HuggingFaceTensor& tensor = found->second;
  if (tensor.shape != shape) {
    return Error(Reason::kTensorShapeMismatch,
                 fmt::format("{}: the shape is [{}], by config.json it is [{}]", engine_.target,
                             fmt::join(tensor.shape, ", "), fmt::join(shape, ", ")),
                 {.tensor = name});
  }
  if (!IsFloat(tensor.dtype)) {
    return Error(Reason::kOptionUnsupported,
                 fmt::format("{}: {} is quantized, and {} stores such weights otherwise than it loads them: use "
                             "--target huggingface",
                             engine_.target, InfoOf(tensor.dtype).safetensors_name, engine_.name),
                 {.tensor = name});
  }
  taken_.insert(&tensor);
  return tensor.dtype;
}

absl::Status SourceTensors::CheckRest(std::vector<LeftOut>& left_out) const {
  for (const auto& [name, tensor] : model_.tensors) {
    if (taken_.contains(&tensor)) {
      continue;
    }
    if (!name.ends_with(".rotary_emb.inv_freq")) {
      return Error(Reason::kTensorUnknown,
                   fmt::format("{}: {} {} has no place for it in {}: use --target huggingface", engine_.target,
                               engine_.name, engine_.version, model_.architecture),
                   {.tensor = name});
    }
    left_out.push_back({name, fmt::format("{} computes it", engine_.name)});
  }
  return absl::OkStatus();
}

}  // namespace slipway::engine::sharded_state
