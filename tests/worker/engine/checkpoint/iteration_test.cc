#include "worker/engine/checkpoint/iteration.h"

#include <cstring>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/pickle_writer.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/torch_writer.h"

namespace slipway::engine {
namespace {

constexpr const char* kTracker = "latest_checkpointed_iteration.txt";
constexpr const char* kStateTracker = "latest_train_state.pt";

class Iteration : public testing::Test {
 protected:
  void SetUp() override {
    root_.Write("iter_0000100/metadata.json", "{}");
    root_.Write("iter_0000200/metadata.json", "{}");
    root_.Write("release/metadata.json", "{}");
  }
  test::TemporaryDirectory root_;
};

TEST_F(Iteration, TheTrackerDecides) {
  root_.Write(kTracker, " 100\n");
  const auto found = FindIteration(root_.path(), {});
  ASSERT_TRUE(found.ok()) << Describe(found.status());
  EXPECT_EQ(found->iteration, 100);
  EXPECT_EQ(found->directory->path(), root_ / "iter_0000100");
  EXPECT_EQ(found->root->path(), root_.path());
}

TEST_F(Iteration, ReleaseIsADirectoryOfItsOwn) {
  root_.Write(kTracker, "release");
  const auto found = FindIteration(root_.path(), {});
  ASSERT_TRUE(found.ok()) << Describe(found.status());
  EXPECT_TRUE(found->release);
  EXPECT_EQ(found->directory->path(), root_ / "release");
}

TEST_F(Iteration, AnAskedForOneWinsOverTheTracker) {
  root_.Write(kTracker, "100");
  EXPECT_EQ(FindIteration(root_.path(), {.iteration = 200})->iteration, 200);
}

TEST_F(Iteration, TheLargestWithoutATracker) { EXPECT_EQ(FindIteration(root_.path(), {})->iteration, 200); }

TEST_F(Iteration, ItsOwnDirectoryIsTakenAsItIs) {
  const auto found = FindIteration(root_ / "iter_0000100", {});
  ASSERT_TRUE(found.ok()) << Describe(found.status());
  EXPECT_EQ(found->iteration, 100);
  EXPECT_EQ(ReasonOf(FindIteration(root_ / "iter_0000100", {.iteration = 7}).status()), Reason::kCheckpointNotFound);
}

TEST_F(Iteration, AMissingOneIsNamedWithThoseThatExist) {
  const absl::Status status = FindIteration(root_.path(), {.iteration = 7}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kCheckpointNotFound);
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr("iter_0000007"), testing::HasSubstr("200, 100")));
}

// As Megatron-Bridge writes it: a dictionary of 0-d tensors.
std::string TrainState(std::string_view storage_class, std::int64_t step, std::int64_t storage_bytes = 8) {
  const std::string tensor = test::TensorPickle(storage_class, {}, 1);
  test::PickleWriter pickle(2);
  pickle.EmptyDictionary().Mark().Text("consumed_train_samples").Integer(7).Text("step");
  pickle.Raw(std::string_view(tensor).substr(2, tensor.size() - 3)).SetItems();  // without its PROTO and STOP
  const std::string text = pickle.Finish();
  std::ostringstream out;
  test::WriteTorchArchive(out, "train_state", text, {{storage_bytes, [step](std::ostream& stream, std::int64_t size) {
                                                        std::string bytes(8, '\0');
                                                        std::memcpy(bytes.data(), &step, 8);
                                                        stream.write(bytes.data(), size);
                                                      }}});
  return out.str();
}

TEST_F(Iteration, BridgesTrainingStateWinsOverTheTracker) {
  root_.Write(kTracker, "200");
  root_.Write(kStateTracker, TrainState("LongStorage", 100));
  const auto found = FindIteration(root_.path(), {});
  ASSERT_TRUE(found.ok()) << Describe(found.status());
  EXPECT_EQ(found->iteration, 100);
  EXPECT_EQ(FindIteration(root_.path(), {.iteration = 200})->iteration, 200);
}

TEST_F(Iteration, BridgesRealTrainingStateSaysZero) {
  const std::string state = std::string(SLIPWAY_TEST_DATA) + "/latest_train_state.pt";
  std::filesystem::copy_file(state, root_ / kStateTracker);
  root_.Write("iter_0000000/run_config.yaml", "");
  const auto found = FindIteration(root_.path(), {});
  ASSERT_TRUE(found.ok()) << Describe(found.status());
  EXPECT_EQ(found->directory->path(), root_ / "iter_0000000");
}

TEST_F(Iteration, ATrainingStateOfNonsenseIsRefused) {
  root_.Write(kTracker, "200");
  const std::string sound = TrainState("LongStorage", 100);
  for (const std::string& content :
       {std::string(), std::string("100"), sound.substr(0, sound.size() / 2), TrainState("LongStorage", -1),
        TrainState("FloatStorage", 100), TrainState("LongStorage", 100, 4)}) {
    root_.Write(kStateTracker, content);
    const absl::Status status = FindIteration(root_.path(), {}).status();
    EXPECT_THAT(ReasonOf(status), testing::AnyOf(Reason::kCheckpointCorrupt, Reason::kCheckpointUnsupported))
        << Describe(status);
    EXPECT_EQ(WhereOf(status).file, root_ / kStateTracker);
  }
  root_.Write(kStateTracker, TrainState("LongStorage", 7));
  const absl::Status status = FindIteration(root_.path(), {}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kCheckpointNotFound);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(kStateTracker));
}

TEST_F(Iteration, ZeroIsAnIteration) {
  root_.Write("iter_0000000/metadata.json", "{}");
  root_.Write(kTracker, "0");
  EXPECT_EQ(FindIteration(root_.path(), {})->directory->path(), root_ / "iter_0000000");
}

TEST_F(Iteration, EachMarkOfAnIterationIsKnown) {
  for (const char* mark : {"metadata.json", ".metadata", "mp_rank_00/model_optim_rng.pt", "mp_rank_07_003/x",
                           "run_config.yaml", "train_state.pt"}) {
    const test::TemporaryDirectory directory;
    directory.Write(mark, "");
    const auto found = FindIteration(directory.path(), {});
    ASSERT_TRUE(found.ok()) << mark << " " << Describe(found.status());
    EXPECT_EQ(found->directory->path(), directory.path());
  }
}

TEST_F(Iteration, NonPersistentCheckpointsAndFilesNamedLikeIterationsAreNotLookedAt) {
  root_.Write("non_persistent/iter_0000900/metadata.json", "{}");
  root_.Write("iter_0000999", "a file");
  EXPECT_EQ(FindIteration(root_.path(), {})->iteration, 200);
}

TEST_F(Iteration, BridgesConfigurationBesideIterationsIsNoIteration) {
  root_.Write("run_config.yaml", "");
  EXPECT_EQ(FindIteration(root_.path(), {})->iteration, 200);
}

TEST_F(Iteration, NeMoKeepsItsWeightsBelow) {
  const test::TemporaryDirectory nemo;
  nemo.Write("weights/metadata.json", "{}");
  nemo.Write("context/io.json", "{}");
  const auto found = FindIteration(nemo.path(), {});
  ASSERT_TRUE(found.ok()) << Describe(found.status());
  EXPECT_EQ(found->directory->path(), nemo / "weights");
  EXPECT_EQ(found->root->path(), nemo.path());
  EXPECT_THAT(found->framework, testing::StartsWith("NeMo 2"));
  EXPECT_EQ(ReasonOf(FindIteration(nemo.path(), {.iteration = 3}).status()), Reason::kCheckpointNotFound);
}

TEST_F(Iteration, WhatIsSeveralCheckpointsIsRefusedByTheNamesOfBoth) {
  const std::vector<std::vector<std::string>> several = {
      {"metadata.json", "iter_0000001/metadata.json"},          {".metadata", kTracker},
      {"mp_rank_00/model_optim_rng.pt", kStateTracker},         {"weights/metadata.json", "iter_0000001/metadata.json"},
      {"weights/metadata.json", "model_weights/metadata.json"}, {"weights/.metadata", "metadata.json"},
      {"iter_0000001/metadata.json", "iter_1/metadata.json"},
  };
  for (const std::vector<std::string>& names : several) {
    const test::TemporaryDirectory directory;
    for (const std::string& name : names) {
      directory.Write(name, "1");
    }
    const absl::Status status = FindIteration(directory.path(), {}).status();
    EXPECT_EQ(ReasonOf(status), Reason::kCheckpointUnsupported) << Describe(status);
    for (const std::string& name : names) {
      EXPECT_THAT(std::string(status.message()), testing::HasSubstr(name.substr(0, name.find('/'))));
    }
  }
}

TEST_F(Iteration, ATrackerOfNonsenseIsCorrupt) {
  for (const char* content : {"", "-1", "1e3", "../..", "99999999999999999999"}) {
    root_.Write(kTracker, content);
    EXPECT_EQ(ReasonOf(FindIteration(root_.path(), {}).status()), Reason::kCheckpointCorrupt) << content;
  }
}

}  // namespace
}  // namespace slipway::engine
