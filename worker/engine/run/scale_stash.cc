#include "worker/engine/run/scale_stash.h"

#include <set>

namespace slipway::engine {

std::vector<bool> StashedScales(const ExportPlan& plan, const Shard& shard) {
  std::vector<bool> stashed(static_cast<std::size_t>(shard.tensor_count));
  std::set<std::int32_t> coded;
  for (std::size_t i = 0; i < stashed.size(); ++i) {
    const OutputTensor& tensor = plan.tensors[static_cast<std::size_t>(shard.first_tensor) + i];
    if (!tensor.quantized || tensor.quantized->weight < 0) {
      continue;
    }
    if (tensor.quantized->role == StoredRole::kCodes) {
      coded.insert(tensor.quantized->weight);
    }
    const StoredRole role = tensor.quantized->role;
    stashed[i] = (role == StoredRole::kScales || role == StoredRole::kZeroPoints) && tensor.bytes <= kMaximumStash &&
                 coded.contains(tensor.quantized->weight);
  }
  return stashed;
}

ScaleStash::ScaleStash(const ExportPlan& plan, const Shard& shard) {
  const std::vector<bool> stashed = StashedScales(plan, shard);
  for (std::size_t i = 0; i < stashed.size(); ++i) {
    if (stashed[i]) {
      const OutputTensor& tensor = plan.tensors[static_cast<std::size_t>(shard.first_tensor) + i];
      sizes_.emplace(Key(tensor.quantized->weight, tensor.quantized->role), tensor.bytes);
    }
  }
}

ScaleStash::Bytes ScaleStash::Of(const Key& key) {
  const auto size = sizes_.find(key);
  if (size == sizes_.end()) {
    return nullptr;
  }
  const std::scoped_lock lock(mutex_);
  Bytes& bytes = kept_[key];
  if (bytes == nullptr) {
    bytes = Bytes(new std::byte[static_cast<std::size_t>(size->second)]);
  }
  return bytes;
}

void ScaleStash::Drop(const Key& key) {
  const std::scoped_lock lock(mutex_);
  kept_.erase(key);
}

}  // namespace slipway::engine
