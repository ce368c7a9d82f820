#include "worker/engine/checkpoint/legacy_split.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/legacy_directory.h"

namespace slipway::engine {
namespace {

using test::View;

const std::string kMixer = "decoder.layers.0.mixer.";
const std::string kAttention = "decoder.layers.0.self_attention.";
const std::map<std::string, std::int64_t> kTwoRanks = {{"tensor_model_parallel_size", 2}};

View At(const std::vector<std::int64_t>& shape, std::int64_t first) {
  return {.shape = shape, .strides = {}, .offset = first, .storage = 100};
}

class LegacySplit : public test::LegacyDirectory {
 protected:
  // Both ranks of two; the second's elements count from 50 on.
  void WriteBoth(const Model& model) {
    Write("mp_rank_00", model, kTwoRanks);
    Model second = model;
    for (auto& [name, view] : second) {
      view.offset += 50;
    }
    Write("mp_rank_01", second, kTwoRanks);
  }
};

TEST_F(LegacySplit, ComponentsOfMambaAreJoinedEachForItself) {
  // Inner width 2 a rank, 1 head, 1 state: [z, z, x, x, B, C, dt].
  WriteBoth({{kMixer + "in_proj.weight", At({7, 1}, 0)},
             {kMixer + "conv1d_weight", At({4, 1, 1}, 10)},
             {kMixer + "conv1d.bias", At({4}, 20)},
             {kMixer + "A_log", At({1}, 30)},
             {kMixer + "norm.weight", At({2}, 31)},
             {kMixer + "out_proj.weight", At({1, 2}, 33)}});
  EXPECT_EQ(Canonical(kMixer + "in_proj.weight"), std::string("\0\1\x32\x33\2\3\x34\x35\4\x36\5\x37\6\x38", 14));
  EXPECT_EQ(Canonical(kMixer + "conv1d.weight"), "\x0a\x0b\x3c\x3d\x0c\x3e\x0d\x3f");
  EXPECT_EQ(Canonical(kMixer + "conv1d.bias"), "\x14\x15\x46\x47\x16\x48\x17\x49");
  EXPECT_EQ(Canonical(kMixer + "A_log"), "\x1e\x50");
  EXPECT_EQ(Canonical(kMixer + "norm.weight"), "\x1f\x20\x51\x52");
  EXPECT_EQ(Canonical(kMixer + "out_proj.weight"), "\x21\x22\x53\x54");
}

TEST_F(LegacySplit, ComponentsOfGatedDeltaNetworksAreJoinedEachForItself) {
  // Key width 1 a rank, value width 2, 1 head: [q, k, v, v, z, z, beta, alpha].
  WriteBoth({{kAttention + "in_proj.weight", At({8, 1}, 0)},
             {kAttention + "conv1d.weight", At({4, 1, 1}, 10)},
             {kAttention + "A_log", At({1}, 30)},
             {kAttention + "out_norm.weight", At({2}, 31)},
             {kAttention + "out_proj.weight", At({1, 2}, 33)}});
  EXPECT_EQ(Canonical(kAttention + "in_proj.weight"),
            std::string("\0\x32\1\x33\2\3\x34\x35\4\5\x36\x37\6\x38\7\x39", 16));
  EXPECT_EQ(Canonical(kAttention + "conv1d.weight"), "\x0a\x3c\x0b\x3d\x0c\x0d\x3e\x3f");
  EXPECT_EQ(Canonical(kAttention + "out_norm.weight"), "\x1f\x20");
}

TEST_F(LegacySplit, DownProjectionsThatEveryRankHasAreTakenOnce) {
  WriteBoth({{kAttention + "linear_q_down_proj.weight", At({2, 1}, 0)},
             {kAttention + "linear_q_up_proj.weight", At({1, 2}, 10)},
             {kAttention + "linear_kv_down_proj.weight", At({3, 1}, 20)},
             {kAttention + "linear_kv_up_proj.weight", At({1, 2}, 30)}});
  EXPECT_EQ(Canonical(kAttention + "linear_q_down_proj.weight"), std::string("\0\1", 2));
  EXPECT_EQ(Canonical(kAttention + "linear_kv_down_proj.weight"), "\x14\x15\x16");
  EXPECT_EQ(Canonical(kAttention + "linear_q_up_proj.weight"), "\x0a\x0b\x3c\x3d");
}

TEST_F(LegacySplit, DownProjectionsThatRanksShareAreJoined) {
  WriteBoth({{kAttention + "linear_q_down_proj.weight", At({1, 1}, 1)},
             {kAttention + "linear_q_up_proj.weight", At({1, 2}, 10)}});
  EXPECT_EQ(Canonical(kAttention + "linear_q_down_proj.weight"), "\x01\x33");
}

TEST_F(LegacySplit, AFusedDownProjectionIsTwo) {
  WriteBoth({{kAttention + "linear_qkv_down_proj.weight", At({5, 1}, 1)},
             {kAttention + "linear_q_up_proj.weight", At({1, 2}, 10)},
             {kAttention + "linear_kv_up_proj.weight", At({1, 2}, 30)}});
  EXPECT_EQ(Canonical(kAttention + "linear_q_down_proj.weight"), "\x01\x02");
  EXPECT_EQ(Canonical(kAttention + "linear_kv_down_proj.weight"), "\x03\x04\x05");
}

TEST_F(LegacySplit, RowsThatNoComponentsExplainAreRefusedByName) {
  WriteBoth({{kMixer + "in_proj.weight", At({6, 1}, 0)},
             {kMixer + "A_log", At({1}, 30)},
             {kMixer + "out_proj.weight", At({1, 2}, 33)}});
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kTensorShapeMismatch);
  EXPECT_EQ(WhereOf(Refusal()).tensor, kMixer + "in_proj.weight");
}

TEST_F(LegacySplit, ATensorThatWouldTellTheSizesIsNamedWhereItIsMissing) {
  WriteBoth({{kMixer + "in_proj.weight", At({6, 1}, 0)}, {kMixer + "A_log", At({1}, 30)}});
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kTensorMissing);
  EXPECT_EQ(WhereOf(Refusal()).tensor, kMixer + "out_proj.weight");
}

}  // namespace
}  // namespace slipway::engine
