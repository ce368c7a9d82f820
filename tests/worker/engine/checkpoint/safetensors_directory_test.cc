#include "worker/engine/checkpoint/safetensors_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "common/error.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temporary_directory.h"

namespace slipway::engine {
namespace {

using test::SafetensorsFile;
using testing::HasSubstr;

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";

std::string IndexOf(const std::string& map) { return R"({"metadata":{"total_size":6},"weight_map":{)" + map + "}}"; }

class SafetensorsDirectory : public testing::Test {
 protected:
  void SetUp() override { directory_.Write("config.json", R"({"model_type":"m","transformers_version":"5.1"})"); }

  // a [2] U8 and b [3] I8 in two files, and an index of them.
  void WriteSharded() {
    directory_.Write(kFirst, SafetensorsFile({{"a", "U8", {2}, "AB"}}));
    directory_.Write(kSecond, SafetensorsFile({{"b", "I8", {3}, "CDE"}}));
    directory_.Write(kIndex,
                     IndexOf(R"("a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors")"));
  }
  absl::StatusOr<std::shared_ptr<const Checkpoint>> Read() { return ReadCheckpoint(directory_.path(), {}); }
  void ExpectRefused(Reason reason, const std::string& tensor, const std::string& file, const std::string& words = "") {
    const absl::Status status = Read().status();
    EXPECT_EQ(ReasonOf(status), reason) << Describe(status);
    EXPECT_EQ(WhereOf(status).tensor, tensor) << Describe(status);
    EXPECT_THAT(WhereOf(status).file, testing::EndsWith("/" + file)) << Describe(status);
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
  }

  test::TemporaryDirectory directory_;
};

TEST_F(SafetensorsDirectory, OneFileIsOnePieceATensorWhereItsBytesLie) {
  const std::string file =
      SafetensorsFile({{"z", "BF16", {1, 2}, "wxyz"}, {"scalar", "F32", {}, "1234"}, {"empty", "F16", {0, 3}, ""}});
  directory_.Write("model.safetensors", file);
  const auto checkpoint = Read();
  ASSERT_TRUE(checkpoint.ok()) << Describe(checkpoint.status());
  EXPECT_EQ(NameOf((*checkpoint)->format), "huggingface");
  EXPECT_EQ((*checkpoint)->writer, "transformers 5.1");
  ASSERT_EQ((*checkpoint)->tensors.size(), 3U);
  EXPECT_EQ((*checkpoint)->tensors[0].name, "empty");
  const StoredTensor& z = (*checkpoint)->tensors[2];
  EXPECT_EQ(z.name, "z");
  EXPECT_EQ(z.dtype, DType::kBF16);
  EXPECT_EQ(z.shape, (Shape{1, 2}));
  ASSERT_EQ(z.pieces.size(), 1U);
  EXPECT_EQ(z.pieces[0].position, static_cast<std::int64_t>(file.size()) - 8);
  EXPECT_EQ(z.pieces[0].length, 4);
  EXPECT_FALSE(z.pieces[0].in_archive);
}

TEST_F(SafetensorsDirectory, AnIndexNamesTheFiles) {
  WriteSharded();
  const auto checkpoint = Read();
  ASSERT_TRUE(checkpoint.ok()) << Describe(checkpoint.status());
  ASSERT_EQ((*checkpoint)->files.size(), 2U);
  EXPECT_EQ((*checkpoint)->files[1].name, kSecond);
  ASSERT_EQ((*checkpoint)->tensors.size(), 2U);
  EXPECT_EQ((*checkpoint)->tensors[1].pieces[0].file, 1);
  EXPECT_TRUE(CheckUnchanged(**checkpoint).ok());
}

TEST_F(SafetensorsDirectory, ATensorOfTheIndexMustBeInItsFile) {
  WriteSharded();
  directory_.Write(kIndex, IndexOf(R"("a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors",
                                      "c":"model-00002-of-00002.safetensors")"));
  ExpectRefused(Reason::kTensorMissing, "c", kSecond, "the index names it");
  directory_.Write(kIndex, IndexOf(R"("a":"model-00002-of-00002.safetensors","b":"model-00001-of-00002.safetensors")"));
  ExpectRefused(Reason::kTensorMissing, "a", kSecond, kFirst);
}

TEST_F(SafetensorsDirectory, ATensorOfAFileMustBeInTheIndex) {
  WriteSharded();
  directory_.Write(kSecond, SafetensorsFile({{"b", "I8", {3}, "CDE"}, {"extra", "U8", {1}, "F"}}));
  ExpectRefused(Reason::kTensorUnknown, "extra", kSecond);
}

TEST_F(SafetensorsDirectory, ATensorInTwoFilesIsRefused) {
  WriteSharded();
  directory_.Write(kSecond, SafetensorsFile({{"a", "U8", {2}, "AB"}, {"b", "I8", {3}, "CDE"}}));
  ExpectRefused(Reason::kTensorDuplicated, "a", kFirst, kSecond);
}

TEST_F(SafetensorsDirectory, AnIndexThatNamesATensorTwiceIsRefused) {
  WriteSharded();
  directory_.Write(kIndex, IndexOf(R"("a":"model-00001-of-00002.safetensors","a":"model-00002-of-00002.safetensors",
                                      "b":"model-00002-of-00002.safetensors")"));
  ExpectRefused(Reason::kCheckpointCorrupt, "a", kIndex, "twice");
}

TEST_F(SafetensorsDirectory, AMissingFileIsRefused) {
  WriteSharded();
  std::filesystem::remove(directory_ / kSecond);
  ExpectRefused(Reason::kCheckpointCorrupt, "b", kSecond, "missing");
}

TEST_F(SafetensorsDirectory, APartThatTheIndexDoesNotNameIsRefusedAndOtherFilesAreListed) {
  WriteSharded();
  directory_.Write("consolidated.safetensors", "anything");
  const auto checkpoint = Read();
  ASSERT_TRUE(checkpoint.ok()) << Describe(checkpoint.status());
  ASSERT_EQ((*checkpoint)->ignored.size(), 1U);
  EXPECT_THAT((*checkpoint)->ignored[0].examples, testing::ElementsAre("consolidated.safetensors"));
  directory_.Write("model-00003-of-00003.safetensors", SafetensorsFile({{"c", "U8", {1}, "F"}}));
  ExpectRefused(Reason::kCheckpointCorrupt, "", "model-00003-of-00003.safetensors");
}

TEST_F(SafetensorsDirectory, SeveralFilesWithoutAnIndexAreRefused) {
  WriteSharded();
  std::filesystem::remove(directory_ / kIndex);
  ExpectRefused(Reason::kCheckpointCorrupt, "", kIndex);
  directory_.Write("model.safetensors", SafetensorsFile({{"a", "U8", {2}, "AB"}}));
  ExpectRefused(Reason::kCheckpointCorrupt, "", kFirst);
}

TEST_F(SafetensorsDirectory, AnIndexThatIsNoneIsRefused) {
  WriteSharded();
  for (const char* text :
       {"", "[]", "{}", R"({"weight_map":{}})", R"({"weight_map":[]})", "{\"weight_map\":{\"\xff\":1}}"}) {
    directory_.Write(kIndex, text);
    ExpectRefused(Reason::kCheckpointCorrupt, "", kIndex);
  }
  for (const char* home : {"7", R"("a.bin")", "null"}) {
    directory_.Write(kIndex, IndexOf(std::string("\"a\":") + home));
    ExpectRefused(Reason::kCheckpointCorrupt, "a", kIndex);
  }
  directory_.Write(kIndex, R"({"weight_map":)" + std::string(100'000, '['));
  ExpectRefused(Reason::kCheckpointCorrupt, "", kIndex);
}

TEST_F(SafetensorsDirectory, AnIndexThatLeadsOutIsRefused) {
  WriteSharded();
  for (const char* home : {"../other/model.safetensors", "/etc/model.safetensors", "below/model.safetensors"}) {
    directory_.Write(kIndex, IndexOf(std::string(R"("a":")") + home + "\""));
    ExpectRefused(Reason::kPathOutsideRoot, "a", kIndex);
  }
}

TEST_F(SafetensorsDirectory, AFileThatIsALinkOutIsRefused) {
  const test::TemporaryDirectory elsewhere;
  elsewhere.Write("w", SafetensorsFile({{"a", "U8", {2}, "AB"}}));
  std::filesystem::create_symlink(elsewhere / "w", directory_ / "model.safetensors");
  ExpectRefused(Reason::kPathOutsideRoot, "", "model.safetensors");
}

TEST_F(SafetensorsDirectory, ALyingHeaderIsRefusedByFileAndTensor) {
  std::string file = SafetensorsFile({{"a", "U8", {2}, "AB"}, {"b", "I8", {3}, "CDE"}});
  directory_.Write("model.safetensors", file.substr(0, file.size() - 1));
  ExpectRefused(Reason::kCheckpointCorrupt, "", "model.safetensors");
  directory_.Write("model.safetensors", SafetensorsFile({{"a", "F32", {2}, "AB"}}));
  ExpectRefused(Reason::kCheckpointCorrupt, "a", "model.safetensors", "F32");
  directory_.Write("model.safetensors", SafetensorsFile({{"a", "U8", {2}, "AB"}, {"a", "U8", {1}, "C"}}));
  ExpectRefused(Reason::kCheckpointCorrupt, "a", "model.safetensors", "twice");
  directory_.Write("model.safetensors", SafetensorsFile({}));
  ExpectRefused(Reason::kCheckpointCorrupt, "", "model.safetensors", "no tensors");
}

TEST_F(SafetensorsDirectory, PickledWeightsAreRefusedWithWhatToDo) {
  directory_.Write("pytorch_model-00001-of-00002.bin", "x");
  ExpectRefused(Reason::kCheckpointUnsupported, "", "pytorch_model-00001-of-00002.bin", "safe_serialization");
}

TEST_F(SafetensorsDirectory, ADirectoryThatLacksConfigOrWeightsOrAModelIsRefused) {
  ExpectRefused(Reason::kCheckpointNotFound, "", "config.json", "no safetensors files");
  directory_.Write("model.safetensors", SafetensorsFile({{"a", "U8", {2}, "AB"}}));
  directory_.Write("config.json", "[]");
  ExpectRefused(Reason::kConfigurationInvalid, "", "config.json");
  directory_.Write("config.json", R"({"a":)" + std::string(100, '[') + std::string(100, ']') + "}");
  ExpectRefused(Reason::kConfigurationInvalid, "", "config.json", "deep");
  std::filesystem::remove(directory_ / "config.json");
  ExpectRefused(Reason::kCheckpointNotFound, "", "config.json", "no config.json");
  directory_.Write("adapter_config.json", "{}");
  ExpectRefused(Reason::kCheckpointUnsupported, "", "adapter_config.json");
}

TEST(SafetensorsHub, ASnapshotOfTheHubsCacheMayLinkToItsBlobsOnly) {
  const test::TemporaryDirectory cache;
  cache.Write("repository/blobs/w", SafetensorsFile({{"a", "U8", {2}, "AB"}}));
  cache.Write("repository/blobs/c", "{}");
  cache.Write("other/blobs/w", SafetensorsFile({{"a", "U8", {2}, "AB"}}));
  const std::string snapshot = cache / "repository/snapshots/123";
  std::filesystem::create_directories(snapshot);
  std::filesystem::create_symlink("../../blobs/c", snapshot + "/config.json");
  std::filesystem::create_symlink("../../blobs/w", snapshot + "/model.safetensors");
  const auto checkpoint = ReadCheckpoint(snapshot, {});
  ASSERT_TRUE(checkpoint.ok()) << Describe(checkpoint.status());
  EXPECT_EQ((*checkpoint)->tensors.size(), 1U);
  EXPECT_TRUE(CheckUnchanged(**checkpoint).ok());
  std::filesystem::remove(snapshot + "/model.safetensors");
  std::filesystem::create_symlink("../../../other/blobs/w", snapshot + "/model.safetensors");
  EXPECT_EQ(ReasonOf(ReadCheckpoint(snapshot, {}).status()), Reason::kPathOutsideRoot);
}

}  // namespace
}  // namespace slipway::engine
