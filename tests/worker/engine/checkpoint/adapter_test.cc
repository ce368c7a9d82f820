#include "worker/engine/checkpoint/adapter.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "common/error.h"
#include "tests/support/temporary_directory.h"

namespace slipway::engine {
namespace {

namespace fs = std::filesystem;

class JoinedAdapter : public testing::Test {
 protected:
  JoinedAdapter() {
    fs::copy(SLIPWAY_TEST_DATA "/adapters/bridge-lora_llama3_tp2_pp1", directory_ / "f", fs::copy_options::recursive);
    auto base = ReadCheckpoint(directory_ / "f/base", {});
    EXPECT_TRUE(base.ok()) << Describe(base.status());
    base_ = *base;
  }
  [[nodiscard]] AdaptedCheckpoint Join(bool alone) const {
    auto joined = JoinAdapter(*base_, directory_ / "f/adapter", alone);
    EXPECT_TRUE(joined.ok()) << Describe(joined.status());
    return *std::move(joined);
  }

  test::TemporaryDirectory directory_;
  std::shared_ptr<const Checkpoint> base_;
};

TEST_F(JoinedAdapter, TheBaseKeepsItsPlacesAndTheAdapterFollows) {
  const AdaptedCheckpoint joined = Join(false);
  ASSERT_EQ(joined.checkpoint->tensors.size(), base_->tensors.size() + 8);
  for (std::size_t i = 0; i < base_->tensors.size(); ++i) {
    EXPECT_EQ(joined.checkpoint->tensors[i].name, base_->tensors[i].name);
  }
  for (const auto& [name, tensor] : joined.tensors) {
    const StoredTensor& stored = joined.checkpoint->tensors.at(static_cast<std::size_t>(tensor.parts[0].stored));
    EXPECT_TRUE(stored.name.starts_with("adapter:decoder.layers.")) << name;
    for (const Piece& piece : stored.pieces) {
      const CheckpointFile& file = joined.checkpoint->files.at(static_cast<std::size_t>(piece.file));
      EXPECT_NE(file.file->name().find("iter_0000040"), std::string::npos) << file.file->name();
    }
  }
  EXPECT_EQ(joined.tensors.size(), 3U * 4 * 2);
  EXPECT_EQ(joined.settings.rank, 8);
  EXPECT_EQ(joined.settings.Scale(), 4);
}

TEST_F(JoinedAdapter, AloneTheBasesWeightsAreStatedAsIgnored) {
  const AdaptedCheckpoint joined = Join(true);
  EXPECT_EQ(joined.checkpoint->tensors.size(), 8U);
  const auto found =
      std::ranges::find(joined.checkpoint->ignored, "weights of the adapter's base", &IgnoredEntries::reason);
  ASSERT_NE(found, joined.checkpoint->ignored.end());
  EXPECT_EQ(found->count, static_cast<std::int64_t>(base_->tensors.size()));
}

TEST_F(JoinedAdapter, AChangedFileOfEitherIsNoticed) {
  for (const std::string file : {"adapter/iter_0000040/__1_0.distcp", "base/iter_0000000/__1_0.distcp"}) {
    const AdaptedCheckpoint joined = Join(false);
    EXPECT_TRUE(CheckUnchanged(*joined.checkpoint).ok());
    const fs::path path = directory_ / ("f/" + file);
    fs::last_write_time(path, fs::last_write_time(path) + std::chrono::seconds(3));
    const absl::Status status = CheckUnchanged(*joined.checkpoint);
    EXPECT_EQ(ReasonOf(status), Reason::kCheckpointChanged) << file;
    EXPECT_NE(WhereOf(status).file.find(file), std::string::npos) << Describe(status);
  }
}

}  // namespace
}  // namespace slipway::engine
