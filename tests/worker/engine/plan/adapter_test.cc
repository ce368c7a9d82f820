// An adapter's plan, and what an adapter must not get away with.
#include "worker/engine/plan/adapter.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "common/error.h"
#include "tests/worker/engine/plan/model_checkpoint.h"
#include "worker/engine/plan/make_plan.h"

namespace slipway::engine {
namespace {

using nlohmann::json;
using test::AddTensor;
using test::MakeCheckpoint;
using test::RemoveTensor;
using test::Stored;
using test::TinyModel;

constexpr std::int64_t kRank = 2;

// Factors of one kind of weight in all layers, stacked.
void AddPair(Checkpoint& adapter, const std::string& base, std::int64_t layers, std::int64_t rows,
             std::int64_t columns) {
  AddTensor(adapter, Stored(base + ".adapter.linear_in.weight", DType::kBF16, {layers, kRank, columns}));
  AddTensor(adapter, Stored(base + ".adapter.linear_out.weight", DType::kBF16, {layers, rows, kRank}));
}

std::shared_ptr<Checkpoint> MakeAdapter(const TinyModel& m) {
  auto adapter = std::make_shared<Checkpoint>();
  adapter->files.push_back({.name = "__0_0.distcp", .identity = {}, .file = nullptr});
  AddPair(*adapter, "decoder.layers.self_attention.linear_qkv", m.layers, (m.heads + 2 * m.groups) * m.dimension,
          m.hidden);
  AddPair(*adapter, "decoder.layers.mlp.linear_fc1", m.layers, 2 * m.ffn, m.hidden);
  return adapter;
}

absl::StatusOr<std::shared_ptr<const ExportPlan>> Plan(const TinyModel& m, const Checkpoint& adapter, bool alone,
                                                       std::int64_t rank = kRank) {
  const auto base = MakeCheckpoint(m);
  SLIPWAY_ASSIGN_OR_RETURN(const auto tensors, Canonicalize(*base));
  SLIPWAY_ASSIGN_OR_RETURN(const Model model,
                           LearnModel(*base, tensors, {.architecture = "LlamaForCausalLM", .hf_config = {}}));
  AdapterSettings settings;
  settings.rank = rank;
  settings.alpha = 3;
  settings.base_model = "some/base";
  SLIPWAY_ASSIGN_OR_RETURN(const AdaptedCheckpoint adapted, JoinCheckpoints(*base, adapter, settings, alone));
  SLIPWAY_ASSIGN_OR_RETURN(const Adapter made, Adapter::Make(adapted, model.configuration.layers));
  ExportOptions options;
  options.checkpoint = "checkpoint";
  return alone ? MakeAdapterPlan(made, adapted.checkpoint, tensors, model, options)
               : MakePlanOf(adapted.checkpoint, tensors, model, options, {}, &made);
}

const OutputTensor& Tensor(const ExportPlan& plan, const std::string& name) {
  const auto found = std::ranges::find(plan.tensors, name, &OutputTensor::name);
  EXPECT_NE(found, plan.tensors.end()) << name;
  return *found;
}

TEST(AdapterPlan, EveryTargetHasTheRowsOfBThatItHasOfTheWeight) {
  const TinyModel m;  // 4 heads in 2 groups of dimension 3: rows of a group are q q k v
  const auto plan = Plan(m, *MakeAdapter(m), false);
  ASSERT_TRUE(plan.ok()) << Describe(plan.status());
  int merged = 0;
  for (const OutputTensor& tensor : (*plan)->tensors) {
    if (!tensor.update) {
      continue;
    }
    ++merged;
    EXPECT_EQ(tensor.update->scale, 1.5F);
    ASSERT_EQ(tensor.regions.size(), tensor.update->b.size()) << tensor.name;
    for (std::size_t i = 0; i < tensor.regions.size(); ++i) {
      EXPECT_EQ(tensor.regions[i].offsets, tensor.update->b[i].offsets) << tensor.name;
      EXPECT_EQ(tensor.regions[i].sizes[1], tensor.update->b[i].sizes[1]) << tensor.name;
    }
    EXPECT_EQ(tensor.update->a[0].sizes, (Shape{1, kRank, m.hidden}));
  }
  EXPECT_EQ(merged, 2 * 5);  // layers times q, k, v, gate, up
  const OutputTensor& key = Tensor(**plan, "model.layers.1.self_attn.k_proj.weight");
  EXPECT_EQ(key.update->b[1].offsets, (Shape{1, 18, 0}));
  EXPECT_EQ(key.update->b[1].sizes, (Shape{1, 3, kRank}));
}

TEST(AdapterPlan, TheHashKnowsTheAdapter) {
  const TinyModel m;
  const auto plan = Plan(m, *MakeAdapter(m), false);
  const auto other = Plan(m, *MakeAdapter(m), false);
  ASSERT_TRUE(plan.ok() && other.ok());
  EXPECT_EQ((*plan)->hash, (*other)->hash);
  const auto without =
      MakePlanOf(MakeCheckpoint(m), test::OptionsWith<&ExportOptions::architecture>("LlamaForCausalLM"));
  ASSERT_TRUE(without.ok()) << Describe(without.status());
  EXPECT_EQ((*plan)->output_hash, (*without)->output_hash);
  auto changed = MakeAdapter(m);
  changed->files[0].identity.size = 7;
  const auto touched = Plan(m, *changed, false);
  ASSERT_TRUE(touched.ok());
  EXPECT_EQ((*plan)->output_hash, (*touched)->output_hash);
  EXPECT_NE((*plan)->hash, (*touched)->hash);
}

TEST(AdapterPlan, AloneItHasAForEachTargetAndItsRowsOfB) {
  const TinyModel m;
  const auto plan = Plan(m, *MakeAdapter(m), true);
  ASSERT_TRUE(plan.ok()) << Describe(plan.status());
  EXPECT_EQ((*plan)->tensors.size(), 2U * 5 * 2);
  const std::string module = "base_model.model.model.layers.1.self_attn.v_proj";
  EXPECT_EQ(Tensor(**plan, module + ".lora_A.weight").shape, (Shape{kRank, m.hidden}));
  EXPECT_EQ(Tensor(**plan, module + ".lora_B.weight").shape, (Shape{m.groups * m.dimension, kRank}));
  ASSERT_EQ((*plan)->texts.size(), 1U);
  const json config = json::parse((*plan)->texts[0].content);
  EXPECT_EQ(config["r"], kRank);
  EXPECT_EQ(config["lora_alpha"], 3);
  EXPECT_EQ(config["peft_type"], "LORA");
  EXPECT_EQ(config["task_type"], "CAUSAL_LM");
  EXPECT_EQ(config["base_model_name_or_path"], "some/base");
  EXPECT_EQ(config["target_modules"], (json{"gate_proj", "k_proj", "q_proj", "up_proj", "v_proj"}));
  EXPECT_EQ((*plan)->shards[0].file, "adapter_model.safetensors");
  for (const StoredTensor& tensor : (*plan)->checkpoint->tensors) {
    EXPECT_TRUE(tensor.name.starts_with(kAdapterPrefix)) << tensor.name;
  }
}

TEST(AdapterPlan, ModulesAreNamedInFullWhereOnlySomeLayersHaveAnAdapter) {
  const TinyModel m;
  Checkpoint adapter;
  AddTensor(adapter, Stored("decoder.layers.1.mlp.linear_fc2.adapter.linear_in.weight", DType::kF32, {kRank, m.ffn}));
  AddTensor(adapter,
            Stored("decoder.layers.1.mlp.linear_fc2.adapter.linear_out.weight", DType::kF32, {m.hidden, kRank}));
  const auto plan = Plan(m, adapter, true);
  ASSERT_TRUE(plan.ok()) << Describe(plan.status());
  EXPECT_EQ(json::parse((*plan)->texts[0].content)["target_modules"], json{"model.layers.1.mlp.down_proj"});
  EXPECT_EQ((*plan)->tensors[0].dtype, DType::kF32);
}

void ExpectRefused(const TinyModel& m, const Checkpoint& adapter, Reason reason, const std::string& tensor,
                   std::int64_t rank = kRank) {
  for (const bool alone : {false, true}) {
    const absl::Status status = Plan(m, adapter, alone, rank).status();
    EXPECT_EQ(ReasonOf(status), reason) << Describe(status);
    EXPECT_EQ(WhereOf(status).tensor, tensor) << Describe(status);
  }
}

TEST(AdapterRefusal, AFactorWithoutTheOtherIsNamed) {
  const TinyModel m;
  for (const std::string missing : {"linear_in", "linear_out"}) {
    const auto adapter = MakeAdapter(m);
    RemoveTensor(*adapter, "decoder.layers.mlp.linear_fc1.adapter." + missing + ".weight");
    ExpectRefused(m, *adapter, Reason::kTensorMissing,
                  "decoder.layers.0.mlp.linear_fc1.adapter." + missing + ".weight");
  }
}

TEST(AdapterRefusal, AnAdapterOfAWeightThatTheModelHasNotIsNamed) {
  const TinyModel m;
  const auto adapter = MakeAdapter(m);
  AddPair(*adapter, "decoder.layers.mlp.router", m.layers, 4, m.hidden);
  ExpectRefused(m, *adapter, Reason::kTensorUnknown, "decoder.layers.0.mlp.router.adapter.linear_in.weight");
}

TEST(AdapterRefusal, AnotherNumberOfLayersIsNamed) {
  const TinyModel m;
  for (const std::int64_t layers : {m.layers - 1, m.layers + 1}) {
    TinyModel other = m;
    other.layers = layers;
    ExpectRefused(m, *MakeAdapter(other), Reason::kTensorShapeMismatch,
                  "adapter:decoder.layers.mlp.linear_fc1.adapter.linear_in.weight");
  }
}

TEST(AdapterRefusal, FactorsOfAnotherShapeAreNamed) {
  const TinyModel m;
  TinyModel wider = m;
  wider.hidden = 15;
  ExpectRefused(m, *MakeAdapter(wider), Reason::kTensorShapeMismatch,
                "decoder.layers.0.self_attention.linear_qkv.adapter.linear_in.weight");
  TinyModel more = m;
  more.ffn = 11;
  ExpectRefused(m, *MakeAdapter(more), Reason::kTensorShapeMismatch,
                "decoder.layers.0.mlp.linear_fc1.adapter.linear_out.weight");
  ExpectRefused(m, *MakeAdapter(m), Reason::kTensorShapeMismatch,
                "decoder.layers.0.self_attention.linear_qkv.adapter.linear_in.weight", kRank + 1);
}

TEST(AdapterRefusal, OtherKindsOfAdaptersAreNamed) {
  const TinyModel m;
  for (const auto& [name, reason] :
       {std::pair("decoder.layers.mlp.linear_fc1.adapter.weight_magnitude", Reason::kCheckpointUnsupported),
        std::pair("decoder.layers.mlp.linear_fc1.adapter.adapter_up.linear_in.bias", Reason::kCheckpointUnsupported),
        std::pair("decoder.layers.mlp.linear_fc1.weight", Reason::kTensorUnknown)}) {
    const auto adapter = MakeAdapter(m);
    AddTensor(*adapter, Stored(name, DType::kBF16, {m.layers, 2}));
    const std::string canonical = std::string(name).replace(0, 15, "decoder.layers.0.");
    ExpectRefused(m, *adapter, reason, canonical);
  }
}

TEST(AdapterRefusal, EmbeddingsHaveNone) {
  const TinyModel m;
  const auto adapter = MakeAdapter(m);
  AddTensor(*adapter, Stored("output_layer.adapter.linear_in.weight", DType::kBF16, {kRank, m.hidden}));
  AddTensor(*adapter, Stored("output_layer.adapter.linear_out.weight", DType::kBF16, {m.padded_vocabulary, kRank}));
  ExpectRefused(m, *adapter, Reason::kOptionUnsupported, "output_layer.weight");
}

TEST(AdapterRefusal, ARankPastTheLimitIsNamedWhereItIsMerged) {
  const TinyModel m;
  Checkpoint adapter;
  constexpr std::int64_t kHuge = 8193;
  AddTensor(adapter, Stored("decoder.layers.1.mlp.linear_fc2.adapter.linear_in.weight", DType::kF32, {kHuge, m.ffn}));
  AddTensor(adapter,
            Stored("decoder.layers.1.mlp.linear_fc2.adapter.linear_out.weight", DType::kF32, {m.hidden, kHuge}));
  const absl::Status status = Plan(m, adapter, false, kHuge).status();
  EXPECT_EQ(ReasonOf(status), Reason::kLimitExceeded) << Describe(status);
  EXPECT_EQ(WhereOf(status).tensor, "decoder.layers.1.mlp.linear_fc2.weight");
}

TEST(AdapterSettings, RankAlphaAndDropoutAreRead) {
  const auto settings = ReadAdapterSettings(
      {{"peft", {{"_target_", "megatron.bridge.peft.lora.LoRA"}, {"dim", 8}, {"alpha", 12.5}, {"dropout", 0.1}}}}, "f");
  ASSERT_TRUE(settings.ok()) << Describe(settings.status());
  EXPECT_EQ(settings->rank, 8);
  EXPECT_EQ(settings->alpha, 12.5);
  EXPECT_EQ(settings->dropout, 0.1);
  EXPECT_EQ(settings->Scale(), 1.5625F);
}

TEST(AdapterSettings, WhatIsNoLoraIsRefused) {
  const json lora = {{"_target_", "megatron.bridge.peft.lora.LoRA"}, {"dim", 8}, {"alpha", 32}};
  const auto with = [&lora](const char* key, json value) {
    json peft = lora;
    peft[key] = std::move(value);
    return json{{"peft", std::move(peft)}};
  };
  EXPECT_TRUE(ReadAdapterSettings(with("dropout", nullptr), "f").ok());
  for (const auto& [document, reason] :
       {std::pair(json::object(), Reason::kCheckpointUnsupported), std::pair(json(), Reason::kCheckpointUnsupported),
        std::pair(json{{"peft", nullptr}}, Reason::kCheckpointUnsupported),
        std::pair(with("_target_", "megatron.bridge.peft.dora.DoRA"), Reason::kCheckpointUnsupported),
        std::pair(with("_target_", "megatron.bridge.peft.canonical_lora.CanonicalLoRA"),
                  Reason::kCheckpointUnsupported),
        std::pair(with("_target_", nullptr), Reason::kCheckpointUnsupported),
        std::pair(with("dim", 0), Reason::kCheckpointCorrupt), std::pair(with("dim", 2.5), Reason::kCheckpointCorrupt),
        std::pair(with("dim", std::int64_t{1} << 40), Reason::kLimitExceeded),
        std::pair(with("alpha", "32"), Reason::kCheckpointCorrupt),
        std::pair(with("alpha", 1e300), Reason::kCheckpointCorrupt),
        std::pair(with("dropout", "x"), Reason::kCheckpointCorrupt)}) {
    const auto settings = ReadAdapterSettings(document, "f");
    EXPECT_EQ(ReasonOf(settings.status()), reason) << document;
    EXPECT_EQ(WhereOf(settings.status()).file, "f") << document;
  }
}

}  // namespace
}  // namespace slipway::engine
