// DeepSeek-V2's attention as TensorRT-LLM 0.17 has it. Of a rank with n heads, of plain size P, rotated size R, value
// size V, with ranks of compression Q (of queries; the hidden size H where they are not compressed) and K:
//   1. attention.fused_a.weight [Q + K + R, H]: q_a_proj, where there is one, above kv_a_proj_with_mqa; on every rank
//   2. attention.q_b_proj [n (P + R), Q]: the rows of the rank's heads
//   3. attention.kv_b_proj [n (P + V), K]: the plain rows of all its heads' keys, below them all its heads' values
//   4. attention.fused_q_proj [n (K + R), Q]: of each head the transpose of 3's keys times 2's plain rows, below it 2's
//      rotated rows
// The last three are parameters, not modules: their names end there. Norms and the output are rules (deepseek.cc).
#include <utility>

#include <fmt/format.h>

#include "worker/engine/target/tensorrt_llm/module_tensors.h"

namespace slipway::engine::tensorrt_llm {

absl::Status ModuleTensors::AppendLatentAttention(std::string_view name_prefix, std::string_view source_prefix,
                                                  std::int64_t rank, RankFile& file) {
  const EngineModel& m = model_;
  const bool is_compressed = m.query_rank > 0;
  const std::int64_t query_columns = is_compressed ? m.query_rank : m.hidden;
  const std::int64_t query_head = m.plain_head + m.rotated_head;
  const std::int64_t key_value_head = m.plain_head + m.value_head;
  const auto source = [source_prefix](std::string_view module) {
    return fmt::format("{}self_attn.{}.weight", source_prefix, module);
  };
  const std::string query_a = source("q_a_proj");
  const std::string query_b = source(is_compressed ? "q_b_proj" : "q_proj");
  const std::string key_value_a = source("kv_a_proj_with_mqa");
  const std::string key_value_b = source("kv_b_proj");
  const std::int64_t latent_rows = m.key_value_rank + m.rotated_head;
  if (is_compressed) {
    SLIPWAY_RETURN_IF_ERROR(Check(query_a, {m.query_rank, m.hidden}, false));
  }
  SLIPWAY_RETURN_IF_ERROR(Check(query_b, {m.heads * query_head, query_columns}, false));
  SLIPWAY_RETURN_IF_ERROR(Check(key_value_a, {latent_rows, m.hidden}, false));
  SLIPWAY_RETURN_IF_ERROR(Check(key_value_b, {m.heads * key_value_head, m.key_value_rank}, false));

  const Range heads = Share(m.heads, rank, parallel_.tensor);
  const auto make = [&](std::string_view name, Shape shape) {
    RankTensor tensor;
    tensor.name = fmt::format("{}attention.{}", name_prefix, name);
    tensor.shape = std::move(shape);
    tensor.dtype = m.dtype;
    return tensor;
  };
  RankTensor down = make("fused_a.weight", {m.query_rank + latent_rows, m.hidden});
  if (is_compressed) {
    SLIPWAY_RETURN_IF_ERROR(AppendPart(down, {query_a, 0, m.query_rank, 0, m.hidden}));
  }
  SLIPWAY_RETURN_IF_ERROR(AppendPart(down, {key_value_a, 0, latent_rows, 0, m.hidden}));

  RankTensor queries = make("q_b_proj", {heads.count * query_head, query_columns});
  SLIPWAY_RETURN_IF_ERROR(
      AppendPart(queries, {query_b, heads.first * query_head, heads.count * query_head, 0, query_columns}));

  RankTensor keys_values = make("kv_b_proj", {heads.count * key_value_head, m.key_value_rank});
  RankTensor fused = make("fused_q_proj", {heads.count * latent_rows, query_columns});
  for (std::int64_t head = heads.first; head < heads.first + heads.count; ++head) {
    const MatrixPart keys{key_value_b, head * key_value_head, m.plain_head, 0, m.key_value_rank};
    const MatrixPart plain{query_b, head * query_head, m.plain_head, 0, query_columns};
    SLIPWAY_RETURN_IF_ERROR(AppendPart(keys_values, keys));
    SLIPWAY_RETURN_IF_ERROR(AppendPart(fused, {"", 0, m.key_value_rank, 0, query_columns}));
    SLIPWAY_RETURN_IF_ERROR(
        AppendPart(fused, {query_b, head * query_head + m.plain_head, m.rotated_head, 0, query_columns}));
    fused.products.push_back({.transposed = keys, .matrix = plain});
  }
  for (std::int64_t head = heads.first; head < heads.first + heads.count; ++head) {
    SLIPWAY_RETURN_IF_ERROR(AppendPart(
        keys_values, {key_value_b, head * key_value_head + m.plain_head, m.value_head, 0, m.key_value_rank}));
  }
  for (RankTensor* tensor : {&down, &queries, &keys_values, &fused}) {
    file.tensors.push_back(std::move(*tensor));
  }
  return absl::OkStatus();
}

}  // namespace slipway::engine::tensorrt_llm
