#include "worker/engine/plan/shard_layout.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

namespace slipway::engine {
namespace {

std::vector<OutputTensor> Tensors(const std::vector<std::int64_t>& elements) {
  std::vector<OutputTensor> tensors;
  for (std::size_t i = 0; i < elements.size(); ++i) {
    OutputTensor tensor;
    tensor.name = "tensor." + std::to_string(i);
    tensor.shape = {elements[i]};
    tensor.bytes = 2 * elements[i];
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

TEST(ShardLimit, IsSmallerByDefaultWhereWeightsAreQuantized) {
  EXPECT_EQ(ShardLimit({}, /*quantized=*/false), 5'000'000'000);
  EXPECT_EQ(ShardLimit({}, /*quantized=*/true), 1'000'000'000);
}

TEST(ShardLimit, IsWhatWasAskedForWhereSomethingWas) {
  ExportOptions options;
  options.maximum_shard_bytes = 3000;
  EXPECT_EQ(ShardLimit(options, /*quantized=*/false), 3000);
  EXPECT_EQ(ShardLimit(options, /*quantized=*/true), 3000);
}

TEST(ShardLayout, OneFileHasTheNameThatReadersExpect) {
  auto tensors = Tensors({10, 20});
  const auto shards = LayOutShards(tensors, 100'000);
  ASSERT_TRUE(shards.ok());
  ASSERT_EQ(shards->size(), 1U);
  EXPECT_EQ(shards->front().file, "model.safetensors");
}

TEST(ShardLayout, FilesStayUnderTheLimitInTheOrderOfTensorsAndWithoutHoles) {
  constexpr std::int64_t kLimit = 5000;
  auto tensors = Tensors({100, 2000, 300, 1, 900, 900, 900, 2, 0, 1500, 4});
  const auto shards = LayOutShards(tensors, kLimit);
  ASSERT_TRUE(shards.ok());
  ASSERT_GT(shards->size(), 2U);
  std::int32_t next = 0;
  for (std::size_t i = 0; i < shards->size(); ++i) {
    const Shard& shard = (*shards)[i];
    EXPECT_EQ(shard.file,
              "model-0000" + std::to_string(i + 1) + "-of-0000" + std::to_string(shards->size()) + ".safetensors");
    EXPECT_LE(shard.bytes, kLimit);
    EXPECT_EQ(shard.first_tensor, next);
    auto position = static_cast<std::int64_t>(shard.header.size());
    for (std::int32_t t = next; t < next + shard.tensor_count; ++t) {
      const OutputTensor& tensor = tensors[static_cast<std::size_t>(t)];
      EXPECT_EQ(tensor.shard, static_cast<std::int32_t>(i));
      EXPECT_EQ(tensor.file_offset, position);
      position += tensor.bytes;
    }
    EXPECT_EQ(position, shard.bytes);
    next += shard.tensor_count;
  }
  EXPECT_EQ(next, static_cast<std::int32_t>(tensors.size()));
}

TEST(ShardLayout, ATensorLargerThanTheLimitHasAFileOfItsOwn) {
  auto tensors = Tensors({10, 5000, 10});
  const auto shards = LayOutShards(tensors, 2000);
  ASSERT_TRUE(shards.ok());
  ASSERT_EQ(shards->size(), 3U);
  EXPECT_EQ((*shards)[1].tensor_count, 1);
  EXPECT_GE((*shards)[1].bytes, 10'000);
}

TEST(ShardLayout, SizesNearTheEndOfTheNumbersDoNotOverflow) {
  constexpr std::int64_t kHuge = std::int64_t{1} << 61;
  auto tensors = Tensors({kHuge, kHuge, 1});
  const auto shards = LayOutShards(tensors, std::numeric_limits<std::int64_t>::max());
  ASSERT_TRUE(shards.ok());
  ASSERT_EQ(shards->size(), 2U);
  EXPECT_EQ((*shards)[0].tensor_count, 1);
}

}  // namespace
}  // namespace slipway::engine
