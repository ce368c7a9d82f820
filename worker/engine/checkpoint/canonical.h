// One set of names for all layouts: every weight of the model under its per-layer, global name, whether the checkpoint
// stacks layers ("decoder.layers.self_attention..." of shape [L, ...]) or not, stacks experts or not, splits gate and
// up ("..._w", "..._v") or not, and whatever it calls its norms and experts. Model tables speak these names only:
//
//   embedding.word_embeddings.weight            decoder.layers.<i>.self_attention.linear_qkv.weight
//   decoder.layers.<i>.input_layernorm.weight   decoder.layers.<i>.pre_mlp_layernorm.weight
//   decoder.layers.<i>.mlp.linear_fc1.weight    decoder.layers.<i>.mlp.experts.<e>.linear_fc1.weight
//   decoder.final_layernorm.weight              output_layer.weight
//   mtp.layers.<k>.transformer_layer.<as in a layer>, of hybrid models mtp.layers.<k>.mtp_model_layer.layers.<j>.<...>
//
// A model that sees has its text part under the same names, without the "language_model." before them, and its vision
// tower as vision_model.decoder.layers.<i>.<as in a layer> and other names below vision_model, or, where Hugging Face's
// module is trained, below visual.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/checkpoint.h"

namespace slipway::engine {

// A part of a canonical tensor: a stored tensor with its leading axes fixed (layer, expert).
struct CanonicalPart {
  std::int32_t stored = 0;  // index into Checkpoint::tensors
  Shape fixed;              // indices of the leading axes; empty: the whole stored tensor
};

struct CanonicalTensor {
  std::string name;
  DType dtype = DType::kBF16;
  Shape shape;                       // of values, without the fixed axes
  std::vector<CanonicalPart> parts;  // concatenated along axis 0 (one, except gate and up, split Mamba and GDN keys)
  // Each stored byte holds two values along the last axis: E2M1 codes, of NVFP4 that ModelOpt compressed.
  bool nibbles = false;
};

// Canonical names to tensors. Those of ModelOpt's quantizers are no weights and left aside. TENSOR_DUPLICATED where two
// stored names mean one weight.
absl::StatusOr<std::map<std::string, CanonicalTensor>> Canonicalize(const Checkpoint& checkpoint);

// What Canonicalize leaves aside, by the canonical names of the quantizers' modules:
// "decoder.layers.<i>.self_attention.linear_qkv.weight_quantizer._amax". What all experts share has no expert's number:
// "decoder.layers.<i>.mlp.experts.linear_fc1.input_quantizer._amax". Errors as Canonicalize.
absl::StatusOr<std::map<std::string, CanonicalTensor>> CanonicalizeQuantizers(const Checkpoint& checkpoint);

// The canonical name of the module whose state a stored entry "<module>._extra_state/shard_<indices>_<counts>" is.
// Indices are of the layer and the expert where the module's name stacks them. CHECKPOINT_CORRUPT where there are none.
absl::StatusOr<std::string> ModuleOfState(std::string_view stored);

}  // namespace slipway::engine
