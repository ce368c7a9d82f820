#include "worker/engine/plan/ragged_blocks.h"

#include <cstdint>
#include <map>
#include <string>

#include <fmt/format.h>

#include "common/count_of.h"
#include "worker/engine/plan/linear_weights.h"
#include "worker/engine/quantize/formats/loaders.h"

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

struct Ragged {
  Found columns;
  Found rows;  // above a fused sibling
};

Ragged FindRagged(const ExportPlan& plan) {
  Ragged ragged;
  std::map<std::string, const QuantizedWeight*> above;  // by the name of what is fused: the last of its parts so far
  for (const QuantizedWeight& weight : plan.quantized) {
    if (weight.coding.sharing != Sharing::kSquare) {
      continue;
    }
    if (weight.columns % weight.coding.group != 0) {
      ragged.columns.Add(weight);
    }
    const auto [at, fresh] = above.emplace(FusedNameOf(weight.module), &weight);
    if (!fresh && at->second->rows % weight.coding.group != 0) {
      ragged.rows.Add(*at->second);
    }
    at->second = &weight;
  }
  return ragged;
}

}  // namespace

void WarnOfRaggedBlocks(ExportPlan& plan) {
  const auto [columns, rows] = FindRagged(plan);
  if (columns.count > 0) {
    plan.warnings.push_back(
        fmt::format("columns of {} are no whole blocks ({}): no engine is known to run that; choose another format for "
                    "them, such as fp8-per-channel",
                    CountOf(columns.count, "weight"), columns.first));
  }
  if (rows.count > 0) {
    plan.warnings.push_back(
        fmt::format("rows of {} are no whole blocks ({}), and a fused sibling comes below: vLLM and SGLang do not load "
                    "that; choose another format for them, such as fp8-per-channel",
                    CountOf(rows.count, "weight"), rows.first));
  }
}

std::uint8_t KeptFromByRaggedBlocks(const ExportPlan& plan) {
  const Ragged ragged = FindRagged(plan);
  if (ragged.columns.count > 0) {
    return kLoadsAll;
  }
  return ragged.rows.count > 0 ? kLoadsVllm | kLoadsSglang : 0;
}

}  // namespace slipway::engine
