// What the files of a target with ranks hold, said in terms of Hugging Face's tensors of the same model. A target is a
// pure function from the model, as Hugging Face describes it, to a RankLayout; plan/rank_plan.h makes outputs of that,
// which read their slices straight from the checkpoint.
//
// Every tensor is a matrix here: [a, b, ..., z] is [a * b * ..., z], a vector [n] is [n, 1], a scalar [1, 1]. One that
// Hugging Face keeps transposed (GPT-2's Conv1D: [in, out]) is what the training framework has: [out, in].
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "worker/engine/dtype.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/shape.h"

namespace slipway::engine {

// How many processes of each kind serve the artifact, and which version of the server; checked to be at least 1.
struct RankRequest {
  std::int64_t tensor_parallel = 1;
  std::int64_t pipeline_parallel = 1;
  std::int64_t expert_parallel = 1;
  std::string version;     // of the server, as the user gave it; empty: the target's default
  bool quantized = false;  // weights will be
};

struct HuggingFaceTensor {
  Shape shape;  // [out, in] of a transposed one
  DType dtype = DType::kBF16;
};

// The model as a target sees it.
struct HuggingFaceModel {
  std::string architecture;                          // "LlamaForCausalLM"
  nlohmann::ordered_json config;                     // of config.json
  std::map<std::string, HuggingFaceTensor> tensors;  // by name, what an export to `huggingface` would write
};

// Rows [first_row, first_row + rows) and columns [first_column, first_column + columns) of a tensor.
struct MatrixPart {
  std::string tensor;  // a Hugging Face name; empty: zeros
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  std::int64_t first_column = 0;
  std::int64_t columns = 0;
};

// The transpose of [rank, rows] times [rank, columns].
struct MatrixProduct {
  MatrixPart transposed;
  MatrixPart matrix;
};

// A tensor of a rank's file: its parts, which are equally wide, one below the other.
struct RankTensor {
  std::string name;
  Shape shape;
  std::vector<MatrixPart> parts;
  // Not empty: the rows are as many blocks of equally many, and to the first of each its product is added, in FP32
  // before it is rounded. The products are equally large.
  std::vector<MatrixProduct> products;
  std::optional<DType> dtype;     // absent: its parts'
  bool add_one = false;           // in FP32, before it is rounded to its dtype
  std::optional<float> constant;  // instead of parts: F32, all elements alike
};

// One rank's file. A name with "{part}" stands for as many files as --max-shard-size makes of it, counted from 0.
struct RankFile {
  std::string file;
  std::vector<RankTensor> tensors;  // in the order in which they are written
};

// A tensor of the model that the target has no place for, on purpose.
struct LeftOut {
  std::string tensor;
  std::string reason;  // "the embeddings are tied: lm_head.weight is the same tensor"
};

struct RankLayout {
  std::vector<RankFile> files;
  std::vector<TextFile> texts;  // instead of Hugging Face's of the same path; an empty content takes a file away
  std::vector<LeftOut> left_out;
  std::vector<std::string> warnings;
};

}  // namespace slipway::engine
