#include "worker/engine/quantize/ranges.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "common/error.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temporary_directory.h"

namespace slipway::engine {
namespace {

using test::HfTensor;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::string Bytes(const std::vector<float>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

HfTensor Scalar(const std::string& name, float value) {
  return {.name = name, .dtype = "F32", .shape = {}, .bytes = Bytes({value})};
}

HfTensor Vector(const std::string& name, const std::vector<float>& values) {
  return {.name = name, .dtype = "F32", .shape = {static_cast<std::int64_t>(values.size())}, .bytes = Bytes(values)};
}

class RangesFile : public testing::Test {
 protected:
  [[nodiscard]] absl::StatusOr<Ranges> Read(const std::vector<HfTensor>& tensors) const {
    return ReadBytes(test::SafetensorsFile(tensors));
  }
  [[nodiscard]] absl::StatusOr<Ranges> ReadBytes(const std::string& bytes) const {
    directory_.Write("ranges.safetensors", bytes);
    return ReadRanges(path_);
  }
  // That it is refused, with the tensor (if there is one) and the file.
  void ExpectRefused(const absl::StatusOr<Ranges>& ranges, const std::string& tensor,
                     const std::string& message) const {
    EXPECT_EQ(ReasonOf(ranges.status()), Reason::kInvalidArgument) << ranges.status();
    EXPECT_EQ(WhereOf(ranges.status()).tensor, tensor) << ranges.status();
    EXPECT_EQ(WhereOf(ranges.status()).file, path_) << ranges.status();
    EXPECT_THAT(std::string(ranges.status().message()), HasSubstr(message));
  }

  test::TemporaryDirectory directory_;
  const std::string path_ = directory_ / "ranges.safetensors";
};

TEST_F(RangesFile, RangesOfInputsKeysAndValuesAreReadByModule) {
  const auto ranges =
      Read({Scalar("model.layers.0.self_attn.q_proj.input_amax", 3.5F),
            Vector("model.layers.0.mlp.down_proj.input_amax", {1.0F, 0.25F, 7.0F}),
            Scalar("model.layers.0.self_attn.k_amax", 12.0F), Scalar("model.layers.0.self_attn.v_amax", 0.5F),
            Scalar("model.layers.1.self_attn.k_amax", 2.0F)});
  ASSERT_TRUE(ranges.ok()) << Describe(ranges.status());
  EXPECT_EQ(ranges->modules.size(), 2U);
  EXPECT_THAT(ranges->modules.at("model.layers.0.self_attn.q_proj").input_amax, ElementsAre(3.5F));
  EXPECT_THAT(ranges->modules.at("model.layers.0.mlp.down_proj").input_amax, ElementsAre(1.0F, 0.25F, 7.0F));
  EXPECT_EQ(ranges->attention.size(), 2U);
  EXPECT_EQ(ranges->attention.at("model.layers.0.self_attn").key_amax, 12.0F);
  EXPECT_EQ(ranges->attention.at("model.layers.0.self_attn").value_amax, 0.5F);
  EXPECT_EQ(ranges->attention.at("model.layers.1.self_attn").value_amax, std::nullopt);
  EXPECT_THAT(ranges->origin, HasSubstr(path_));
}

TEST_F(RangesFile, OfWeightsAndFormatsItSaysNothing) {
  const auto ranges = Read({Scalar("a.input_amax", 1.0F)});
  ASSERT_TRUE(ranges.ok()) << Describe(ranges.status());
  const ModuleRanges& module = ranges->modules.at("a");
  EXPECT_FALSE(module.weight_amax || module.weight_amaxes || module.pre_quant_scale || module.group);
  EXPECT_EQ(module.format, "");
}

TEST_F(RangesFile, OtherNamesAreRefused) {
  for (const char* name : {"model.layers.0.self_attn.q_proj.weight", "a.input_amax.b", "input_amax", ".input_amax",
                           ".k_amax", "a.q_amax", "a.input_scale", "a_input_amax"}) {
    ExpectRefused(Read({Scalar("a.input_amax", 1.0F), Scalar(name, 1.0F)}), name, "is none of MODULE.input_amax");
  }
}

TEST_F(RangesFile, OtherDTypesAreRefused) {
  for (const auto& [dtype, bytes] :
       {std::pair("BF16", 2), std::pair("F16", 2), std::pair("F64", 8), std::pair("I32", 4)}) {
    ExpectRefused(Read({{.name = "a.input_amax", .dtype = dtype, .shape = {}, .bytes = std::string(bytes, '\1')}}),
                  "a.input_amax", std::string("is ") + dtype);
  }
}

TEST_F(RangesFile, OtherShapesAreRefused) {
  ExpectRefused(Read({{.name = "a.input_amax", .dtype = "F32", .shape = {1, 2}, .bytes = Bytes({1, 2})}}),
                "a.input_amax", "[1, 2]");
  ExpectRefused(Read({Vector("a.input_amax", {})}), "a.input_amax", "[0]");
  ExpectRefused(Read({Vector("a.k_amax", {1.0F})}), "a.k_amax", "[1]");
  ExpectRefused(Read({Vector("a.v_amax", {1.0F, 2.0F})}), "a.v_amax", "[2]");
}

TEST_F(RangesFile, WhatIsNoRangeIsRefused) {
  for (const float value : {-1.0F, kInfinity, -kInfinity, kNan}) {
    ExpectRefused(Read({Scalar("a.input_amax", value)}), "a.input_amax", "finite and above 0");
    ExpectRefused(Read({Vector("a.input_amax", {1.0F, value})}), "a.input_amax", "at 1");
    ExpectRefused(Read({Scalar("a.v_amax", value)}), "a.v_amax", "finite and above 0");
  }
}

TEST_F(RangesFile, AnInputThroughWhichNothingWentIsRefusedByName) {
  ExpectRefused(Read({Scalar("a.input_amax", 0.0F)}), "a.input_amax", "nothing went through");
  ExpectRefused(Read({Vector("a.input_amax", {1.0F, 0.0F})}), "a.input_amax", "at 1 is 0");
}

TEST_F(RangesFile, WhatIsNoSafetensorsFileIsRefused) {
  ExpectRefused(ReadBytes(""), "", "too short");
  ExpectRefused(ReadBytes(std::string(7, '\0')), "", "too short");
  ExpectRefused(ReadBytes(std::string(8, '\xff')), "", "bytes long");
  std::string cut = test::SafetensorsFile({Scalar("a.input_amax", 1.0F)});
  cut.pop_back();
  ExpectRefused(ReadBytes(cut), "", "behind the header");
  ExpectRefused(Read({}), "", "has no ranges");
}

TEST_F(RangesFile, AFileThatIsNotThereIsRefused) {
  ExpectRefused(ReadRanges(path_), "", "No such file");
  const absl::Status directory = ReadRanges(directory_.path()).status();
  EXPECT_EQ(ReasonOf(directory), Reason::kInvalidArgument) << directory;
}

TEST_F(RangesFile, ALinkOfTheUsersIsFollowed) {
  directory_.Write("elsewhere/real.safetensors", test::SafetensorsFile({Scalar("a.input_amax", 2.0F)}));
  directory_.Link(directory_ / "elsewhere/real.safetensors", "links/ranges.safetensors");
  const auto ranges = ReadRanges(directory_ / "links/ranges.safetensors");
  ASSERT_TRUE(ranges.ok()) << Describe(ranges.status());
  EXPECT_THAT(ranges->modules.at("a").input_amax, ElementsAre(2.0F));
}

}  // namespace
}  // namespace slipway::engine
