#include "worker/engine/plan/ragged_blocks.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "common/count_of.h"
#include "worker/engine/plan/linear_weights.h"

namespace slipway::engine {
namespace {

struct Found {
  std::int64_t count = 0;
  std::string first;

  void Add(const QuantizedWeight& weight) {
    if (count++ == 0) {
      first = fmt::format("{} [{}, {}]", weight.module, weight.rows, weight.columns);
    }
  }
};

}  // namespace

void WarnOfRaggedBlocks(ExportPlan& plan) {
  Found columns;
  Found rows;
  std::map<std::string, const QuantizedWeight*> above;  // by the name of what is fused: the last of its parts so far
  for (const QuantizedWeight& weight : plan.quantized) {
    if (weight.coding.sharing != Sharing::kSquare) {
      continue;
    }
    if (weight.columns % weight.coding.group != 0) {
      columns.Add(weight);
    }
    const auto [at, fresh] = above.emplace(FusedNameOf(weight.module), &weight);
    if (!fresh && at->second->rows % weight.coding.group != 0) {
      rows.Add(*at->second);
    }
    at->second = &weight;
  }
  if (columns.count > 0) {
    plan.warnings.push_back(
        fmt::format("columns of {} are no whole blocks ({}): vLLM and transformers do not run that; choose another "
                    "format for them, such as fp8-per-channel",
                    CountOf(columns.count, "weight"), columns.first));
  }
  if (rows.count > 0) {
    plan.warnings.push_back(
        fmt::format("rows of {} are no whole blocks ({}), and a fused sibling comes below: vLLM does not load that; "
                    "choose another format for them, such as fp8-per-channel",
                    CountOf(rows.count, "weight"), rows.first));
  }
}

}  // namespace slipway::engine
