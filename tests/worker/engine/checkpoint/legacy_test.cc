#include "worker/engine/checkpoint/legacy.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/brute_force.h"
#include "tests/support/pickle_writer.h"
#include "tests/support/torch_writer.h"
#include "worker/engine/checkpoint/legacy_grid.h"

namespace slipway::engine {
namespace {

using test::PickleWriter;

absl::StatusOr<std::shared_ptr<const Checkpoint>> Read(const std::string& iteration) {
  SLIPWAY_ASSIGN_OR_RETURN(std::shared_ptr<const SourceDirectory> directory, OpenLocalDirectory(iteration));
  return ReadLegacyCheckpoint(directory, directory, 100, false);
}

std::string Fixture(const std::string& name) { return std::string(SLIPWAY_TEST_DATA) + "/checkpoints/" + name; }

class LegacyFixture : public testing::TestWithParam<const char*> {};

TEST_P(LegacyFixture, AssembledElementByElementIsItsIndependentGolden) {
  const std::string fixture = Fixture(GetParam());
  const auto checkpoint = Read(fixture + "/iter_0000100");
  ASSERT_TRUE(checkpoint.ok()) << Describe(checkpoint.status());
  EXPECT_EQ(test::CompareWithGolden(**checkpoint, fixture + "/golden_hf"), "");
}

INSTANTIATE_TEST_SUITE_P(Layouts, LegacyFixture,
                         testing::Values("llama3_tp2_pp2_torch", "qwen25_tp1_pp2_vpp2_torch", "legacy-v0_llama2_tp2",
                                         "legacy-v1.0_llama2_tp2", "custom-pp-layout_llama3_pp2_vpp2_torch"),
                         [](const auto& fixture) {
                           std::string name = fixture.param;
                           for (char& c : name) {
                             c = c == '-' || c == '.' ? '_' : c;
                           }
                           return name;
                         });

// A tensor of a rank's file: its elements are bytes 0, 1, 2... of its storage, as uint8.
struct View {
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides = {};
  std::int64_t offset = 0;
  std::int64_t storage = 0;  // elements; 0: as many as the shape has
};

void Numbers(PickleWriter& pickle, const std::vector<std::int64_t>& numbers) {
  pickle.Mark();
  for (const std::int64_t number : numbers) {
    pickle.Integer(number);
  }
  pickle.Tuple();
}

class LegacyDirectory : public testing::Test {
 protected:
  using Model = std::map<std::string, View>;

  LegacyDirectory() : path_(std::filesystem::temp_directory_path() / ("slipway_legacy_" + UniqueName())) {
    std::filesystem::create_directories(path_);
  }
  ~LegacyDirectory() override { std::filesystem::remove_all(path_); }

  static std::string UniqueName() {
    const auto* const info = testing::UnitTest::GetInstance()->current_test_info();
    return std::string(info->name()) + std::to_string(getpid());
  }

  void Write(const std::string& rank, const Model& model, const std::map<std::string, std::int64_t>& arguments,
             double version = 3.0) {
    PickleWriter pickle(2);
    std::vector<test::TorchStorage> storages;
    pickle.EmptyDictionary().Mark().Text("args");
    pickle.Global("argparse", "Namespace").EmptyTuple().NewObject().EmptyDictionary().Mark();
    for (const auto& [name, value] : arguments) {
      pickle.Text(name).Integer(value);
    }
    pickle.SetItems().Build().Text("checkpoint_version").Float(version).Text("iteration").Integer(100);
    pickle.Text("optimizer").None().Text("model").EmptyDictionary().Mark();
    for (const auto& [name, view] : model) {
      Tensor(pickle.Text(name), view, storages);
    }
    pickle.SetItems().SetItems();
    std::filesystem::create_directories(path_ / rank);
    std::ofstream out(path_ / rank / "model_optim_rng.pt", std::ios::binary);
    test::WriteTorchArchive(out, "model_optim_rng", pickle.Finish(), storages);
  }

  static void Tensor(PickleWriter& pickle, const View& view, std::vector<test::TorchStorage>& storages) {
    std::int64_t elements = 1;
    std::vector<std::int64_t> strides(view.shape.size(), 1);
    for (std::size_t axis = view.shape.size(); axis-- > 0;) {
      strides[axis] = elements;
      elements *= view.shape[axis];
    }
    const std::int64_t size = view.storage > 0 ? view.storage : elements;
    pickle.Global("torch._utils", "_rebuild_tensor_v2").Mark();
    pickle.Mark().Text("storage").Global("torch", "ByteStorage").Text(std::to_string(storages.size()));
    pickle.Text("cpu").Integer(size).Tuple().PersistentId().Integer(view.offset);
    Numbers(pickle, view.shape);
    Numbers(pickle, view.strides.empty() ? strides : view.strides);
    pickle.Boolean(false).Global("collections", "OrderedDict").EmptyTuple().Reduce().Tuple().Reduce();
    storages.push_back({size, [](std::ostream& out, std::int64_t bytes) {
                          for (std::int64_t i = 0; i < bytes; ++i) {
                            out.put(static_cast<char>(i));
                          }
                        }});
  }

  // The bytes of a tensor of the checkpoint, or the error.
  std::string Bytes(const std::string& name) {
    const auto checkpoint = Read(path_.string());
    if (!checkpoint.ok()) {
      return Describe(checkpoint.status());
    }
    for (const StoredTensor& tensor : (*checkpoint)->tensors) {
      if (tensor.name == name) {
        const auto dense = test::ReadStored(**checkpoint, tensor);
        return dense.ok() ? dense->bytes : Describe(dense.status());
      }
    }
    return "no such tensor";
  }

  absl::Status Refusal() { return Read(path_.string()).status(); }

  std::filesystem::path path_;
};

TEST_F(LegacyDirectory, TensorsThatAreNotContiguousKeepTheirOrder) {
  Write("mp_rank_00", {{"output_layer.weight", {.shape = {3, 2}, .strides = {1, 3}, .offset = 1, .storage = 8}}}, {});
  EXPECT_EQ(Bytes("output_layer.weight"), std::string("\1\4\2\5\3\6"));
}

TEST_F(LegacyDirectory, ColumnsOfTwoRanksLieSideBySide) {
  const std::map<std::string, std::int64_t> arguments = {{"tensor_model_parallel_size", 2}};
  const Model model = {{"decoder.layers.0.self_attention.linear_proj.weight", {.shape = {2, 2}}}};
  Write("mp_rank_00", model, arguments);
  Write("mp_rank_01", model, arguments);
  EXPECT_EQ(Bytes("decoder.layers.0.self_attention.linear_proj.weight"), std::string("\0\1\0\1\2\3\2\3", 8));
}

TEST_F(LegacyDirectory, GatesOfAllRanksComeBeforeUpsOfAllRanks) {
  const std::map<std::string, std::int64_t> arguments = {{"tensor_model_parallel_size", 2}};
  const Model model = {{"decoder.layers.0.mlp.linear_fc1.weight", {.shape = {4, 1}}},
                       {"decoder.layers.0.mlp.linear_fc2.weight", {.shape = {1, 2}}}};
  Write("mp_rank_00", model, arguments);
  Write("mp_rank_01", model, arguments);
  EXPECT_EQ(Bytes("decoder.layers.0.mlp.linear_fc1.weight"), std::string("\0\1\0\1\2\3\2\3", 8));
}

TEST_F(LegacyDirectory, AMissingRankIsNamed) {
  Write("mp_rank_00_000", {{"output_layer.weight", {.shape = {2, 2}}}},
        {{"tensor_model_parallel_size", 2}, {"pipeline_model_parallel_size", 1}});
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(WhereOf(Refusal()).file, "mp_rank_01");
}

TEST_F(LegacyDirectory, RanksOfDifferentShapesAreRefusedNamingFileAndTensor) {
  const std::map<std::string, std::int64_t> arguments = {{"tensor_model_parallel_size", 2}};
  Write("mp_rank_00", {{"output_layer.weight", {.shape = {2, 2}}}}, arguments);
  Write("mp_rank_01", {{"output_layer.weight", {.shape = {2, 3}}}}, arguments);
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kTensorShapeMismatch);
  EXPECT_EQ(WhereOf(Refusal()).tensor, "output_layer.weight");
  EXPECT_EQ(WhereOf(Refusal()).file, "mp_rank_01/model_optim_rng.pt");
}

TEST_F(LegacyDirectory, ATensorThatOneRankLacksIsRefused) {
  const std::map<std::string, std::int64_t> arguments = {{"tensor_model_parallel_size", 2}};
  Write("mp_rank_00", {{"output_layer.weight", {.shape = {2, 2}}}}, arguments);
  Write("mp_rank_01", {}, arguments);
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(WhereOf(Refusal()).tensor, "output_layer.weight");
}

TEST_F(LegacyDirectory, FewerLayersThanTheArgumentsSayAreRefused) {
  Write("mp_rank_00", {{"decoder.layers.0.input_layernorm.weight", {.shape = {2}}}}, {{"num_layers", 2}});
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kCheckpointCorrupt);
}

TEST_F(LegacyDirectory, AGapBetweenLayersIsRefused) {
  Write("mp_rank_00",
        {{"decoder.layers.0.input_layernorm.weight", {.shape = {2}}},
         {"decoder.layers.2.input_layernorm.weight", {.shape = {2}}}},
        {});
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kCheckpointCorrupt);
}

TEST_F(LegacyDirectory, AViewThatLeavesItsStorageIsRefused) {
  Write("mp_rank_00", {{"output_layer.weight", {.shape = {3, 3}, .strides = {}, .offset = 0, .storage = 8}}}, {});
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kCheckpointCorrupt);
  EXPECT_EQ(WhereOf(Refusal()).tensor, "output_layer.weight");
}

TEST_F(LegacyDirectory, ATensorWhoseSharingIsNotKnownIsNotGuessed) {
  const std::map<std::string, std::int64_t> arguments = {{"tensor_model_parallel_size", 2}};
  Write("mp_rank_00", {{"decoder.layers.0.mystery.weight", {.shape = {2}}}}, arguments);
  Write("mp_rank_01", {{"decoder.layers.0.mystery.weight", {.shape = {2}}}}, arguments);
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kTensorUnknown);
}

TEST_F(LegacyDirectory, ExpertsAreRefusedByName) {
  Write("mp_rank_00", {{"decoder.layers.0.mlp.experts.linear_fc1.weight0", {.shape = {2}}}}, {});
  EXPECT_EQ(ReasonOf(Refusal()), Reason::kCheckpointUnsupported);
  EXPECT_EQ(WhereOf(Refusal()).tensor, "decoder.layers.0.mlp.experts.linear_fc1.weight0");
}

TEST_F(LegacyDirectory, ATruncatedRankFileIsRefusedByName) {
  Write("mp_rank_00", {{"output_layer.weight", {.shape = {2, 2}}}}, {});
  const auto file = path_ / "mp_rank_00/model_optim_rng.pt";
  std::filesystem::resize_file(file, std::filesystem::file_size(file) / 2);
  EXPECT_FALSE(Refusal().ok());
  EXPECT_THAT(WhereOf(Refusal()).file, testing::EndsWith("mp_rank_00/model_optim_rng.pt"));
}

TEST(LegacyGrid, DirectoryNamesAreNumbers) {
  EXPECT_EQ(ParseRankDirectory("mp_rank_07")->tensor, 7);
  EXPECT_EQ(ParseRankDirectory("mp_rank_01_002")->second, 2);
  EXPECT_EQ(ParseRankDirectory("mp_rank_01_002_003")->third, 3);
  for (const char* name : {"mp_rank_", "mp_rank_1_", "mp_rank_1_2_3_4", "mp_rank_x", "mp_rank_99999999999999999999"}) {
    EXPECT_FALSE(ParseRankDirectory(name)) << name;
  }
}

TEST(LegacyGrid, TheSecondNumberIsAnExpertRankWhereTheArgumentsSaySo) {
  const std::vector<RankPath> paths = {{{.tensor = 0, .second = 0, .third = {}}, "mp_rank_00_000/model_optim_rng.pt"},
                                       {{.tensor = 0, .second = 1, .third = {}}, "mp_rank_00_001/model_optim_rng.pt"}};
  EXPECT_EQ(ReasonOf(LayOutRanks(paths, {.tensor = 1, .pipeline = 1, .expert = 2}).status()),
            Reason::kCheckpointUnsupported);
  EXPECT_TRUE(LayOutRanks(paths, {.tensor = 1, .pipeline = 2}).ok());
}

}  // namespace
}  // namespace slipway::engine
