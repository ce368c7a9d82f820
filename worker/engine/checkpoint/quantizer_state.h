// How ModelOpt's quantizers are set: per module beside the weights, and as rules for the whole model in the directory
// modelopt_state. Both are pickles, read as data; classes that they name are never looked up.
//
//   "<module>._extra_state/shard_0_1"   torch.save of a list of one uint8 tensor, whose bytes are a torch.save archive
//                                       (older ModelOpt: a bare pickle) of {"modelopt_quantizer_state":
//                                       {"weight_quantizer":
//                                       {"_num_bits": (4, 3), "_axis": None, "_block_sizes": ..., "_disabled": ...}}}
//   modelopt_state/                     a distributed checkpoint whose common state is {"modelopt_state_dict":
//                                       [("quantize", {"config": {"quant_cfg": [{"quantizer_name": pattern, "cfg": ...,
//                                       "enable": ...}]}}), ...]}; older ones have {pattern: attributes}
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/checkpoint/checkpoint.h"

namespace slipway::engine {

// Of one quantizer. Numbers as ModelOpt has them.
struct QuantizerSettings {
  bool enabled = true;
  bool dynamic = false;            // ranges of the values at hand: none is stored
  std::int64_t integer_bits = 0;   // of integers; 0: floating point
  std::int64_t exponent_bits = 0;  // of floating point: (4, 3), (2, 1)
  std::int64_t mantissa_bits = 0;
  bool by_row = false;              // one range a row (axis 0)
  std::int64_t block_columns = 0;   // values of a row that share a scale; 0: no blocks
  std::int64_t block_rows = 0;      // of blocks with two extents
  std::int64_t scale_exponent = 0;  // what scales of blocks are stored in: (4, 3), (8, 0); 0: plainly
  std::int64_t scale_mantissa = 0;
};

// "FP(4, 3) by row", "INT4 in blocks of 128": for messages.
std::string DescribeSettings(const QuantizerSettings& settings);

// Of a module, by the quantizer's name: "weight_quantizer", "weight_quantizer.0", "input_quantizer", "k_bmm_quantizer".
using ModuleQuantizers = std::map<std::string, QuantizerSettings, std::less<>>;

// Errors as of TorchArchive, ParsePickle (a forbidden global among them) and CHECKPOINT_CORRUPT, LIMIT_EXCEEDED past
// 64 MiB; each with file and offset. Empty where it is no state of ModelOpt's: Transformer Engine's, or none.
absl::StatusOr<ModuleQuantizers> ReadModuleState(const Checkpoint& checkpoint, const ModuleState& state);

// One rule of the model's: sets the quantizers whose names match.
struct QuantizerRule {
  std::string pattern;  // of names as "decoder.layers.0.mlp.linear_fc1.weight_quantizer", with *, ? and [set]
  bool enabled = true;
  std::vector<QuantizerSettings> settings;  // one, or one after the other; empty: they stay as they are
};

struct ModelOptState {
  std::string version;             // of ModelOpt
  std::vector<std::string> modes;  // "quantize", "awq_lite_calibrate", "real_quantize"
  std::vector<QuantizerRule> rules;
};

// Reads modelopt_state; without a version or rules where the checkpoint has no such directory. Errors as
// ReadCheckpoint.
absl::StatusOr<ModelOptState> ReadModelOptState(const Checkpoint& checkpoint);

// What the rules make of a module: the last that matches a quantizer and says how wins. Names as above.
ModuleQuantizers QuantizersByRules(const ModelOptState& state, std::string_view module);

}  // namespace slipway::engine
