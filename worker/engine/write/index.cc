#include "worker/engine/write/index.h"

#include <cstddef>
#include <cstdint>

#include <nlohmann/json.hpp>

namespace slipway::engine {

std::string IndexToJson(const ExportPlan& plan) {
  std::int64_t total = 0;
  nlohmann::json files = nlohmann::json::object();  // sorts its keys
  for (const OutputTensor& tensor : plan.tensors) {
    total += tensor.bytes;
    files[tensor.name] = plan.shards[static_cast<std::size_t>(tensor.shard)].file;
  }
  const nlohmann::json index{{"metadata", {{"total_size", total}}}, {"weight_map", std::move(files)}};
  return index.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace slipway::engine
