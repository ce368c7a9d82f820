#include "common/parallel_size.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "common/vocabulary.h"

namespace slipway {
namespace {

using testing::HasSubstr;
using Names = std::vector<std::string>;

TEST(ParallelSize, OneIsForEveryTargetAndMoreForThoseWithRanks) {
  for (const std::string& target : NamesOf(Targets())) {
    EXPECT_TRUE(CheckParallelSize("--tensor-parallel", 1, Names{target}).ok()) << target;
    EXPECT_EQ(CheckParallelSize("--tensor-parallel", 1024, Names{target}).ok(), target != "huggingface") << target;
  }
  EXPECT_TRUE(CheckParallelSize("--tensor-parallel", 2, Names{"huggingface", "vllm-sharded"}).ok());
}

TEST(ParallelSize, WhatNoTargetUsesIsRefusedWithThoseThatWould) {
  const absl::Status status = CheckParallelSize("--tensor-parallel", 2, Names{"huggingface"});
  EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), testing::AllOf(HasSubstr("--tensor-parallel: 2"), HasSubstr("huggingface"),
                                                            HasSubstr("tensorrt-llm, vllm-sharded, sglang-sharded")));
}

TEST(ParallelSize, BoundsHold) {
  for (const std::int64_t size : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1025}, std::int64_t{1} << 40}) {
    EXPECT_EQ(ReasonOf(CheckParallelSize("x", size, Names{"vllm-sharded"})), Reason::kInvalidArgument) << size;
  }
}

TEST(TensorRtLlmVersion, IsAShortWordForThatTarget) {
  for (const char* version : {"", "0.20", "1.0.0rc1", "1.2.0+cu13"}) {
    EXPECT_TRUE(CheckTensorRtLlmVersion("x", version, Names{"huggingface", "tensorrt-llm"}).ok()) << version;
  }
  EXPECT_TRUE(CheckTensorRtLlmVersion("x", "", Names{"huggingface"}).ok());
  EXPECT_EQ(ReasonOf(CheckTensorRtLlmVersion("x", "1.0", Names{"vllm-sharded"})), Reason::kInvalidArgument);
  for (const std::string& version :
       {std::string("1 0"), std::string("1.0\n"), std::string(33, '1'), std::string(1, '\0')}) {
    EXPECT_EQ(ReasonOf(CheckTensorRtLlmVersion("x", version, Names{"tensorrt-llm"})), Reason::kInvalidArgument);
  }
}

}  // namespace
}  // namespace slipway
