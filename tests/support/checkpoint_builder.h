// Writes torch_dist checkpoints of llama's shape for tests: true ones of any size (weights as holes in sparse files),
// and damaged ones.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "tests/support/checkpoint_damage.h"

namespace slipway::test {

enum class Fill {
  kRandom,  // finite bfloat16 values that depend on the tensor's name and piece alone
  kHoles,   // zeros that take no space on disk
};

struct LlamaCheckpoint {
  std::int64_t layers = 2;
  std::int64_t hidden = 64;
  std::int64_t ffn = 128;
  std::int64_t heads = 4;
  std::int64_t kv_heads = 2;
  std::int64_t vocabulary = 256;
  std::int64_t tensor_ranks = 2;  // divides all of the above but the layers
  std::int64_t iteration = 100;
  bool tied = false;
  std::string_view prefix = {};     // of every tensor's name: "module.", "model.module."
  bool plain = false;               // no metadata.json, no common.pt: "args", "iteration"... are entries of the index
  std::int64_t pipeline_ranks = 1;  // said in the arguments, no more
  Fill fill = Fill::kRandom;
  Damage damage = Damage::kNone;
};

// Writes the tracker file and the iteration's directory below `root`, which is created. Throws std::runtime_error for a
// shape that does not divide and for a file that cannot be written.
void WriteLlamaCheckpoint(const std::filesystem::path& root, const LlamaCheckpoint& checkpoint);

}  // namespace slipway::test
