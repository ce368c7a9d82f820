// The plan: everything that an export will write, decided from metadata alone. Immutable, printable, hashable;
// executors obey it and decide nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/digest.h"
#include "worker/engine/checkpoint/checkpoint.h"
#include "worker/engine/dtype.h"
#include "worker/engine/plan/source_region.h"
#include "worker/engine/quantize/coding.h"
#include "worker/engine/quantize/format.h"
#include "worker/engine/quantize/ranges.h"
#include "worker/engine/shape.h"

namespace slipway::engine {

// What the user asked for, resolved and checked. Mirrors slipway.v1.ExportSpec without depending on it.
struct ExportOptions {
  std::string checkpoint;
  std::vector<std::string> targets = {"huggingface"};
  std::string quantization = "none";  // a format's name; empty: what the checkpoint was calibrated for
  std::string hf_config;
  std::string architecture;
  std::optional<std::int64_t> iteration;
  std::optional<DType> dtype;  // of unquantized tensors; absent: the training run's params_dtype
  DigestAlgorithm digest = DigestAlgorithm::kSha256;
  std::int64_t maximum_shard_bytes = 0;  // 0: ShardLimit's choice (shard_layout.h)
  bool allow_custom_code = false;
  std::string adapter;        // a LoRA adapter's checkpoint, or empty
  bool adapter_only = false;  // exported alone instead of merged
  // The words below are of common/vocabulary.h; empty: what the recipe says, else the first of the list.
  std::string recipe;        // a recipe's text instead of `quantization`, or empty
  std::string kv_cache;      // KvCaches()
  std::string config_form;   // ConfigForms()
  std::string scale_search;  // ScaleSearches()
  std::string ranges;        // a safetensors file of activation ranges, or empty
  // Of the targets with ranks.
  std::int64_t tensor_parallel = 1;
  std::int64_t pipeline_parallel = 1;
  std::int64_t expert_parallel = 1;
  std::string tensorrt_llm_version;  // empty: the target's default
};

// Element-wise work on the way, applied in FP32 in this order: add one (norms stored minus 1), then round to the
// output's dtype.
struct ElementTransform {
  bool add_one = false;
  DType from = DType::kBF16;  // of the source
  DType to = DType::kBF16;    // of the output
  [[nodiscard]] bool IsCopy() const { return !add_one && from == to; }
};

// One scale for each block of rows x columns of a matrix (smaller at its edges) whose elements are stored as codes: a
// value is its code times (its block's scale times `factor`), in FP32. Codes are E4M3, or two E2M1 to a stored byte
// (ElementTransform::from is U8), the even column in the low half.
struct BlockScales {
  // One after the other the rows of [ceil(R / rows), ceil(C / columns)] scales, for a matrix [R, C].
  std::vector<SourceRegion> regions;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  float factor = 1;
};

// W + scale (B A), in FP32 before it is rounded to the output's dtype (transform/low_rank_update.h says in which
// order): a LoRA adapter's update of a matrix W, or, where W is zeros, a product of two of the model's matrices.
struct LowRankUpdate {
  std::vector<SourceRegion> a;  // [rank, columns], all of it; of blocks, each one's below the one's before
  std::vector<SourceRegion> b;  // [rows, rank]: one after the other, the output's rows in its order
  DType a_dtype = DType::kBF16;
  DType b_dtype = DType::kBF16;
  std::int64_t rank = 0;
  float scale = 0;
  // Present: the output's rows are blocks of so many, each with an A of its own and a B that is stored transposed,
  // [rank, updated_rows], both rounded to the output's dtype before they are multiplied; behind the first
  // `updated_rows` of its rows the others stay as they are.
  std::optional<std::int64_t> block_rows = std::nullopt;
  std::int64_t updated_rows = 0;  // of blocks
};

// The elements, as a row-major array of shape `view`, with their axes in another order: axis i of the result is axis
// order[i] of the view.
struct AxisPermutation {
  Shape view;
  std::vector<std::uint8_t> order;
  [[nodiscard]] bool IsNone() const { return order.empty(); }
};

// What an output holds of a quantized weight, or a number that is known when the plan is made.
struct QuantizedPart {
  std::int32_t weight = -1;  // index into ExportPlan::quantized, or -1: `constant`, an F32
  StoredRole role = StoredRole::kCodes;
  float constant = 0;
  std::uint32_t word = 0;  // of kConstantZeroPoints
};

// The regions' elements one after the other, permuted unless there is nothing to permute, are the output tensor in
// row-major order. `shape` may join axes of the permuted view, or split them.
struct OutputTensor {
  std::string name;
  DType dtype = DType::kBF16;
  Shape shape;
  std::vector<SourceRegion> regions;
  AxisPermutation permutation;
  ElementTransform transform;
  std::optional<BlockScales> scales;    // present: the elements are codes, and the output is a matrix of values
  std::optional<LowRankUpdate> update;  // present: the output is a matrix to which an adapter is added
  // Or null. After all of that, each column of the matrix, or element of the vector, is multiplied by its own, in FP32,
  // and rounded to the output's dtype once more.
  std::shared_ptr<const std::vector<float>> column_factors;
  // The regions may be those of the output's neighbours too: an adapter's A, which all targets of one weight have.
  bool shares_source = false;
  std::optional<QuantizedPart> quantized;  // present: it has no regions, but what is made of that weight's values
  std::int32_t shard = 0;
  std::int64_t file_offset = 0;  // of the first byte, in the shard's file
  std::int64_t bytes = 0;
};

// How many elements of the output one element of its regions holds.
[[nodiscard]] inline std::int64_t ElementsPerStored(const OutputTensor& tensor) {
  return tensor.scales && tensor.transform.from == DType::kU8 ? 2 : 1;
}

// A matrix [N, K] that is written as codes and scales.
struct QuantizedWeight {
  std::string module;  // "model.layers.0.mlp.down_proj"
  // What an export without quantization would write for it: these values are quantized. Permuted so that groups of
  // columns follow each other, [K / group, N, group], where the codes are packed along columns.
  OutputTensor values;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  // So many matrices of equally many rows one below the other, each with a TensorScale of its own: those of scale_group
  // and the groups after it. Whole bands are in one of them.
  std::int64_t stack = 1;
  // Or the rows of each such matrix, where they differ (modules that are joined): then stack is 1. Empty: the stack's.
  std::vector<std::int64_t> scale_rows;
  // Of codes only these columns are written, a rank's share of a matrix whose scales are those of whole rows; 0: all.
  std::int64_t first_kept_column = 0;
  std::int64_t kept_columns = 0;
  const Format* format = nullptr;  // of static storage, as all tables
  const Layout* layout = nullptr;
  Coding coding;
  std::int32_t scale_group = -1;    // index into ExportPlan::scale_groups, where there is a TensorScale
  std::optional<float> input_amax;  // of layouts with static activations
  // One for each element of a tensor that holds scales of inputs, where modules that are joined have their own; empty:
  // all have input_amax.
  std::vector<float> input_amaxes;
  std::shared_ptr<const std::vector<float>> pre_quant_scale;  // of kPreQuantScale, or null
  std::optional<StoredAmaxes> amaxes;                         // given ones, one a scale
};

// Weights with one TensorScale: one matrix, or fused siblings.
struct ScaleGroup {
  std::vector<std::int32_t> weights;  // indices into ExportPlan::quantized
  std::optional<float> amax;          // given, or else that of the values
  // The matrices whose values those are, each element once, where the weights are cut from them; empty: the weights.
  std::vector<OutputTensor> measured = {};
};

// Elements of the checkpoint that the output does not have, on purpose.
struct UnusedRegion {
  SourceRegion region;
  std::string reason;  // "vocabulary padding"
};

// One output file: header bytes and then tensors in file order, without holes.
struct Shard {
  std::string file;               // "model-00001-of-00004.safetensors", "model.safetensors"
  std::string header;             // length prefix and JSON, padded: the file's first bytes
  std::int64_t bytes = 0;         // of the whole file
  std::int32_t first_tensor = 0;  // tensors [first_tensor, first_tensor + tensor_count) in ExportPlan::tensors
  std::int32_t tensor_count = 0;
  bool is_rank = false;        // of a target with ranks: its names are its own, other shards may have the same
  std::int32_t directory = 0;  // index into ExportPlan::directories, where there are any
};

// A small file that is written from its content.
struct TextFile {
  std::string path;  // relative to the output
  std::string content;
  std::int32_t directory = 0;  // as Shard's
};

// A file that is copied as it is (tokenizer, chat template).
struct SidecarFile {
  std::string path;    // relative to the output
  std::string source;  // absolute
  FileIdentity identity;
  std::int32_t directory = 0;  // as Shard's
};

struct ExportPlan;

// One of the directories that an export of several targets writes below its output, each an artifact of its own. The
// paths of its files begin with `path` and a slash (plan/join_plans.h).
struct TargetDirectory {
  std::string path;  // relative to the output: the target's name
  // The plan of an export of this target alone, without its lists from `tensors` to `sidecars`: those are the joined
  // plan's.
  std::shared_ptr<const ExportPlan> alone;
  std::vector<std::int32_t> shards;  // which of the joined plan's are its own, in the order of its own plan
  std::int32_t first_weight = 0;     // [first, first + count) of the joined plan's `quantized` are its weights,
  std::int32_t weight_count = 0;
  std::int32_t first_group = 0;  // and of `scale_groups` their groups
  std::int32_t group_count = 0;
};

struct ExportPlan {
  ExportOptions options;
  std::vector<TargetDirectory> directories;  // of several targets; empty: there is one, and the output is its directory
  std::shared_ptr<const Checkpoint> checkpoint;
  std::string architecture;           // "LlamaForCausalLM"
  std::string model_type;             // "llama"
  std::vector<OutputTensor> tensors;  // sorted by shard, then file offset
  std::vector<Shard> shards;
  std::vector<QuantizedWeight> quantized;
  std::vector<ScaleGroup> scale_groups;
  std::vector<UnusedRegion> unused;
  std::vector<TextFile> texts;  // config.json, generation_config.json; not the index and the manifest
  std::vector<SidecarFile> sidecars;
  std::vector<std::string> warnings;
  std::int64_t parameters = 0;
  std::int64_t input_bytes = 0;        // to be read, once for all targets
  std::int64_t output_bytes = 0;       // of all shards
  std::int64_t peak_memory_bytes = 0;  // smallest budget that the executor works in, see run/shard_writer.h
  std::string output_hash;  // SHA-256 of names, dtypes, shapes, files, offsets and texts: the same for every layout of
                            // the same model
  std::string hash;  // SHA-256 of output_hash, the source's identity, every region and what is done to it: the identity
                     // of the output
};

// Reads the checkpoint's metadata, learns the model, builds the plan and checks it both ways: every weight of the
// checkpoint is used once or ignored with a reason, every tensor that the target needs is produced once. Errors as
// ReadCheckpoint and LearnModel, and TENSOR_MISSING, TENSOR_UNKNOWN, TENSOR_DUPLICATED, TENSOR_SHAPE_MISMATCH,
// OPTION_UNSUPPORTED; each names the tensor. With an adapter also as JoinAdapter and Adapter::Make.
absl::StatusOr<std::shared_ptr<const ExportPlan>> MakePlan(const ExportOptions& options);

// The plan for people and programs: {"hash", "output_hash", "architecture", "model_type", "parameters", "input_bytes",
// "output_bytes", "peak_memory_bytes", "warnings", "ignored": [...], "files": [{"file", "bytes", "tensor_count",
// "tensors" (if asked for): [{"name", "dtype", "shape", "offset", "bytes", "transform", "permutation": {"view",
// "order"} (where there is one), "sources": [{"tensor", "offsets", "sizes"} or {"zeros"}], "scales" (of block scales,
// regions), "update":
// {"rank", "scale", "a", "b"} (of an adapter; of products also "block_rows", "updated_rows"), "quantization":
// {"format", "holds", "of"} (of what stands for a weight: transform and sources are then the weight's)}]}], "texts",
// "sidecars", "directories" (of several targets):
// [{"target", "path", "hash", "output_hash"}]}.
std::string PlanToJson(const ExportPlan& plan, bool with_tensors = true);

}  // namespace slipway::engine
