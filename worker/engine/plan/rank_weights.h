// The quantized weights of ranks, made of those of whole modules: values that are cut, scales that are not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/engine/plan/export_plan.h"
#include "worker/engine/quantize/ranges.h"
#include "worker/engine/target/rank_layout.h"

namespace slipway::engine {

// A part of a rank's tensor and the whole weight that it is of.
struct RankPiece {
  const MatrixPart* part = nullptr;
  const QuantizedWeight* weight = nullptr;
};

// Refers to all that it is made of. Of one plan, whose scale_groups it fills.
class RankWeights {
 public:
  // `ranges`: or null. `whole`: of all modules that are quantized, with ranges of inputs.
  RankWeights(const Ranges* ranges, std::string_view target, std::span<const QuantizedWeight> whole, ExportPlan& plan);

  // What goes at the end of plan.quantized, for a tensor that is made of `pieces`, one for each of its parts; `cut` is
  // it unquantized. OPTION_UNSUPPORTED where a rank's share cannot be stored so or joined modules differ in what is
  // stored once; TENSOR_SHAPE_MISMATCH.
  absl::StatusOr<QuantizedWeight> Make(const RankTensor& wanted, std::span<const RankPiece> pieces, OutputTensor cut);

  // Adds to plan.warnings what Make had to make up.
  void Warn() const;

 private:
  absl::Status TakePreQuantScale(std::span<const RankPiece> pieces, std::int64_t columns, QuantizedWeight& weight);
  absl::Status TakeScaleGroups(std::span<const RankPiece> pieces, QuantizedWeight& weight);
  std::int32_t ScaleGroupOf(const QuantizedWeight& source, const QuantizedWeight& weight);

  const Ranges* const ranges_;
  const std::string target_;
  ExportPlan& plan_;
  std::map<std::string, std::vector<const QuantizedWeight*>> fused_;  // by FusedNameOf
  std::map<std::string, float> input_amaxes_;                         // largest of modules that share an input
  std::map<std::string, const QuantizedWeight*> input_scales_;        // the first of these
  std::map<std::string, std::int32_t> groups_;                        // by FusedNameOf
  std::map<std::size_t, std::shared_ptr<const std::vector<float>>> ones_;
  std::int64_t without_scales_ = 0;
  std::string example_;
};

}  // namespace slipway::engine
