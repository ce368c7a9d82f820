#include "worker/engine/checkpoint/torch_dist.h"

#include <algorithm>
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/brute_force.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/temporary_directory.h"
#include "worker/engine/checkpoint/archive.h"
#include "worker/engine/checkpoint/checkpoint.h"

namespace slipway::engine {
namespace {

using test::Damage;

std::string Fixture(const std::string& name) { return std::string(SLIPWAY_TEST_DATA) + "/checkpoints/" + name; }

class TorchDistFixture : public testing::TestWithParam<const char*> {};

TEST_P(TorchDistFixture, AssembledElementByElementIsItsIndependentGolden) {
  const auto checkpoint = ReadCheckpoint(Fixture(GetParam()), {});
  ASSERT_TRUE(checkpoint.ok()) << Describe(checkpoint.status());
  EXPECT_EQ(test::CompareWithGolden(**checkpoint, Fixture(GetParam()) + "/golden_hf"), "");
  EXPECT_TRUE(CheckUnchanged(**checkpoint).ok());
}

INSTANTIATE_TEST_SUITE_P(Layouts, TorchDistFixture,
                         testing::Values("llama3_tp2_pp2_torch_dist", "llama-tied_tp1_pp2_nonhomogeneous_torch_dist",
                                         "qwen3_tp2_pp2_mcore014_torch_dist", "mistral_tp1_pp1_fp16_torch_dist",
                                         "llama2_tp4_pp1_padded-vocab_torch_dist",
                                         "llama3_tp2_pp1_dp2_optimizer_torch_dist", "core0.12_llama3_tp2_pp1"),
                         [](const auto& fixture) {
                           std::string name = fixture.param;
                           std::ranges::replace_if(
                               name, [](char c) { return c == '-' || c == '.'; }, '_');
                           return name;
                         });

TEST(TorchDist, OptimizerStateIsCountedAndNotRead) {
  const auto checkpoint = ReadCheckpoint(Fixture("llama3_tp2_pp1_dp2_optimizer_torch_dist"), {});
  ASSERT_TRUE(checkpoint.ok()) << Describe(checkpoint.status());
  const auto optimizer = std::ranges::find((*checkpoint)->ignored, "optimizer state", &IgnoredEntries::reason);
  ASSERT_NE(optimizer, (*checkpoint)->ignored.end());
  EXPECT_GT(optimizer->count, 0);
  EXPECT_GT(optimizer->bytes, 0);
}

// What reading must say of each kind of damage that metadata alone shows.
struct Expectation {
  Damage damage;
  Reason reason;
  const char* tensor;   // a part of the tensor's name; "" where none is concerned
  const char* file;     // the end of the file's name
  const char* message;  // a part
};

class DamagedTorchDist : public testing::TestWithParam<Expectation> {};

TEST_P(DamagedTorchDist, IsRefusedWithReasonTensorAndFile) {
  const test::TemporaryDirectory root;
  test::WriteLlamaCheckpoint(root.path(), {.damage = GetParam().damage});
  const absl::Status status = ReadCheckpoint(root.path(), {}).status();
  EXPECT_EQ(ReasonOf(status), GetParam().reason) << Describe(status);
  EXPECT_THAT(WhereOf(status).tensor, testing::HasSubstr(GetParam().tensor));
  EXPECT_THAT(WhereOf(status).file, testing::EndsWith(GetParam().file));
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, DamagedTorchDist,
    testing::Values(Expectation{Damage::kMissingPiece, Reason::kCheckpointCorrupt, "w", ".metadata", "where"},
                    Expectation{Damage::kMissingChunk, Reason::kCheckpointCorrupt, "w", ".metadata", ""},
                    Expectation{Damage::kOverlap, Reason::kCheckpointCorrupt, "w", ".metadata", ""},
                    Expectation{Damage::kGlobalSizeLie, Reason::kCheckpointCorrupt, "w", ".metadata", "elements"},
                    Expectation{Damage::kNegativeSize, Reason::kCheckpointCorrupt, "", ".metadata", "negative"},
                    Expectation{Damage::kHugeSize, Reason::kCheckpointCorrupt, "w", "", ""},
                    Expectation{Damage::kPastEnd, Reason::kCheckpointCorrupt, "w", ".distcp", "outside its file"},
                    Expectation{Damage::kTruncatedData, Reason::kCheckpointCorrupt, "", ".distcp", ""},
                    Expectation{Damage::kTruncatedMetadata, Reason::kCheckpointCorrupt, "", ".metadata", "cut short"},
                    Expectation{Damage::kMissingFile, Reason::kCheckpointNotFound, "", ".distcp", ""},
                    Expectation{Damage::kForbiddenGlobal, Reason::kPickleForbiddenGlobal, "", ".metadata", "os.system"},
                    Expectation{Damage::kForbiddenGlobalInCommon, Reason::kPickleForbiddenGlobal, "", "", "os.system"},
                    Expectation{Damage::kPathEscape, Reason::kPathOutsideRoot, "", ".metadata", "../x"},
                    Expectation{Damage::kAbsolutePath, Reason::kPathOutsideRoot, "", ".metadata", "/etc/passwd"}));

// Damage that shows when a piece is located.
class DamagedItem : public testing::TestWithParam<Damage> {};

TEST_P(DamagedItem, IsRefusedWhenItIsLocatedWithTensorFileAndOffset) {
  const test::TemporaryDirectory root;
  test::WriteLlamaCheckpoint(root.path(), {.damage = GetParam()});
  const auto checkpoint = ReadCheckpoint(root.path(), {});
  absl::Status status = checkpoint.status();
  if (checkpoint.ok()) {
    for (const StoredTensor& tensor : (*checkpoint)->tensors) {
      for (const Piece& piece : tensor.pieces) {
        status.Update(LocateElements(**checkpoint, tensor, piece).status());
      }
    }
  }
  EXPECT_EQ(ReasonOf(status), Reason::kCheckpointCorrupt) << Describe(status);
  EXPECT_NE(WhereOf(status).tensor, "");
  EXPECT_THAT(WhereOf(status).file, testing::EndsWith(".distcp"));
  EXPECT_TRUE(WhereOf(status).offset.has_value());
}

INSTANTIATE_TEST_SUITE_P(Kinds, DamagedItem,
                         testing::Values(Damage::kWrongDtype, Damage::kShortLength, Damage::kItemShapeLie));

TEST(Checkpoint, AChangedFileIsNamed) {
  const test::TemporaryDirectory root;
  test::WriteLlamaCheckpoint(root.path(), {});
  const auto checkpoint = ReadCheckpoint(root.path(), {});
  ASSERT_TRUE(checkpoint.ok()) << Describe(checkpoint.status());
  ASSERT_TRUE(CheckUnchanged(**checkpoint).ok());
  const std::string file = root / "iter_0000100/__1_0.distcp";
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 1);
  const absl::Status status = CheckUnchanged(**checkpoint);
  EXPECT_EQ(ReasonOf(status), Reason::kCheckpointChanged);
  EXPECT_EQ(WhereOf(status).file, file);
}

TEST(Checkpoint, OtherFormatsAreNamed) {
  const test::TemporaryDirectory root;
  root.Write("other/metadata.json", R"({"sharded_backend": "fpx"})");
  root.Write("two/metadata.json", R"({"sharded_backend": "torch_dist"})");
  root.Write("two/mp_rank_00/model_optim_rng.pt", "");
  root.Write("plain/.metadata", "");
  root.Write("plain/mp_rank_00/model_optim_rng.pt", "");
  root.Write("broken/metadata.json", "{");
  root.Write("empty/readme", "");
  EXPECT_EQ(ReasonOf(ReadCheckpoint(root / "other", {}).status()), Reason::kCheckpointUnsupported);
  EXPECT_EQ(ReasonOf(ReadCheckpoint(root / "two", {}).status()), Reason::kCheckpointUnsupported);
  EXPECT_EQ(ReasonOf(ReadCheckpoint(root / "plain", {}).status()), Reason::kCheckpointUnsupported);
  EXPECT_EQ(ReasonOf(ReadCheckpoint(root / "broken", {}).status()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(ReasonOf(ReadCheckpoint(root / "empty", {}).status()), Reason::kCheckpointNotFound);
}

}  // namespace
}  // namespace slipway::engine
