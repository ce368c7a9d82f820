#include "worker/engine/checkpoint/quantizer_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/error.h"
#include "tests/support/memory_source.h"
#include "tests/support/pickle_writer.h"
#include "tests/support/torch_writer.h"
#include "worker/engine/checkpoint/quantizer_pickle.h"

namespace slipway::engine {
namespace {

using slipway::test::PickleWriter;
using testing::ElementsAre;
using testing::HasSubstr;

std::string Archive(const std::string& pickle, const std::string& storage = {}) {
  std::ostringstream out;
  std::vector<test::TorchStorage> storages;
  if (!storage.empty()) {
    storages.push_back({.size = static_cast<std::int64_t>(storage.size()),
                        .write = [&storage](std::ostream& stream, std::int64_t) { stream << storage; }});
  }
  test::WriteTorchArchive(out, "archive", pickle, storages);
  return out.str();
}

// torch.save([a uint8 tensor of these bytes]).
std::string Saved(const std::string& payload) {
  std::string tensor = test::TensorPickle("ByteStorage", {static_cast<std::int64_t>(payload.size())},
                                          static_cast<std::int64_t>(payload.size()));
  tensor = tensor.substr(2, tensor.size() - 3);  // without PROTO and STOP
  return Archive(PickleWriter(2).EmptyList().Mark().Raw(tensor).Appends().Finish(), payload);
}

Checkpoint Holding(const std::string& file) {
  Checkpoint checkpoint;
  checkpoint.files.push_back({.name = "f", .identity = {}, .file = std::make_shared<test::MemoryFile>(file, "f")});
  checkpoint.module_states.push_back(
      {.name = "m._extra_state/shard_0_1", .file = 0, .position = 0, .length = static_cast<std::int64_t>(file.size())});
  return checkpoint;
}

absl::StatusOr<ModuleQuantizers> Read(const std::string& file) {
  const Checkpoint checkpoint = Holding(file);
  return ReadModuleState(checkpoint, checkpoint.module_states.front());
}

// {"modelopt_quantizer_state": {"weight_quantizer": <settings>}}, settings as pairs that `fill` writes.
template <typename Fill>
std::string State(Fill fill, int protocol = 2) {
  PickleWriter pickle(protocol);
  pickle.EmptyDictionary().Mark().Text("modelopt_quantizer_state");
  pickle.EmptyDictionary().Mark().Text("weight_quantizer").EmptyDictionary().Mark();
  fill(pickle);
  pickle.SetItems().SetItems().SetItems();
  return pickle.Finish();
}

void Int4(PickleWriter& pickle) {
  pickle.Text("_num_bits").Integer(4).Text("_disabled").Boolean(false);
  pickle.Text("_axis").Mark().Integer(0).Tuple();
  pickle.Text("_block_sizes").EmptyDictionary().Mark();
  pickle.Integer(-1).Integer(128).Text("type").Text("static").SetItems();
}

TEST(QuantizerState, AModulesStateIsReadWhetherTorchWrappedItOrNot) {
  for (const std::string& payload : {Archive(State(Int4)), State(Int4, 4)}) {
    const auto quantizers = Read(Saved(payload));
    ASSERT_TRUE(quantizers.ok()) << Describe(quantizers.status());
    ASSERT_EQ(quantizers->size(), 1U);
    EXPECT_EQ(DescribeSettings(quantizers->at("weight_quantizer")), "INT4 in blocks of 128");
    EXPECT_TRUE(quantizers->at("weight_quantizer").by_row);
    EXPECT_FALSE(quantizers->at("weight_quantizer").dynamic);
  }
}

TEST(QuantizerState, ClassesOfModelOptAreNamesAndNothingElse) {
  const auto quantizers = Read(Saved(Archive(State([](PickleWriter& pickle) {
    Int4(pickle);
    pickle.Text("qtensor_class").Global("modelopt.torch.quantization.qtensor.nvfp4_tensor", "NVFP4QTensor");
    pickle.Text("_input_dtype").Global("torch", "bfloat16");
  }))));
  ASSERT_TRUE(quantizers.ok()) << Describe(quantizers.status());
  EXPECT_EQ(quantizers->at("weight_quantizer").integer_bits, 4);
}

TEST(QuantizerState, OtherClassesAreRefusedByName) {
  for (const auto& global : {std::pair("os", "system"), std::pair("builtins", "eval")}) {
    const auto quantizers = Read(Saved(Archive(State([&](PickleWriter& pickle) {
      pickle.Text("x").Global(global.first, global.second).Mark().Text("true").Tuple().Reduce();
    }))));
    EXPECT_EQ(ReasonOf(quantizers.status()), Reason::kPickleForbiddenGlobal);
    EXPECT_THAT(std::string(quantizers.status().message()), HasSubstr(global.second));
    EXPECT_EQ(WhereOf(quantizers.status()).tensor, "m._extra_state/shard_0_1");
  }
}

TEST(QuantizerState, WhatIsNoStateOfModelOptsIsEmpty) {
  EXPECT_TRUE(Read(Archive(PickleWriter(2).EmptyList().Mark().None().Appends().Finish()))->empty());
  EXPECT_TRUE(Read(Archive(PickleWriter(2).None().Finish()))->empty());
  // Transformer Engine's.
  EXPECT_TRUE(Read(Saved(PickleWriter(4).EmptyDictionary().Finish()))->empty());
}

TEST(QuantizerState, DamageIsRefused) {
  const auto reason = [](const auto& fill) { return ReasonOf(Read(Saved(Archive(State(fill)))).status()); };
  EXPECT_EQ(reason([](PickleWriter& p) { p.Text("_num_bits").Integer(-4); }), Reason::kCheckpointCorrupt);
  EXPECT_EQ(reason([](PickleWriter& p) { p.Text("_num_bits").Text("four"); }), Reason::kCheckpointCorrupt);
  EXPECT_EQ(reason([](PickleWriter& p) {
              p.Text("_block_sizes").EmptyDictionary().Mark().Integer(-3).Integer(4).SetItems();
            }),
            Reason::kCheckpointCorrupt);
  EXPECT_EQ(reason([](PickleWriter& p) {
              p.Text("_block_sizes").EmptyDictionary().Mark().Integer(-1).Integer(1LL << 40).SetItems();
            }),
            Reason::kCheckpointCorrupt);
  const std::string whole = Saved(Archive(State(Int4)));
  EXPECT_EQ(ReasonOf(Read(whole.substr(0, whole.size() / 2)).status()), Reason::kCheckpointCorrupt);
}

// Rules as a list, written by `fill` as dictionaries.
ModelOptState Rules(const std::string& pickle) {
  const auto document = ParsePickle(test::WindowOn(pickle), {.file = "f"});
  EXPECT_TRUE(document.ok()) << Describe(document.status());
  const auto state = ModelOptStateOf(*document, document->root());
  EXPECT_TRUE(state.ok()) << Describe(state.status());
  return *state;
}

void BeginState(PickleWriter& pickle) {
  pickle.EmptyDictionary().Mark().Text("modelopt_version").Text("0.47.0").Text("modelopt_state_dict");
  pickle.EmptyList().Mark().Mark().Text("quantize").EmptyDictionary().Mark().Text("config");
  pickle.EmptyDictionary().Mark().Text("quant_cfg");
}

void EndState(PickleWriter& pickle) { pickle.SetItems().SetItems().Tuple().Appends().SetItems(); }

void Switch(PickleWriter& pickle, std::string_view pattern, bool enable, bool fp8 = false, bool of_class = false) {
  pickle.EmptyDictionary().Mark().Text("quantizer_name").Text(pattern).Text("parent_class");
  of_class ? pickle.Text("nn.Embedding") : pickle.None();
  pickle.Text("cfg");
  if (fp8) {
    pickle.EmptyDictionary().Mark().Text("num_bits").Mark().Integer(4).Integer(3).Tuple();
    pickle.Text("axis").None().SetItems();
  } else {
    pickle.None();
  }
  pickle.Text("enable").Boolean(enable).SetItems();
}

TEST(QuantizerState, OfRulesTheLastThatMatchesWins) {
  PickleWriter pickle(2);
  BeginState(pickle);
  pickle.EmptyList().Mark();
  Switch(pickle, "*", false);
  Switch(pickle, "*weight_quantizer", true, /*fp8=*/true);
  Switch(pickle, "*input_quantizer", true, /*fp8=*/true);
  Switch(pickle, "*output_layer*", false);
  Switch(pickle, "*.layers.?.mlp*", false);
  Switch(pickle, "*.layers.7.mlp*weight*", true);
  Switch(pickle, "*", false, /*fp8=*/false, /*of_class=*/true);
  pickle.Appends();
  EndState(pickle);
  const ModelOptState state = Rules(pickle.Finish());
  EXPECT_EQ(state.version, "0.47.0");
  EXPECT_THAT(state.modes, ElementsAre("quantize"));
  const auto weight = [&state](std::string_view module) {
    return DescribeSettings(QuantizersByRules(state, module).at("weight_quantizer"));
  };
  EXPECT_EQ(weight("decoder.layers.0.self_attention.linear_qkv"), "FP(4, 3)");
  EXPECT_EQ(weight("output_layer"), "disabled");
  EXPECT_EQ(weight("decoder.layers.3.mlp.linear_fc1"), "disabled");
  EXPECT_EQ(weight("decoder.layers.13.mlp.linear_fc1"), "FP(4, 3)");
  EXPECT_EQ(weight("decoder.layers.7.mlp.linear_fc1"), "FP(4, 3)");
  EXPECT_EQ(DescribeSettings(QuantizersByRules(state, "decoder.layers.7.mlp.linear_fc1").at("input_quantizer")),
            "disabled");
  EXPECT_EQ(DescribeSettings(QuantizersByRules(state, "a.core_attention").at("k_bmm_quantizer")), "disabled");
}

TEST(QuantizerState, PatternsAreThoseOfPythonsFnmatch) {
  // Pattern, name, whether fnmatch.fnmatchcase says that they match.
  struct Case {
    const char* pattern;
    const char* module;
    bool matches;
  };
  for (const Case& c :
       {Case{"*[iw]*_quantizer", "a", true}, Case{"*[!w]_quantizer", "a", true}, Case{"*[a-t]_quantizer", "a", true},
        Case{"*[u-z]_quantizer", "a", false}, Case{"*[!a-t]_quantizer", "a", false},
        Case{"[]a].weight_quantizer", "a", true}, Case{"[]a].weight_quantizer", "]", true},
        Case{"[!]].weight_quantizer", "]", false}, Case{"[a.weight_quantizer", "[a", true},
        Case{"[a.weight_quantizer", "a", false}, Case{"*.?.*", "x.1", true}, Case{"*.?.*", "x.12", false},
        Case{"", "a", false}, Case{"a.weight_quantizer*", "a", true}, Case{"**", "a", true}}) {
    ModelOptState state;
    state.rules.push_back({.pattern = c.pattern, .enabled = false, .settings = {}});
    EXPECT_EQ(QuantizersByRules(state, c.module).contains("weight_quantizer"), c.matches) << c.pattern;
  }
}

TEST(QuantizerState, OlderRulesAreADictionary) {
  PickleWriter pickle(2);
  BeginState(pickle);
  pickle.EmptyDictionary().Mark();
  pickle.Text("*weight_quantizer").EmptyDictionary().Mark();
  pickle.Text("num_bits").Integer(8).Text("axis").Integer(0).SetItems();
  pickle.Text("*lm_head*").EmptyDictionary().Mark().Text("enable").Boolean(false).SetItems();
  pickle.Text("nn.BatchNorm1d").EmptyDictionary().Mark().Text("*").EmptyDictionary().SetItems();
  pickle.Text("default").EmptyDictionary().Mark().Text("enable").Boolean(false).SetItems();
  pickle.SetItems();
  EndState(pickle);
  const ModelOptState state = Rules(pickle.Finish());
  EXPECT_EQ(DescribeSettings(QuantizersByRules(state, "a").at("weight_quantizer")), "INT8 by row");
  EXPECT_EQ(DescribeSettings(QuantizersByRules(state, "lm_head").at("weight_quantizer")), "disabled");
  EXPECT_EQ(DescribeSettings(QuantizersByRules(state, "a").at("input_quantizer")), "disabled");
}

TEST(QuantizerState, WithoutRulesNothingIsSaid) {
  EXPECT_TRUE(QuantizersByRules(ModelOptState(), "decoder.layers.0.mlp.linear_fc1").empty());
}

}  // namespace
}  // namespace slipway::engine
