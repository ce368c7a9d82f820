// A rank's tensors, made of a family's rules.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "worker/engine/target/rank_layout.h"
#include "worker/engine/target/tensorrt_llm/engine_model.h"
#include "worker/engine/target/tensorrt_llm/family.h"
#include "worker/engine/target/tensorrt_llm/parallel.h"

namespace slipway::engine::tensorrt_llm {

// Appends tensors to files. Borrows all that it is made of.
class ModuleTensors {
 public:
  ModuleTensors(const HuggingFaceModel& source, const EngineModel& model, const Family& family,
                const Parallel& parallel)
      : source_(source), model_(model), family_(family), parallel_(parallel) {}

  // Weight and bias of a rule's module on the rank-th rank of its stage: "transformer.layers.0." + rule.name of
  // "model.layers.0." + its sources. TENSOR_MISSING, TENSOR_SHAPE_MISMATCH, OPTION_UNSUPPORTED (a bias for which the
  // engine has no place, codes instead of values), LIMIT_EXCEEDED.
  absl::Status AppendModule(const ModuleRule& rule, std::string_view name_prefix, std::string_view source_prefix,
                            std::int64_t rank, RankFile& file);

  // What no rule can say of DeepSeek-V2's attention: the matrices of a layer that are made of several, or of products
  // (latent_attention.cc). Errors as AppendModule.
  absl::Status AppendLatentAttention(std::string_view name_prefix, std::string_view source_prefix, std::int64_t rank,
                                     RankFile& file);

  // A matrix with a row for each word of the vocabulary: all of it, or the rank's share after padding with zeros.
  absl::Status AppendVocabulary(std::string name, const std::string& module, bool split, std::int64_t rank,
                                RankFile& file);

  // The first tensor whose values are rounded because the model's dtype is narrower than its own; or empty.
  [[nodiscard]] const std::string& rounded() const { return rounded_; }

 private:
  enum class Kind : std::uint8_t { kWeight, kBias };
  struct Place;

  absl::Status AppendTensor(const ModuleRule& rule, Kind kind, const Place& place, RankFile& file);
  absl::Status AppendHeads(const ModuleRule& rule, Kind kind, const Place& place, RankTensor& tensor);
  absl::Status AppendRows(const ModuleRule& rule, Kind kind, std::string_view prefix, Range share, RankTensor& tensor);
  absl::Status AppendColumns(const ModuleRule& rule, std::string_view prefix, Range share, RankTensor& tensor);
  absl::Status AppendExperts(const ModuleRule& rule, const Place& place, RankTensor& tensor);
  absl::Status RefuseBiases(const ModuleRule& rule, std::string_view source_prefix) const;
  // That Hugging Face has the tensor, of that shape, with values.
  absl::Status Check(const std::string& tensor, const Shape& shape, bool is_router);
  absl::Status AppendPart(RankTensor& tensor, MatrixPart part);

  const HuggingFaceModel& source_;
  const EngineModel& model_;
  const Family& family_;
  const Parallel& parallel_;
  std::int64_t parts_ = 0;
  std::string rounded_;
};

}  // namespace slipway::engine::tensorrt_llm
