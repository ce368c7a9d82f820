#include <cstdint>
#include <map>
#include <string>

#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/legacy_directory.h"

namespace slipway::engine {
namespace {

using test::View;

const std::string kMlp = "decoder.layers.0.mlp.";

class LegacyExperts : public test::LegacyDirectory {
 protected:
  using Arguments = std::map<std::string, std::int64_t>;

  // Two experts a rank, of two columns and one gate and one up row; their elements count from `first`.
  static Model Listed(std::int64_t first) {
    return {{kMlp + "experts.local_experts.0.linear_fc1.weight", At({2, 2}, first)},
            {kMlp + "experts.local_experts.0.linear_fc2.weight", At({2, 1}, first + 4)},
            {kMlp + "experts.local_experts.1.linear_fc1.weight", At({2, 2}, first + 6)},
            {kMlp + "experts.local_experts.1.linear_fc2.weight", At({2, 1}, first + 10)}};
  }

  static View At(const std::vector<std::int64_t>& shape, std::int64_t first) {
    return {.shape = shape, .strides = {}, .offset = first, .storage = 100};
  }

  static std::string Name(int expert, const std::string& linear) {
    return kMlp + "experts." + std::to_string(expert) + "." + linear + ".weight";
  }

  static Arguments Layout(std::int64_t tensor, std::int64_t expert, std::int64_t expert_tensor) {
    return {{"tensor_model_parallel_size", tensor},
            {"pipeline_model_parallel_size", 1},
            {"expert_model_parallel_size", expert},
            {"expert_tensor_parallel_size", expert_tensor}};
  }
};

TEST_F(LegacyExperts, ExpertsAreNumberedOverAllExpertRanks) {
  Write("mp_rank_00_000", Listed(10), Layout(1, 2, 1));
  Write("mp_rank_00_001", Listed(30), Layout(1, 2, 1));
  EXPECT_EQ(Canonical(Name(0, "linear_fc1")), "\x0a\x0b\x0c\x0d");
  EXPECT_EQ(Canonical(Name(1, "linear_fc1")), "\x10\x11\x12\x13");
  EXPECT_EQ(Canonical(Name(2, "linear_fc1")), "\x1e\x1f\x20\x21");
  EXPECT_EQ(Canonical(Name(3, "linear_fc2")), "\x28\x29");
  EXPECT_EQ(Canonical(Name(4, "linear_fc2")), "no such tensor");
}

TEST_F(LegacyExperts, TensorRanksOverWhichExpertsAreFoldedHoldOtherWholeExperts) {
  Write("mp_rank_00_000", Listed(10), Layout(2, 2, 1));
  Write("mp_rank_01_001", Listed(30), Layout(2, 2, 1));
  EXPECT_EQ(Canonical(Name(0, "linear_fc1")), "\x0a\x0b\x0c\x0d");
  EXPECT_EQ(Canonical(Name(2, "linear_fc1")), "\x1e\x1f\x20\x21");
}

TEST_F(LegacyExperts, ExpertTensorRanksShareGateAndUpAndColumns) {
  Write("mp_rank_00", Listed(10), Layout(2, 1, 2));
  Write("mp_rank_01", Listed(30), Layout(2, 1, 2));
  EXPECT_EQ(Canonical(Name(0, "linear_fc1")), "\x0a\x0b\x1e\x1f\x0c\x0d\x20\x21");
  EXPECT_EQ(Canonical(Name(0, "linear_fc2")), "\x0e\x22\x0f\x23");
}

TEST_F(LegacyExperts, AGroupedLinearsParametersAreOneExpertEach) {
  Write("mp_rank_00",
        {{kMlp + "experts.linear_fc1.weight0", At({2, 2}, 10)}, {kMlp + "experts.linear_fc1.weight1", At({2, 2}, 20)}},
        {});
  EXPECT_EQ(Canonical(Name(1, "linear_fc1")), "\x14\x15\x16\x17");
}

TEST_F(LegacyExperts, WeightsOfAllExpertsInOneTensorAreStoredTransposed) {
  // Hidden size 2, two experts, one gate and one up row: memory is [expert, hidden, row] and [expert, column, hidden].
  Write("mp_rank_00",
        {{kMlp + "router.weight", At({2, 2}, 0)},
         {kMlp + "experts.weight1", At({2, 4}, 10)},
         {kMlp + "experts.weight2", At({2, 2}, 20)}},
        {});
  EXPECT_EQ(Canonical(Name(0, "linear_fc1")), "\x0a\x0c\x0b\x0d");
  EXPECT_EQ(Canonical(Name(1, "linear_fc1")), "\x0e\x10\x0f\x11");
  EXPECT_EQ(Canonical(Name(1, "linear_fc2")), "\x16\x17");
}

TEST_F(LegacyExperts, ARankThatIsMissingIsNamed) {
  Write("mp_rank_00_000", Listed(10), Layout(1, 2, 1));
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(WhereOf(Refusal()).file, "mp_rank_00_001");
}

TEST_F(LegacyExperts, AnExpertInTwoSpellingsIsADuplicate) {
  Model model = Listed(10);
  model[kMlp + "experts.linear_fc1.weight1"] = At({2, 2}, 0);
  Write("mp_rank_00", model, {});
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kTensorDuplicated);
}

TEST_F(LegacyExperts, AGapBetweenExpertsIsRefusedNamingTheLayer) {
  Model model = Listed(10);
  model[kMlp + "experts.local_experts.3.linear_fc1.weight"] = At({2, 2}, 0);
  Write("mp_rank_00", model, {});
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(WhereOf(Refusal()).tensor, kMlp + "experts.experts.");
}

TEST_F(LegacyExperts, FewerExpertsThanTheRouterKnowsAreRefused) {
  Model model = Listed(10);
  model[kMlp + "router.weight"] = At({3, 2}, 0);
  Write("mp_rank_00", model, {});
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(WhereOf(Refusal()).file, "mp_rank_00/model_optim_rng.pt");
}

TEST_F(LegacyExperts, RanksThatDisagreeAreRefusedNamingFileAndTensor) {
  Model other = Listed(30);
  other[kMlp + "experts.local_experts.1.linear_fc2.weight"] = At({2, 2}, 0);
  Write("mp_rank_00_000", Listed(10), Layout(1, 2, 1));
  Write("mp_rank_00_001", other, Layout(1, 2, 1));
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kTensorShapeMismatch);
  EXPECT_EQ(WhereOf(Refusal()).tensor, kMlp + "experts.experts.1.linear_fc2.weight");
  EXPECT_EQ(WhereOf(Refusal()).file, "mp_rank_00_001/model_optim_rng.pt");
}

TEST_F(LegacyExperts, AnExpertThatOneRankLacksIsNamed) {
  Model other = Listed(30);
  other.erase(kMlp + "experts.local_experts.1.linear_fc2.weight");
  Write("mp_rank_00_000", Listed(10), Layout(1, 2, 1));
  Write("mp_rank_00_001", other, Layout(1, 2, 1));
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(WhereOf(Refusal()).tensor, kMlp + "experts.experts.1.linear_fc2.weight");
}

TEST_F(LegacyExperts, ExpertsWhoseFilesRanksOverwroteAreRefused) {
  Write("mp_rank_00", Listed(10), Layout(1, 1, 2));
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kCheckpointUnsupported);
  EXPECT_EQ(WhereOf(Refusal()).tensor, kMlp + "experts.experts.0.linear_fc1.weight");
}

TEST_F(LegacyExperts, CountsOfTokensAreNoWeights) {
  Write("mp_rank_00", {{kMlp + "router.local_tokens_per_expert", At({2}, 0)}, {kMlp + "router.weight", At({2, 2}, 0)}},
        {});
  EXPECT_EQ(Canonical(kMlp + "router.local_tokens_per_expert"), "no such tensor");
  EXPECT_EQ(Canonical(kMlp + "router.weight"), std::string("\0\1\2\3", 4));
}

}  // namespace
}  // namespace slipway::engine
