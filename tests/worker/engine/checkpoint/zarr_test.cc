#include "worker/engine/checkpoint/zarr.h"

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/brute_force.h"
#include "tests/support/temporary_directory.h"
#include "worker/engine/checkpoint/checkpoint.h"

namespace slipway::engine {
namespace {

using testing::HasSubstr;

std::string Description(std::string_view shape, std::string_view chunks, std::string_view more = "") {
  return fmt::format(R"({{"shape": {}, "chunks": {}, "dtype": "bfloat16", "compressor": null, "fill_value": null, )"
                     R"("filters": null, "order": "C", "zarr_format": 2{}}})",
                     shape, chunks, more);
}

// A tensor "w" of [3, 5] in chunks of [2, 2], whose edge chunks reach past it; element (r, c) is r * 16 + c + 1, the
// padding 0xFFFF.
class Zarr : public testing::Test {
 protected:
  void SetUp() override {
    root_.Write("metadata.json", R"({"sharded_backend": "zarr", "sharded_backend_version": 1})");
    root_.Write("w/.zarray", Description("[3, 5]", "[2, 2]"));
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 3; ++j) {
        root_.Write(fmt::format("w/{}.{}", i, j), Chunk(i * 2, j * 2));
      }
    }
    root_.Write("w._extra_state/shard_0_1.pt", "never read");
    root_.Write("optimizer.state.exp_avg.w/.zarray", "never read");
  }

  static std::string Chunk(int row, int column) {
    std::string bytes;
    for (int r = row; r < row + 2; ++r) {
      for (int c = column; c < column + 2; ++c) {
        const bool inside = r < 3 && c < 5;
        bytes += inside ? static_cast<char>(r * 16 + c + 1) : '\xFF';
        bytes += inside ? '\0' : '\xFF';
      }
    }
    return bytes;
  }

  absl::Status Status() { return ReadCheckpoint(root_.path(), {}).status(); }
  void Remove(const std::string& name) { std::filesystem::remove(root_ / name); }

  test::TemporaryDirectory root_;
};

TEST_F(Zarr, EdgeChunksAreCutToTheTensor) {
  const auto checkpoint = ReadCheckpoint(root_.path(), {});
  ASSERT_TRUE(checkpoint.ok()) << Describe(checkpoint.status());
  ASSERT_EQ((*checkpoint)->tensors.size(), 1U);
  const auto dense = test::ReadStored(**checkpoint, (*checkpoint)->tensors[0]);
  ASSERT_TRUE(dense.ok()) << Describe(dense.status());
  std::string expected;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 5; ++c) {
      expected += static_cast<char>(r * 16 + c + 1);
      expected += '\0';
    }
  }
  EXPECT_EQ(dense->bytes, expected);
  EXPECT_EQ(dense->dtype, "BF16");
  EXPECT_EQ(NameOf((*checkpoint)->format), "zarr");
  EXPECT_TRUE(CheckUnchanged(**checkpoint).ok());
}

TEST_F(Zarr, WhatIsNoWeightIsCountedAndNotOpened) {
  root_.Write("rng_state/shard_0_1.pt", "never read");
  root_.Write("tokenizer/tokenizer.json", "{}");
  const auto checkpoint = ReadCheckpoint(root_.path(), {});
  ASSERT_TRUE(checkpoint.ok()) << Describe(checkpoint.status());
  std::vector<std::string> reasons;
  for (const IgnoredEntries& entries : (*checkpoint)->ignored) {
    reasons.push_back(entries.reason);
  }
  EXPECT_THAT(reasons,
              testing::UnorderedElementsAre("optimizer state", "random number generator state",
                                            "extra state of Transformer Engine", "directories that hold no tensor"));
}

TEST_F(Zarr, ScalarsAndTensorsWithoutElementsHaveTheirOwnGrids) {
  root_.Write("scalar/.zarray", Description("[]", "[]"));
  root_.Write("scalar/0", "\x01\x02");
  root_.Write("empty/.zarray", Description("[0, 4]", "[1, 4]"));
  const auto checkpoint = ReadCheckpoint(root_.path(), {});
  ASSERT_TRUE(checkpoint.ok()) << Describe(checkpoint.status());
  EXPECT_EQ(test::ReadStored(**checkpoint, (*checkpoint)->tensors[1])->bytes, "\x01\x02");
  EXPECT_TRUE((*checkpoint)->tensors[0].pieces.empty());
}

TEST_F(Zarr, WrappersOfNamesAreTakenOff) {
  std::filesystem::rename(root_ / "w", root_ / "model.w");
  const auto checkpoint = ReadCheckpoint(root_.path(), {});
  ASSERT_TRUE(checkpoint.ok()) << Describe(checkpoint.status());
  EXPECT_EQ((*checkpoint)->tensors[0].name, "w");
  root_.Write("w/.zarray", Description("[0]", "[1]"));
  EXPECT_EQ(ReasonOf(Status()), Reason::kTensorDuplicated);
}

TEST_F(Zarr, AMissingChunkIsNamed) {
  Remove("w/1.1");
  const absl::Status status = Status();
  EXPECT_EQ(ReasonOf(status), Reason::kCheckpointCorrupt) << Describe(status);
  EXPECT_EQ(WhereOf(status).tensor, "w");
  EXPECT_EQ(WhereOf(status).file, root_ / "w/1.1");
}

TEST_F(Zarr, AChunkOfAnotherSizeIsNamed) {
  for (const std::string& content : {std::string(), std::string(7, 'x'), std::string(9, 'x')}) {
    root_.Write("w/0.1", content);
    const absl::Status status = Status();
    EXPECT_EQ(ReasonOf(status), Reason::kCheckpointCorrupt) << Describe(status);
    EXPECT_EQ(WhereOf(status).file, root_ / "w/0.1");
  }
}

TEST_F(Zarr, ChunksOutsideTheGridAreCorrupt) {
  root_.Write("w/2.0", Chunk(0, 0));
  EXPECT_EQ(ReasonOf(Status()), Reason::kCheckpointCorrupt);
}

TEST_F(Zarr, ChunksWithoutADescriptionAreCorrupt) {
  Remove("w/.zarray");
  const absl::Status status = Status();
  EXPECT_EQ(ReasonOf(status), Reason::kCheckpointCorrupt) << Describe(status);
  EXPECT_THAT(std::string(status.message()), HasSubstr(".zarray"));
}

TEST_F(Zarr, LinksThatLeadOutAreRefused) {
  const test::TemporaryDirectory outside;
  outside.Write("t/.zarray", Description("[1]", "[1]"));
  outside.Write("t/0", "xx");
  std::filesystem::create_directory_symlink(outside / "t", root_ / "linked");
  EXPECT_EQ(ReasonOf(Status()), Reason::kPathOutsideRoot);
  Remove("linked");
  Remove("w/0.0");
  std::filesystem::create_symlink(outside / "t/0", root_ / "w/0.0");
  EXPECT_EQ(ReasonOf(Status()), Reason::kPathOutsideRoot);
}

struct BadDescription {
  const char* name;
  std::string text;
  Reason reason;
  const char* message;
};

class BadZarrDescription : public testing::TestWithParam<BadDescription> {};

TEST_P(BadZarrDescription, IsRefusedWithReasonTensorAndFile) {
  const test::TemporaryDirectory root;
  root.Write("metadata.json", R"({"sharded_backend": "zarr"})");
  root.Write("w/.zarray", GetParam().text);
  const absl::Status status = ReadCheckpoint(root.path(), {}).status();
  EXPECT_EQ(ReasonOf(status), GetParam().reason) << Describe(status);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
  EXPECT_EQ(WhereOf(status).tensor, "w");
  EXPECT_THAT(WhereOf(status).file, testing::StartsWith(root / "w"));
}

std::string Replaced(std::string_view what, std::string_view with) {
  std::string text = Description("[4]", "[2]");
  text.replace(text.find(what), what.size(), with);
  return text;
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, BadZarrDescription,
    testing::Values(
        BadDescription{"empty", "", Reason::kCheckpointCorrupt, "JSON"},
        BadDescription{"cut", R"({"shape": [4)", Reason::kCheckpointCorrupt, "JSON"},
        BadDescription{"list", "[]", Reason::kCheckpointCorrupt, "JSON"},
        BadDescription{"nan", Description("[NaN]", "[2]"), Reason::kCheckpointCorrupt, "JSON"},
        BadDescription{"deep", std::string(100'000, '['), Reason::kCheckpointCorrupt, "JSON"},
        BadDescription{"compressor", Replaced(R"("compressor": null)", R"("compressor": {"id": "blosc"})"),
                       Reason::kCheckpointUnsupported, "blosc"},
        BadDescription{"filters", Replaced(R"("filters": null)", R"("filters": [{"id": "delta"}])"),
                       Reason::kCheckpointUnsupported, "delta"},
        BadDescription{"order", Replaced(R"("order": "C")", R"("order": "F")"), Reason::kCheckpointUnsupported, "F"},
        BadDescription{"separator", Description("[4]", "[2]", R"(, "dimension_separator": "/")"),
                       Reason::kCheckpointUnsupported, "/"},
        BadDescription{"version", Replaced(R"("zarr_format": 2)", R"("zarr_format": 3)"),
                       Reason::kCheckpointUnsupported, "3"},
        BadDescription{"big_endian", Replaced(R"("bfloat16")", R"(">f4")"), Reason::kCheckpointUnsupported, ">f4"},
        BadDescription{"records", Replaced(R"("bfloat16")", R"([["a", "<f4"]])"), Reason::kCheckpointUnsupported,
                       "type"},
        BadDescription{"negative", Description("[-4]", "[2]"), Reason::kCheckpointCorrupt, "negative"},
        BadDescription{"fraction", Description("[4.5]", "[2]"), Reason::kCheckpointCorrupt, "integer"},
        BadDescription{"over_64_bits", Description("[18446744073709551615]", "[2]"), Reason::kCheckpointCorrupt,
                       "64-bit"},
        BadDescription{"text", Description(R"(["4"])", "[2]"), Reason::kCheckpointCorrupt, "integer"},
        BadDescription{"no_shape", Replaced(R"("shape": [4], )", ""), Reason::kCheckpointCorrupt, "shape"},
        BadDescription{"ranks_differ", Description("[4, 4]", "[2]"), Reason::kCheckpointCorrupt, "rank"},
        BadDescription{"many_axes", Description("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[1]"),
                       Reason::kCheckpointCorrupt, "list"},
        BadDescription{"chunk_of_nothing", Description("[4]", "[0]"), Reason::kCheckpointCorrupt, "without elements"},
        BadDescription{"huge_shape", Description("[4611686018427387904, 4]", "[1, 4]"), Reason::kCheckpointCorrupt,
                       "larger"},
        BadDescription{"huge_chunk", Description("[4]", "[9223372036854775807]"), Reason::kCheckpointCorrupt, "larger"},
        BadDescription{"many_chunks", Description("[1000000000000]", "[1]"), Reason::kLimitExceeded, "1000000"},
        BadDescription{"no_files", Description("[1000000]", "[1]"), Reason::kCheckpointCorrupt, "not there"}),
    [](const auto& kind) { return kind.param.name; });

TEST(ZarrFixture, AssembledElementByElementIsItsIndependentGolden) {
  const std::string fixture = std::string(SLIPWAY_TEST_DATA) + "/checkpoints/zarr_core0.8_llama3_tp2_pp1";
  const auto checkpoint = ReadCheckpoint(fixture, {});
  ASSERT_TRUE(checkpoint.ok()) << Describe(checkpoint.status());
  EXPECT_EQ(test::CompareWithGolden(**checkpoint, fixture + "/golden_hf"), "");
  EXPECT_EQ((*checkpoint)->iteration, 200);
  EXPECT_EQ((*checkpoint)->layout.tensor, 2);
}

}  // namespace
}  // namespace slipway::engine
