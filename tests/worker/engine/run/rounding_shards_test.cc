// What shards, the journal and the manifest say of casts, against values that are computed one by one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/support/random_export.h"
#include "tests/support/safetensors_writer.h"
#include "worker/engine/run/publication.h"
#include "worker/engine/run/shard_writer.h"
#include "worker/engine/run/staging.h"
#include "worker/engine/write/manifest.h"

namespace slipway::engine {
namespace {

using test::HfTensor;
using test::ReadFile;
using test::WriteFile;

std::string BytesOf(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  if (!values.empty()) {  // whose data may be null, which memcpy does not take
    std::memcpy(bytes.data(), values.data(), bytes.size());
  }
  return bytes;
}

// Of rounding to BF16: the nearer neighbour's distance.
Rounding ToBF16(const std::vector<float>& values) {
  Rounding rounding;
  for (const float value : values) {
    if (!std::isfinite(value)) {
      ++(std::isnan(value) ? rounding.nans : rounding.infinities);
      continue;
    }
    const auto exact = static_cast<double>(value);
    const std::uint32_t below = std::bit_cast<std::uint32_t>(value) & 0xFFFF0000U;
    const auto low = static_cast<double>(std::bit_cast<float>(below));
    const auto high = static_cast<double>(std::bit_cast<float>(below + 0x10000U));
    const double error = std::min(std::fabs(exact - low), std::fabs(high - exact));
    rounding.inexact += error != 0 ? 1 : 0;
    rounding.largest_absolute = std::max(rounding.largest_absolute, static_cast<float>(error));
    if (value != 0) {
      rounding.largest_relative = std::max(rounding.largest_relative, static_cast<float>(error / std::fabs(exact)));
    }
  }
  return rounding;
}

class RoundingShards : public testing::Test {
 protected:
  std::vector<float> Numbers(std::size_t count) {
    std::vector<float> values(count);
    for (float& value : values) {
      value =
          std::ldexp(static_cast<float>(static_cast<std::int32_t>(random_()) >> 8), -static_cast<int>(random_() % 40));
    }
    return values;
  }

  void Add(const std::string& name, std::vector<std::int64_t> shape, const std::vector<float>& values) {
    tensors_.push_back({name, "F32", std::move(shape), BytesOf(values)});
    expected_[name] = ToBF16(values);
  }

  std::shared_ptr<const ExportPlan> Plan(DType dtype) {
    std::filesystem::create_directories(checkpoint_);
    WriteFile(checkpoint_ + "/model.safetensors", test::SafetensorsFile(tensors_));
    WriteFile(checkpoint_ + "/config.json", "{}");
    ExportOptions options;
    options.checkpoint = checkpoint_;
    options.dtype = dtype;
    auto plan = MakePlan(options);
    EXPECT_TRUE(plan.ok()) << Describe(plan.status());
    return *plan;
  }

  std::string Staging(const ExportPlan& plan) {
    const auto staging = PrepareStaging(plan, output_, false, PosixFileSystem());
    EXPECT_TRUE(staging.ok()) << Describe(staging.status());
    return *staging;
  }

  absl::StatusOr<ShardResult> Write(const ExportPlan& plan, const std::string& staging,
                                    std::int64_t segment = kSegmentBytes, int threads = 2) {
    return WriteShard(plan, 0, staging, "a",
                      {.files = &PosixFileSystem(), .memory = &memory_, .threads = threads, .segment_bytes = segment},
                      {});
  }

  void ExpectExpected(const absl::StatusOr<ShardResult>& result) {
    ASSERT_TRUE(result.ok()) << Describe(result.status());
    ASSERT_EQ(result->tensors.size(), tensors_.size());
    for (const WrittenTensor& tensor : result->tensors) {
      const auto expected = expected_.find(tensor.name);
      ASSERT_EQ(tensor.rounding.has_value(), expected != expected_.end()) << tensor.name;
      if (tensor.rounding) {
        EXPECT_EQ(*tensor.rounding, expected->second) << tensor.name;
      }
    }
  }

  void AddModel() {
    Add("a", {300, 200}, Numbers(60'000));
    Add("b", {1}, {0.1F});
    Add("c", {0, 7}, {});
    std::vector<float> exact = {1, -0.5F, 0, -0.0F};
    Add("d", {4}, exact);
    std::vector<float> odd = Numbers(1000);
    odd[1] = std::nanf("");
    odd[500] = HUGE_VALF;
    Add("e", {10, 100}, odd);
    tensors_.push_back({"plain", "BF16", {3}, "abcdef"});
  }

  test::TemporaryDirectory directory_;
  const std::string checkpoint_ = directory_ / "checkpoint";
  const std::string output_ = directory_ / "out";
  MemoryBudget memory_{kMaximumSegmentMemory};
  std::mt19937 random_{23};
  std::vector<HfTensor> tensors_;
  std::map<std::string, Rounding> expected_;
};

TEST_F(RoundingShards, TotalsAreTheSameForSegmentsOfAnySizeAnyNumberOfThreadsAndAfterAResume) {
  AddModel();
  const auto plan = Plan(DType::kBF16);
  ASSERT_GT(expected_["a"].inexact, 30'000);
  ASSERT_EQ(expected_["d"], Rounding());
  for (const int threads : {1, 3}) {
    for (const std::int64_t segment : {std::int64_t{1}, std::int64_t{250}, std::int64_t{10'001}, kSegmentBytes}) {
      const std::string staging = Staging(*plan);
      ExpectExpected(Write(*plan, staging, segment, threads));
      const auto resumed = Write(*plan, staging);
      ExpectExpected(resumed);
      EXPECT_EQ(resumed->bytes_written, 0);
      std::filesystem::remove_all(staging);
    }
  }
}

TEST_F(RoundingShards, TheManifestSaysItOfTensorsThatWereCastAndOfNoOther) {
  AddModel();
  const auto plan = Plan(DType::kBF16);
  ASSERT_TRUE(Write(*plan, Staging(*plan)).ok());
  ASSERT_TRUE(Publish(*plan, output_, "exports/1", 1, false, PosixFileSystem()).ok());
  const auto manifest = ParseManifest(ReadFile(output_ + "/manifest.json"));
  ASSERT_TRUE(manifest.ok()) << Describe(manifest.status());
  std::map<std::string, Rounding> said;
  for (const ManifestTensor& tensor : manifest->tensors) {
    if (tensor.cast) {
      EXPECT_EQ(tensor.cast->from, DType::kF32);
      said[tensor.name] = tensor.cast->rounding;
    }
  }
  EXPECT_EQ(said, expected_);
}

TEST_F(RoundingShards, ARecordThatDoesNotSayItIsWrittenAgain) {
  AddModel();
  const auto plan = Plan(DType::kBF16);
  const std::string staging = Staging(*plan);
  ASSERT_TRUE(Write(*plan, staging).ok());
  const std::string record = staging + "/journal/" + plan->shards[0].file + ".json";
  std::string text = ReadFile(record);
  const std::size_t at = text.find("\"rounding\"");
  ASSERT_NE(at, std::string::npos);
  WriteFile(record, text.replace(at, 10, "\"sounding\""));
  const auto again = Write(*plan, staging);
  ExpectExpected(again);
  EXPECT_GT(again->bytes_written, 0);
}

TEST_F(RoundingShards, AFiniteWeightThatWouldBecomeInfiniteFailsTheShardByName) {
  std::vector<float> values(60'000, 0.25F);
  values[7] = 65520;
  values[59'999] = -1e6F;
  values[100] = HUGE_VALF;
  Add("a", {1}, {1});
  Add("w", {300, 200}, values);
  Add("x", {1}, {1e6F});
  const auto plan = Plan(DType::kF16);
  EXPECT_THAT(plan->warnings, testing::Contains(testing::HasSubstr("65504")));
  const std::string staging = Staging(*plan);
  for (const std::int64_t segment : {std::int64_t{100}, std::int64_t{1000}, kSegmentBytes}) {
    const absl::Status status = Write(*plan, staging, segment, 3).status();
    EXPECT_EQ(ReasonOf(status), Reason::kOptionUnsupported) << Describe(status);
    EXPECT_EQ(WhereOf(status).tensor, "w");
    EXPECT_THAT(std::string(status.message()),
                testing::AllOf(testing::HasSubstr("2 finite values"), testing::HasSubstr("--dtype bf16 or fp32")));
    EXPECT_THAT(test::NamesIn(staging), testing::ElementsAre("journal", "lock"));
  }
}

}  // namespace
}  // namespace slipway::engine
