// Directories that torch.distributed.checkpoint wrote without Megatron-Core: Megatron-FSDP's and FSDP2's.
#include <algorithm>
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/brute_force.h"
#include "tests/support/checkpoint_builder.h"
#include "tests/support/temporary_directory.h"
#include "worker/engine/checkpoint/arguments.h"
#include "worker/engine/checkpoint/checkpoint.h"

namespace slipway::engine {
namespace {

using test::Damage;

std::string Fixture(const std::string& name) { return std::string(SLIPWAY_TEST_DATA) + "/checkpoints/" + name; }

std::shared_ptr<const Checkpoint> Read(const std::string& path) {
  auto checkpoint = ReadCheckpoint(path, {});
  EXPECT_TRUE(checkpoint.ok()) << Describe(checkpoint.status());
  return checkpoint.ok() ? *checkpoint : nullptr;
}

TEST(PlainDist, TorchDcpAssembledIsItsIndependentGolden) {
  const auto checkpoint = Read(Fixture("torch-dcp_qwen3_fsdp2_dp2"));
  ASSERT_NE(checkpoint, nullptr);
  EXPECT_EQ(NameOf(checkpoint->format), "torch_dcp");
  EXPECT_EQ(test::CompareWithGolden(*checkpoint, Fixture("torch-dcp_qwen3_fsdp2_dp2") + "/golden_hf"), "");
}

// The main weights are FP32 whose values are exact in BF16: the golden's bytes are their upper halves.
TEST(PlainDist, FsdpMainWeightsAreThoseOfItsIndependentGolden) {
  const std::string path = Fixture("fsdp-dtensor_llama3_dp3");
  const auto checkpoint = Read(path);
  ASSERT_NE(checkpoint, nullptr);
  EXPECT_EQ(NameOf(checkpoint->format), "fsdp_dtensor");
  const auto canonical = Canonicalize(*checkpoint);
  ASSERT_TRUE(canonical.ok()) << Describe(canonical.status());
  std::map<std::string, test::DenseTensor> halves;
  for (const auto& [name, tensor] : *canonical) {
    auto dense = test::ReadCanonical(*checkpoint, tensor);
    ASSERT_TRUE(dense.ok()) << Describe(dense.status());
    ASSERT_EQ(dense->dtype, "F32") << name;
    test::DenseTensor& half = halves[name];
    half = {"BF16", dense->shape, {}};
    for (std::size_t i = 0; i < dense->bytes.size(); i += 4) {
      ASSERT_EQ(dense->bytes.substr(i, 2), std::string(2, '\0')) << name;
      half.bytes += dense->bytes.substr(i + 2, 2);
    }
  }
  auto exported = test::ToHuggingFace(halves, test::ReadHeads(path + "/golden_hf"));
  const auto golden = test::ReadSafetensors(path + "/golden_hf/model.safetensors");
  ASSERT_EQ(exported.size(), golden.size());
  for (const auto& [name, expected] : golden) {
    ASSERT_TRUE(exported.contains(name)) << name;
    EXPECT_EQ(test::FirstRows(exported[name], expected.shape[0]), expected) << name;
  }
}

TEST(PlainDist, TheArgumentsAreEntriesOfTheirOwn) {
  for (const char* name : {"fsdp-dtensor_llama3_dp3", "torch-dcp_qwen3_fsdp2_dp2"}) {
    const auto checkpoint = Read(Fixture(name));
    ASSERT_NE(checkpoint, nullptr);
    EXPECT_EQ(StringArgument(*checkpoint->arguments, "params_dtype"), "torch.bfloat16");
    EXPECT_EQ(checkpoint->checkpoint_version, 3.0);
    EXPECT_EQ(checkpoint->layout.tensor, 1);
    EXPECT_NE(std::ranges::find(checkpoint->ignored, "random number generator state", &IgnoredEntries::reason),
              checkpoint->ignored.end());
  }
}

TEST(PlainDist, TheNamesOfTheWeightsTellTheFormat) {
  const test::TemporaryDirectory root;
  test::WriteLlamaCheckpoint(root / "fsdp", {.tensor_ranks = 2, .prefix = "model.module.", .plain = true});
  test::WriteLlamaCheckpoint(root / "dcp", {.tensor_ranks = 1, .prefix = "model.", .plain = true});
  const auto fsdp = Read(root / "fsdp");
  const auto dcp = Read(root / "dcp");
  ASSERT_TRUE(fsdp && dcp);
  EXPECT_EQ(NameOf(fsdp->format), "fsdp_dtensor");
  EXPECT_EQ(fsdp->writer, "Megatron-FSDP");
  EXPECT_EQ(fsdp->layout.tensor, 2);
  EXPECT_EQ(NameOf(dcp->format), "torch_dcp");
  EXPECT_EQ(IntegerArgument(*dcp->arguments, "num_layers"), 2);
}

TEST(PlainDist, TorchDcpOfRanksThatOverwroteEachOtherIsRefused) {
  for (const auto& [tensor, pipeline] : {std::pair(2, 1), std::pair(1, 2)}) {
    const test::TemporaryDirectory root;
    test::WriteLlamaCheckpoint(root.path(),
                               {.tensor_ranks = tensor, .prefix = "model.", .plain = true, .pipeline_ranks = pipeline});
    const absl::Status status = ReadCheckpoint(root.path(), {}).status();
    EXPECT_EQ(ReasonOf(status), Reason::kCheckpointUnsupported) << Describe(status);
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("parallelism"));
    EXPECT_THAT(WhereOf(status).file, testing::EndsWith(".metadata"));
  }
}

TEST(PlainDist, BlocksWithoutElementsAreNoPieces) {
  const test::TemporaryDirectory root;
  test::WriteLlamaCheckpoint(root.path(), {.prefix = "model.module.", .plain = true, .damage = Damage::kEmptyBlocks});
  const auto checkpoint = Read(root.path());
  ASSERT_NE(checkpoint, nullptr);
  for (const StoredTensor& tensor : checkpoint->tensors) {
    for (const Piece& piece : tensor.pieces) {
      EXPECT_EQ(std::ranges::count(piece.sizes, 0), 0) << tensor.name;
    }
    EXPECT_TRUE(test::ReadStored(*checkpoint, tensor).ok()) << tensor.name;
  }
}

struct Expectation {
  Damage damage;
  Reason reason;
};

class DamagedPlainDist : public testing::TestWithParam<Expectation> {};

TEST_P(DamagedPlainDist, IsRefusedWithReasonAndFile) {
  const test::TemporaryDirectory root;
  test::WriteLlamaCheckpoint(root.path(), {.prefix = "model.module.", .plain = true, .damage = GetParam().damage});
  const absl::Status status = ReadCheckpoint(root.path(), {}).status();
  EXPECT_EQ(ReasonOf(status), GetParam().reason) << Describe(status);
  EXPECT_NE(WhereOf(status).file, "");
}

INSTANTIATE_TEST_SUITE_P(Kinds, DamagedPlainDist,
                         testing::Values(Expectation{Damage::kMissingPiece, Reason::kCheckpointCorrupt},
                                         Expectation{Damage::kMissingChunk, Reason::kCheckpointCorrupt},
                                         Expectation{Damage::kOverlap, Reason::kCheckpointCorrupt},
                                         Expectation{Damage::kOverlapBehindEmptyBlocks, Reason::kCheckpointCorrupt},
                                         Expectation{Damage::kGlobalSizeLie, Reason::kCheckpointCorrupt},
                                         Expectation{Damage::kNegativeSize, Reason::kCheckpointCorrupt},
                                         Expectation{Damage::kHugeSize, Reason::kCheckpointCorrupt},
                                         Expectation{Damage::kPastEnd, Reason::kCheckpointCorrupt},
                                         Expectation{Damage::kMissingFile, Reason::kCheckpointNotFound},
                                         Expectation{Damage::kPathEscape, Reason::kPathOutsideRoot},
                                         Expectation{Damage::kForbiddenGlobal, Reason::kPickleForbiddenGlobal},
                                         Expectation{Damage::kForbiddenGlobalInCommon,
                                                     Reason::kPickleForbiddenGlobal}));

// NeMo 2 keeps a distributed checkpoint in weights/, each name with "module." before it.
TEST(NeMo, WeightsAreReadAndTheMissingConfigurationIsNamed) {
  const test::TemporaryDirectory root;
  test::WriteLlamaCheckpoint(root / "run", {.prefix = "module.", .damage = Damage::kForbiddenGlobalInCommon});
  std::filesystem::create_directory(root / "nemo2");
  std::filesystem::rename(root / "run/iter_0000100", root / "nemo2/weights");
  root.Write("nemo2/context/model.yaml", "");
  const auto checkpoint = Read(root / "nemo2");
  ASSERT_NE(checkpoint, nullptr);
  EXPECT_THAT(checkpoint->writer, testing::StartsWith("NeMo 2"));
  EXPECT_EQ(checkpoint->path, root / "nemo2/weights");
  EXPECT_EQ(checkpoint->root->path(), root / "nemo2");
  EXPECT_TRUE(checkpoint->arguments->empty());
  EXPECT_EQ(checkpoint->tensors.front().name, "decoder.final_layernorm.weight");
  std::filesystem::rename(root / "nemo2/weights", root / "nemo2/model_weights");
  const auto older = Read(root / "nemo2");
  ASSERT_NE(older, nullptr);
  EXPECT_THAT(older->writer, testing::StartsWith("NeMo 1"));
}

}  // namespace
}  // namespace slipway::engine
