#include "worker/engine/plan/transform_warnings.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "common/count_of.h"
#include "common/vocabulary.h"
#include "worker/engine/transform/rounding.h"

namespace slipway::engine {

void WarnOfTransforms(ExportPlan& plan) {
  std::map<std::pair<DType, DType>, std::int64_t> casts;
  std::int64_t norms = 0;
  for (const OutputTensor& tensor : plan.tensors) {
    if (tensor.transform.from != tensor.transform.to) {
      ++casts[{tensor.transform.from, tensor.transform.to}];
    }
    norms += tensor.transform.add_one ? 1 : 0;
  }
  const bool has_ranks = !plan.options.targets.empty() && HasRanks(plan.options.targets.front());
  const std::string_view counted = has_ranks ? ", counted in every rank" : "";
  std::string_view overflow;
  for (const auto& [cast, count] : casts) {
    const bool is_nvfp4 = cast.first == DType::kU8;  // nothing else is stored so and changed
    plan.warnings.push_back(fmt::format("{} {} {} from {} to {}{}", CountOf(count, "tensor"), count == 1 ? "is" : "are",
                                        is_nvfp4 || cast.first == DType::kF8E4M3 ? "dequantized" : "converted",
                                        is_nvfp4 ? "NVFP4" : InfoOf(cast.first).safetensors_name,
                                        InfoOf(cast.second).safetensors_name, counted));
    overflow = overflow.empty() ? OverflowWarning(cast.first, cast.second) : overflow;
  }
  if (!overflow.empty()) {
    plan.warnings.emplace_back(overflow);
  }
  if (norms > 0) {
    plan.warnings.push_back(
        fmt::format("1 is added to {}, which the checkpoint stores minus 1{}", CountOf(norms, "norm weight"), counted));
  }
}

}  // namespace slipway::engine
