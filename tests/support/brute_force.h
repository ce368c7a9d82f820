// Reads whole tensors element by element, and turns Megatron's into Hugging Face's in the plainest way: what the
// planner and the executor do by maps and runs, done by loops, so that one checks the other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/checkpoint/checkpoint.h"

namespace slipway::test {

struct DenseTensor {
  std::string dtype;  // as safetensors names it: "BF16"
  std::vector<std::int64_t> shape;
  std::string bytes;  // C order
  bool operator==(const DenseTensor&) const = default;
};

// The tensors of a safetensors file. Throws where it is none.
std::map<std::string, DenseTensor> ReadSafetensors(const std::string& path);

// A stored tensor out of its pieces. An error where a piece cannot be read or an element is covered not exactly once.
absl::StatusOr<DenseTensor> ReadStored(const engine::Checkpoint& checkpoint, const engine::StoredTensor& tensor);

// A canonical tensor out of its parts.
absl::StatusOr<DenseTensor> ReadCanonical(const engine::Checkpoint& checkpoint, const engine::CanonicalTensor& tensor);

// A row-major array of shape `view` with its axes in another order: axis i of the result is axis order[i] of the array.
std::string Permuted(const std::string& bytes, std::size_t element_bytes, const engine::Shape& view,
                     const std::vector<std::uint8_t>& order);

struct LlamaHeads {
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t dimension = 0;
};

// Of the config.json in `directory`.
LlamaHeads ReadHeads(const std::string& directory);

// Canonical tensors of a llama-like model under Hugging Face's names; a name that the rules do not know throws.
// The vocabulary keeps its padding.
std::map<std::string, DenseTensor> ToHuggingFace(const std::map<std::string, DenseTensor>& canonical,
                                                 const LlamaHeads& heads);

// The first `rows` rows.
DenseTensor FirstRows(const DenseTensor& tensor, std::int64_t rows);

// What is different between the checkpoint, brought to Hugging Face's names by brute force, and model.safetensors in
// `golden_directory`; empty where every tensor of both is the same, bit for bit.
std::string CompareWithGolden(const engine::Checkpoint& checkpoint, const std::string& golden_directory);

}  // namespace slipway::test
