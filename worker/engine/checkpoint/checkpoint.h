// What is in a checkpoint, whatever its format: tensors of a global shape, each made of pieces that lie in files. Made
// from metadata alone; no weight has been read. Immutable after reading; safe to share between threads.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "absl/status/statusor.h"
#include "common/file_system.h"
#include "worker/engine/dtype.h"
#include "worker/engine/shape.h"
#include "worker/engine/storage/source.h"

namespace slipway::engine {

enum class CheckpointFormat { kTorchDist, kTorchLegacy, kFsdpDtensor, kTorchDcp, kZarr, kHuggingFace };

// "torch_dist", "torch", "fsdp_dtensor", "torch_dcp", "zarr": as Megatron's --ckpt-format has
// them; "huggingface".
std::string_view NameOf(CheckpointFormat format);

// One rectangular block of a tensor and where its bytes are.
struct Piece {
  Shape offsets;  // in the tensor's global shape
  Shape sizes;
  // Element strides of the block inside its storage; empty: contiguous, C order. Same rank as sizes.
  Shape strides;
  std::int32_t file = 0;      // index into Checkpoint::files
  std::int64_t position = 0;  // byte offset in the file
  std::int64_t length = 0;    // bytes there
  // True: [position, position+length) is a whole torch archive that holds this one tensor; where the elements begin is
  // found when it is read (archive.h: LocateElements). False: position is the block's first element, and `length` spans
  // all of its elements.
  bool in_archive = false;
};

struct StoredTensor {
  std::string name;  // as the checkpoint spells it, without wrapping prefixes ("module.", "model.")
  DType dtype = DType::kBF16;
  Shape shape;
  // Sorted by offsets; they cover the shape exactly, without overlap (checked by the reader).
  std::vector<Piece> pieces;
};

// Entries that are not weights and cost no I/O, by reason.
struct IgnoredEntries {
  std::string reason;  // "optimizer state", "extra state of Transformer Engine", ...
  std::int64_t count = 0;
  std::int64_t bytes = 0;             // -1 where unknown
  std::vector<std::string> examples;  // at most 3 names
};

struct ParallelLayout {  // 0: unknown
  std::int64_t tensor = 0, pipeline = 0, virtual_pipeline = 0, expert = 0, expert_tensor = 0, context = 0, data = 0;
};

// What ModelOpt keeps of a module's quantizers beside tensors (quantizer_state.h): a torch.save archive at [position,
// position + length) of a file. Not looked at yet.
struct ModuleState {
  std::string name;  // as the checkpoint spells it: "decoder.layers.0.mlp.linear_fc1._extra_state/shard_0_1"
  std::int32_t file = 0;
  std::int64_t position = 0;
  std::int64_t length = 0;
};

struct CheckpointFile {
  std::string name;  // relative to the iteration's directory
  FileIdentity identity;
  std::shared_ptr<const SourceFile> file;
  std::shared_ptr<const SourceDirectory> directory = nullptr;  // where it is, if not in the checkpoint's (an adapter's)
};

// Deeper ones are refused, so that recursion over a config.json is safe.
inline constexpr int kMaximumConfigDepth = 64;

struct Checkpoint {
  CheckpointFormat format = CheckpointFormat::kTorchDist;
  std::string path;  // the iteration's directory
  std::int64_t iteration = 0;
  bool release = false;
  std::string writer;                        // "Megatron-Core 0.15 or later", as far as it can be told
  std::optional<double> checkpoint_version;  // Megatron's own, 0 to 3
  ParallelLayout layout;
  // The training arguments (argparse.Namespace of Megatron-LM) as a JSON object: numbers, strings, booleans, null,
  // arrays; enums as {"enum": "module.Class", "value": v}; anything else as {"opaque": "module.Class"}. Empty object
  // where there are none.
  std::shared_ptr<const nlohmann::json> arguments;
  // A Hugging Face directory's config.json, as it is there: a JSON object, nested no deeper than kMaximumConfigDepth.
  // Empty in other formats.
  std::string hf_config;
  std::vector<CheckpointFile> files;
  // Sorted by name; behind them an adapter's, see adapter.h. Those of ModelOpt's quantizers are among them.
  std::vector<StoredTensor> tensors;
  std::vector<ModuleState> module_states;  // sorted by name; of checkpoints with ModelOpt's quantizers only
  std::vector<IgnoredEntries> ignored;
  std::shared_ptr<const SourceDirectory> directory;  // the iteration's directory (sidecar files)
  std::shared_ptr<const SourceDirectory> root;       // where the tracker file is; the same as `directory` without one
};

struct ReadOptions {
  std::optional<std::int64_t> iteration;  // instead of the latest
};

// Reads the metadata of the checkpoint at `path` (a directory with a tracker file, an iteration's own directory, or
// a Hugging Face directory).
// Errors: CHECKPOINT_NOT_FOUND, _UNSUPPORTED, _CORRUPT, _UNREADABLE, PICKLE_FORBIDDEN_GLOBAL, LIMIT_EXCEEDED,
// PATH_OUTSIDE_ROOT; each with file and offset where there is one.
absl::StatusOr<std::shared_ptr<const Checkpoint>> ReadCheckpoint(const std::string& path, const ReadOptions& options);

// CHECKPOINT_CHANGED, naming the file, if any file is no longer what it was when the checkpoint was read.
absl::Status CheckUnchanged(const Checkpoint& checkpoint);

}  // namespace slipway::engine
