// A LoRA adapter beside the checkpoint of its base: two checkpoints as one.
//
// Megatron-Bridge saves an adapter as a checkpoint of its own that has only adapter weights: for each adapted linear
// <base>.weight, <base>.adapter.linear_in.weight [rank, in] and <base>.adapter.linear_out.weight [out, rank]; section
// "peft" of its run_config.yaml says of which kind they are.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/checkpoint/checkpoint.h"

namespace slipway::engine {

// Of the names of an adapter's tensors among those of its base.
inline constexpr std::string_view kAdapterPrefix = "adapter:";

struct AdapterSettings {
  std::int64_t rank = 0;
  double alpha = 0;
  double dropout = 0;
  std::string base_model;  // a name at the Hugging Face hub or a path, as the training run knew it; may be empty
  // As the training run computes it: a quotient of doubles by which FP32 numbers are multiplied.
  [[nodiscard]] float Scale() const { return static_cast<float>(alpha / static_cast<double>(rank)); }
};

struct AdaptedCheckpoint {
  // The base, with the adapter's files behind its own and the adapter's tensors, their names prefixed "adapter:",
  // behind its own. Without the base's tensors, which are ignored entries then, where the adapter goes alone.
  std::shared_ptr<const Checkpoint> checkpoint;
  std::map<std::string, CanonicalTensor> tensors;  // the adapter's, by canonical name without the prefix
  AdapterSettings settings;
};

// Reads the adapter at `path`, its latest iteration. Errors as ReadCheckpoint and Canonicalize, CHECKPOINT_UNSUPPORTED
// for what is no adapter or one of another kind than LoRA, CHECKPOINT_CORRUPT for settings that make no sense,
// LIMIT_EXCEEDED.
absl::StatusOr<AdaptedCheckpoint> JoinAdapter(const Checkpoint& base, const std::string& path, bool alone);

// Two checkpoints that were read.
absl::StatusOr<AdaptedCheckpoint> JoinCheckpoints(const Checkpoint& base, const Checkpoint& adapter,
                                                  AdapterSettings settings, bool alone);

// The settings in the document of a run_config.yaml, which `file` names in errors.
absl::StatusOr<AdapterSettings> ReadAdapterSettings(const nlohmann::json& document, const std::string& file);

}  // namespace slipway::engine
