// One rank's file: its parts of every parameter of its stage.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/engine/target/rank_layout.h"
#include "worker/engine/target/sharded_state/dimensions.h"
#include "worker/engine/target/sharded_state/families.h"
#include "worker/engine/target/sharded_state/source_tensors.h"

namespace slipway::engine::sharded_state {

// A stage of the pipeline: consecutive layers, by their numbers in the whole model, and which of its ends it has.
struct Stage {
  std::int64_t first_layer = 0;
  std::int64_t layers = 0;
  bool embedding = true;
  bool output = true;
};

// Borrows what it is given. The first error stays, and nothing is added after it.
class RankBuilder {
 public:
  // `quantized`: with what the engine has beside quantized weights.
  RankBuilder(const Engine& engine, const Family& family, const Dimensions& sizes, std::int64_t ranks, bool quantized,
              SourceTensors& sources)
      : engine_(engine), family_(family), sizes_(sizes), ranks_(ranks), quantized_(quantized), sources_(sources) {}

  // Errors as SourceTensors::Take; CHECKPOINT_UNSUPPORTED where tensors that the engine joins differ in dtype.
  absl::StatusOr<RankFile> Build(const Stage& stage, std::int64_t rank, std::string file);

 private:
  // Indices [first, first + count) of an axis.
  struct Slice {
    std::int64_t first = 0;
    std::int64_t count = 0;
  };
  // A matrix [rows, columns] whose rows are divided, and this rank's.
  struct DividedRows {
    std::string_view module;
    std::int64_t rows = 0;
    Slice own;
  };

  [[nodiscard]] Slice Own(std::int64_t extent) const { return {rank_ * (extent / ranks_), extent / ranks_}; }
  // Of the rows of keys and of values: where there are fewer heads than ranks, several ranks have the same head.
  [[nodiscard]] Slice OwnKeyValueRows() const;

  void AddLayer(std::int64_t layer);
  void AddAttention(const std::string& prefix);
  void AddScales(const std::string& prefix);
  // Of a quantized model's attention there are scales and zero points of files, too, which here say nothing.
  void AddScalesOfFiles(const std::string& prefix);
  void AddDense(const std::string& prefix);
  void AddExperts(const std::string& layer);
  // The rank's rows of the vocabulary, and zeros for what pads it.
  void AddVocabulary(std::string_view name, const std::string& source);
  void AddCopy(const std::string& name, const std::string& source, const Shape& shape);
  // The rank's rows of several layers, one below the other, and of their biases.
  void AddJoined(const std::string& prefix, std::string_view name, std::initializer_list<DividedRows> modules,
                 bool bias);
  // The rank's columns of a layer [hidden, columns], and all of its bias.
  void AddDividedColumns(const std::string& module, std::int64_t columns, bool bias);

  // Puts a part below the parts of `tensor`; `source` has `shape`.
  void AddPart(RankTensor& tensor, const std::string& source, const Shape& shape, Slice rows, Slice columns);
  void Finish(RankTensor tensor);

  const Engine& engine_;
  const Family& family_;
  const Dimensions& sizes_;
  std::int64_t ranks_;
  bool quantized_;
  SourceTensors& sources_;
  std::int64_t rank_ = 0;
  std::vector<RankTensor> narrow_;  // of 16 bits an element
  std::vector<RankTensor> wide_;    // of 32
  DType dtype_ = DType::kBF16;      // of the tensor that was added last
  absl::Status status_;
};

}  // namespace slipway::engine::sharded_state
