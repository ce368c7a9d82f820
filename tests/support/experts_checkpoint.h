// Writes torch_dist checkpoints of DeepSeek-V3's shape as expert-parallel training saves them: the metadata of very
// large ones, whose files are all hole and can be planned for but not exported, or whole ones with zeros as weights.
#pragma once

#include <cstdint>
#include <filesystem>

namespace slipway::test {

// The default is a model of one trillion parameters: Kimi-K2's shape.
struct ExpertsCheckpoint {
  std::int64_t layers = 61;
  std::int64_t dense_layers = 1;  // the first ones
  std::int64_t hidden = 7168;
  std::int64_t dense_ffn = 18432;
  std::int64_t experts = 384;
  std::int64_t active_experts = 8;
  std::int64_t expert_ffn = 2048;
  std::int64_t shared_experts = 1;
  std::int64_t heads = 64;
  std::int64_t query_rank = 1536;
  std::int64_t key_value_rank = 512;
  std::int64_t nope = 128;
  std::int64_t rope = 64;
  std::int64_t value = 128;
  std::int64_t vocabulary = 163840;
  std::int64_t tensor_ranks = 2;  // of experts too
  std::int64_t expert_ranks = 64;
  bool optimizer = false;  // with Adam's state: three FP32 tensors a weight
  bool whole = false;      // with the archives around the weights
};

// The same layers, experts and ranks, with tensors of a few hundred bytes, and whole.
ExpertsCheckpoint TinyExpertsOf(ExpertsCheckpoint checkpoint);

// Writes the tracker file and the iteration's directory below `root`, which is created. Throws std::runtime_error for
// ranks that do not divide and for a file that cannot be written.
void WriteExpertsCheckpoint(const std::filesystem::path& root, const ExpertsCheckpoint& checkpoint);

}  // namespace slipway::test
