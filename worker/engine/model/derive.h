// What the checkpoint's tensors tell about the model, where nothing states it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/model/configuration.h"
#include "worker/engine/model/stated_configuration.h"

namespace slipway::engine {

// Not thread-safe; refers to the tensors.
class TensorEvidence {
 public:
  explicit TensorEvidence(const std::map<std::string, CanonicalTensor>& tensors);

  // Fills in what `stated` is silent about: sizes from shapes, switches from which tensors there are.
  void Complete(StatedConfiguration& stated) const;
  // One kind a layer, for as many layers as there are.
  [[nodiscard]] const std::vector<LayerKind>& layer_kinds() const { return layers_; }
  // Of the layers inside prediction layers, one after the other: prediction_depth of them in each.
  [[nodiscard]] std::vector<LayerKind> prediction_kinds() const;
  [[nodiscard]] std::int64_t prediction_depth() const;
  [[nodiscard]] std::set<std::string, std::less<>> patterns() const;

  // Of the first tensor of that pattern: the extent of `axis`, and the type; nullopt where there is none.
  [[nodiscard]] std::optional<std::int64_t> Extent(std::string_view pattern, std::size_t axis) const;
  [[nodiscard]] std::optional<DType> Type(std::string_view pattern) const;
  [[nodiscard]] bool Has(std::string_view pattern) const { return first_.find(pattern) != first_.end(); }

 private:
  void NoteLayer(std::string_view name);
  void CompleteSizes(StatedConfiguration& stated) const;
  void CompleteLatentAttention(StatedConfiguration& stated) const;
  void CompleteExperts(StatedConfiguration& stated) const;
  void CompleteMixers(StatedConfiguration& stated) const;
  void CompleteVision(StatedConfiguration& stated) const;
  void CompleteSwitches(StatedConfiguration& stated) const;

  std::map<std::string, const CanonicalTensor*, std::less<>> first_;  // by pattern
  std::vector<LayerKind> layers_;
  std::vector<std::vector<LayerKind>> predictions_;
  std::int64_t experts_ = 0;
  std::int64_t vision_layers_ = 0;
  std::int64_t vision_mergers_ = 0;
};

}  // namespace slipway::engine
