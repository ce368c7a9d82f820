// tests/data/sharded_state: what vLLM 0.32 itself saved, and of which rows and columns it is made, found by bytes
// (tests/derived/sharded_state_parts.py).
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "worker/engine/target/rank_layout.h"

namespace slipway::engine::test {

struct ShardedStateGolden {
  HuggingFaceModel model;
  nlohmann::json files;
};

inline ShardedStateGolden ReadGolden(const std::string& name) {
  std::ifstream file(fmt::format("{}/sharded_state/{}.json", SLIPWAY_TEST_DATA, name));
  const auto golden = nlohmann::ordered_json::parse(file);
  HuggingFaceModel model{golden["config"]["architectures"][0], golden["config"], {}};
  for (const auto& [tensor, entry] : golden["source"].items()) {
    const auto shape = entry[1].get<std::vector<std::int64_t>>();
    model.tensors[tensor] = {Shape(shape.begin(), shape.end()), *DTypeFromSafetensorsName(entry[0].get<std::string>())};
  }
  return {model, golden["files"]};
}

inline HuggingFaceModel Llama() { return ReadGolden("llama_tp1").model; }

inline RankRequest Ranks(std::int64_t tensor, std::int64_t pipeline = 1) {
  RankRequest request;
  request.tensor_parallel = tensor;
  request.pipeline_parallel = pipeline;
  return request;
}

}  // namespace slipway::engine::test
