// Checkpoints that ModelOpt calibrated and Megatron-LM wrote: what is read of their quantizers against what ModelOpt's
// own quantizers held when they were saved.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "common/digest.h"
#include "common/error.h"
#include "tests/support/brute_force.h"
#include "tests/support/temporary_directory.h"
#include "worker/engine/checkpoint/canonical.h"
#include "worker/engine/model/model.h"
#include "worker/engine/plan/checkpoint_ranges.h"
#include "worker/engine/plan/make_plan.h"
#include "worker/engine/quantize/element_codes.h"

namespace slipway::engine {
namespace {

using nlohmann::json;
using testing::HasSubstr;

struct Fixture {
  std::string name;
  std::string format;
  std::optional<std::int32_t> group;
  CalibratedInput input;
  std::string cache = "none";
};

void PrintTo(const Fixture& fixture, std::ostream* out) { *out << fixture.name; }

const std::vector<Fixture>& Fixtures() {
  static const std::vector<Fixture> kFixtures = {
      {"llama3_fp8_compressed_tp1", "fp8", std::nullopt, CalibratedInput::kStatic},
      {"llama3_fp8_kvfp8_tp1", "fp8", std::nullopt, CalibratedInput::kStatic, "fp8"},
      {"llama3_fp8_mixed_tp2_iter", "fp8", std::nullopt, CalibratedInput::kStatic},
      {"llama3_fp8_pcpt_tp2", "fp8-per-channel", std::nullopt, CalibratedInput::kDynamic},
      {"llama3_int4_awq_b32_tp2", "int4-awq", 32, CalibratedInput::kNone},
      {"llama3_nvfp4_compressed_tp2", "nvfp4", std::nullopt, CalibratedInput::kStatic},
      {"llama3_nvfp4_tp2", "nvfp4", std::nullopt, CalibratedInput::kStatic},
      {"qwen3_moe_fp8_ep2", "fp8", std::nullopt, CalibratedInput::kStatic},
  };
  return kFixtures;
}

std::string PathOf(const std::string& fixture) { return std::string(SLIPWAY_TEST_DATA) + "/calibrated/" + fixture; }

json ExpectedOf(const std::string& fixture) {
  std::ifstream file(PathOf(fixture) + "/expected.json");
  return json::parse(file);
}

class CalibratedCheckpoints : public testing::TestWithParam<Fixture> {
 protected:
  void SetUp() override {
    auto checkpoint = ReadCheckpoint(PathOf(GetParam().name), {});
    ASSERT_TRUE(checkpoint.ok()) << Describe(checkpoint.status());
    checkpoint_ = *std::move(checkpoint);
    auto tensors = Canonicalize(*checkpoint_);
    ASSERT_TRUE(tensors.ok()) << Describe(tensors.status());
    tensors_ = *std::move(tensors);
    const auto model = LearnModel(*checkpoint_, tensors_, {});
    ASSERT_TRUE(model.ok()) << Describe(model.status());
    auto ranges = RangesOfCheckpoint(*checkpoint_, tensors_, *model);
    ASSERT_TRUE(ranges.ok()) << Describe(ranges.status());
    ranges_ = *std::move(ranges);
    expected_ = ExpectedOf(GetParam().name);
  }

  // Elements of the regions one after the other, found one by one.
  [[nodiscard]] std::vector<float> ValuesOf(const StoredAmaxes& amaxes) const {
    std::vector<float> values;
    for (const SourceRegion& region : amaxes.regions) {
      const StoredTensor& stored = checkpoint_->tensors[static_cast<std::size_t>(region.tensor)];
      const auto dense = test::ReadStored(*checkpoint_, stored);
      EXPECT_TRUE(dense.ok()) << Describe(dense.status());
      EXPECT_EQ(stored.dtype, amaxes.dtype);
      const std::int64_t row_columns = stored.shape.size() == 2 ? stored.shape[1] : 1;
      const std::int64_t columns = stored.shape.size() == 2 ? region.sizes[1] : 1;
      const std::int64_t first_column = stored.shape.size() == 2 ? region.offsets[1] : 0;
      for (std::int64_t row = region.offsets[0]; row < region.offsets[0] + region.sizes[0]; ++row) {
        for (std::int64_t column = first_column; column < first_column + columns; ++column) {
          values.push_back(Element(dense->bytes, stored.dtype, row * row_columns + column));
        }
      }
    }
    return values;
  }

  static float Element(const std::string& bytes, DType dtype, std::int64_t index) {
    if (dtype == DType::kF8E4M3) {
      return DecodeE4M3(static_cast<std::uint8_t>(bytes[static_cast<std::size_t>(index)]));
    }
    std::uint32_t bits = 0;
    const bool is_float = dtype == DType::kF32;
    const auto size = static_cast<std::size_t>(is_float ? 4 : 2);
    std::memcpy(&bits, bytes.data() + static_cast<std::size_t>(index) * size, size);
    bits = is_float ? bits : bits << 16;
    float value = 0;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }

  [[nodiscard]] const ModuleRanges* Find(const std::string& module) const {
    const auto found = ranges_.modules.find(module);
    return found == ranges_.modules.end() ? nullptr : &found->second;
  }

  std::shared_ptr<const Checkpoint> checkpoint_;
  std::map<std::string, CanonicalTensor> tensors_;
  Ranges ranges_;
  json expected_;
};

// A row of Megatron's weight goes to which row of which target: told one by one, as Megatron documents its layouts.
struct Target {
  std::string module;
  std::vector<std::int64_t> rows;
};

std::vector<std::int64_t> Count(std::int64_t begin, std::int64_t end) {
  std::vector<std::int64_t> rows;
  for (; begin < end; ++begin) {
    rows.push_back(begin);
  }
  return rows;
}

std::vector<Target> TargetsOf(std::string module, std::int64_t rows, const json& expected) {
  if (module == "output_layer") {
    return {{"lm_head", Count(0, rows)}};
  }
  const auto replace = [&module](std::string_view from, std::string_view to) {
    const std::size_t at = module.find(from);
    if (at != std::string::npos) {
      module.replace(at, from.size(), to);
    }
    return at != std::string::npos;
  };
  replace("decoder.layers.", "model.layers.");
  replace("local_experts.", "");
  const auto with = [&module](std::string_view last) { return module.substr(0, module.rfind('.') + 1).append(last); };
  if (replace("self_attention.", "self_attn.")) {
    if (module.ends_with("linear_proj")) {
      return {{with("o_proj"), Count(0, rows)}};
    }
    const std::int64_t groups = expected["kv_heads"];
    const std::int64_t queries = expected["heads"].get<std::int64_t>() / groups;
    const std::int64_t dimension = expected["head_dim"];
    std::vector<Target> targets = {{with("q_proj"), {}}, {with("k_proj"), {}}, {with("v_proj"), {}}};
    for (std::int64_t row = 0; row < groups * (queries + 2) * dimension; ++row) {
      const std::int64_t head = row / dimension % (queries + 2);
      targets[head < queries ? 0U : static_cast<std::size_t>(head - queries + 1)].rows.push_back(row);
    }
    return targets;
  }
  if (module.ends_with("linear_fc1")) {
    return {{with("gate_proj"), Count(0, rows / 2)}, {with("up_proj"), Count(rows / 2, rows)}};
  }
  return {{with("down_proj"), Count(0, rows)}};
}

TEST_P(CalibratedCheckpoints, RangesOfWeightsAreThoseOfTheLiveQuantizers) {
  int checked = 0;
  for (const auto& [name, quantizer] : expected_["quantizers"].items()) {
    constexpr std::string_view kEnding = ".weight_quantizer";
    if (!name.ends_with(kEnding)) {
      continue;
    }
    const std::string source = name.substr(0, name.size() - kEnding.size());
    const std::vector<float> amax = quantizer.value("amax", std::vector<float>());
    for (const Target& target : TargetsOf(source, 1, expected_)) {
      const ModuleRanges* const module = Find(target.module);
      if (!quantizer["enabled"]) {
        EXPECT_TRUE(module == nullptr || module->format == "none") << target.module;
        EXPECT_TRUE(module == nullptr || (!module->weight_amax && !module->weight_amaxes)) << target.module;
        continue;
      }
      ASSERT_NE(module, nullptr) << target.module;
      ASSERT_FALSE(amax.empty()) << name;
      EXPECT_EQ(module->format, GetParam().format) << target.module;
      EXPECT_EQ(module->group, GetParam().group) << target.module;
      EXPECT_EQ(module->input, GetParam().input) << target.module;
      if (amax.size() == 1) {
        EXPECT_EQ(module->weight_amax, amax[0]) << target.module;
        EXPECT_EQ(module->weight_amaxes.has_value(), GetParam().name == "llama3_nvfp4_compressed_tp2") << target.module;
      }
      ++checked;
    }
    if (amax.size() <= 1) {
      continue;
    }
    // One a row, or some.
    const CanonicalTensor& weight = tensors_.at(source + ".weight");
    const std::int64_t rows = weight.shape[0];
    const std::int64_t columns = static_cast<std::int64_t>(amax.size()) / rows;
    for (const Target& target : TargetsOf(source, rows, expected_)) {
      const ModuleRanges* const module = Find(target.module);
      ASSERT_NE(module, nullptr) << target.module;
      ASSERT_TRUE(module->weight_amaxes) << target.module;
      EXPECT_FALSE(module->weight_amax) << target.module;
      EXPECT_EQ(module->weight_amaxes->rows, static_cast<std::int64_t>(target.rows.size())) << target.module;
      EXPECT_EQ(module->weight_amaxes->columns, columns) << target.module;
      std::vector<float> wanted;
      for (const std::int64_t row : target.rows) {
        const auto first = amax.begin() + static_cast<std::ptrdiff_t>(row * columns);
        wanted.insert(wanted.end(), first, first + static_cast<std::ptrdiff_t>(columns));
      }
      EXPECT_EQ(ValuesOf(*module->weight_amaxes), wanted) << target.module;
    }
  }
  EXPECT_GE(checked, 6);
}

TEST_P(CalibratedCheckpoints, RangesAndScalesOfInputsAreThoseOfTheLiveQuantizers) {
  int checked = 0;
  for (const auto& [name, quantizer] : expected_["quantizers"].items()) {
    constexpr std::string_view kEnding = ".input_quantizer";
    if (!name.ends_with(kEnding)) {
      continue;
    }
    const std::vector<float> amax = quantizer.value("amax", std::vector<float>());
    const std::vector<float> scale = quantizer.value("pre_quant_scale", std::vector<float>());
    for (const Target& target : TargetsOf(name.substr(0, name.size() - kEnding.size()), 1, expected_)) {
      const ModuleRanges* const module = Find(target.module);
      EXPECT_EQ(module == nullptr ? std::vector<float>() : module->input_amax, amax) << target.module;
      EXPECT_EQ(
          module == nullptr || module->pre_quant_scale == nullptr ? std::vector<float>() : *module->pre_quant_scale,
          scale)
          << target.module;
      ++checked;
    }
  }
  EXPECT_GE(checked, 6);
}

TEST_P(CalibratedCheckpoints, RangesOfKeysAndValuesAreThoseOfTheLiveQuantizers) {
  int checked = 0;
  for (const auto& [name, quantizer] : expected_["quantizers"].items()) {
    for (const auto& [ending, range] : {std::pair(".core_attention.k_bmm_quantizer", &AttentionRanges::key_amax),
                                        std::pair(".core_attention.v_bmm_quantizer", &AttentionRanges::value_amax)}) {
      if (!name.ends_with(ending)) {
        continue;
      }
      const std::string layer = name.substr(15, name.find('.', 15) - 15);  // decoder.layers.<i>.
      const auto found = ranges_.attention.find("model.layers." + layer + ".self_attn");
      ASSERT_NE(found, ranges_.attention.end()) << name;
      EXPECT_EQ(found->second.format, GetParam().cache);
      const bool enabled = quantizer["enabled"];
      EXPECT_EQ(found->second.*range,
                enabled ? std::optional(quantizer["amax"][0].get<float>()) : std::optional<float>());
      ++checked;
    }
  }
  EXPECT_EQ(checked, 2);
}

TEST_P(CalibratedCheckpoints, NothingElseIsSaidToBeQuantized) {
  std::set<std::string> enabled;
  for (const auto& [name, quantizer] : expected_["quantizers"].items()) {
    const std::size_t end = name.find(".weight_quantizer");
    if (end != std::string::npos && quantizer["enabled"]) {
      for (const Target& target : TargetsOf(name.substr(0, end), 1, expected_)) {
        enabled.insert(target.module);
      }
    }
  }
  for (const auto& [name, module] : ranges_.modules) {
    EXPECT_EQ(module.format != "none", enabled.contains(name)) << name << " " << module.format;
  }
}

TEST_P(CalibratedCheckpoints, WhereModulesStatesCannotBeReadTheRulesOfTheModelSayTheSame) {
  Checkpoint damaged = *checkpoint_;
  ASSERT_FALSE(damaged.module_states.empty());
  for (ModuleState& state : damaged.module_states) {
    state.length = 16;
  }
  const auto model = LearnModel(damaged, tensors_, {});
  ASSERT_TRUE(model.ok()) << Describe(model.status());
  const auto by_rules = RangesOfCheckpoint(damaged, tensors_, *model);
  ASSERT_TRUE(by_rules.ok()) << Describe(by_rules.status());
  ASSERT_EQ(by_rules->modules.size(), ranges_.modules.size());
  for (const auto& [name, module] : ranges_.modules) {
    const ModuleRanges& other = by_rules->modules.at(name);
    EXPECT_EQ(other.format, module.format) << name << " " << other.stated;
    EXPECT_EQ(other.group, module.group) << name;
    EXPECT_EQ(other.input, module.input) << name;
    EXPECT_EQ(other.weight_amax, module.weight_amax) << name;
  }
  for (const auto& [name, attention] : ranges_.attention) {
    EXPECT_EQ(by_rules->attention.at(name).format, attention.format) << name;
  }
}

TEST_P(CalibratedCheckpoints, WhereNothingSaysTheFormatItStaysEmptyAndTheRangesStay) {
  Checkpoint damaged = *checkpoint_;
  damaged.module_states.clear();
  damaged.directory = nullptr;
  const auto model = LearnModel(*checkpoint_, tensors_, {});
  ASSERT_TRUE(model.ok()) << Describe(model.status());
  const auto ranges = RangesOfCheckpoint(damaged, tensors_, *model);
  ASSERT_TRUE(ranges.ok()) << Describe(ranges.status());
  for (const auto& [name, module] : ranges->modules) {
    EXPECT_EQ(module.format, "") << name;
    EXPECT_EQ(module.weight_amax, ranges_.modules.at(name).weight_amax) << name;
    EXPECT_EQ(module.input_amax, ranges_.modules.at(name).input_amax) << name;
    const bool has_amaxes = ranges_.modules.at(name).weight_amaxes.has_value();
    ASSERT_EQ(module.weight_amaxes.has_value(), has_amaxes) << name;
    EXPECT_TRUE(!has_amaxes || ValuesOf(*module.weight_amaxes) == ValuesOf(*ranges_.modules.at(name).weight_amaxes))
        << name;
  }
}

TEST_P(CalibratedCheckpoints, WhatIsNotNeededOfQuantizersIsUnusedByName) {
  ExportOptions options;
  options.checkpoint = PathOf(GetParam().name);
  const auto plan = MakePlan(options);
  const bool scaled = GetParam().format.find("awq") != std::string::npos;
  ASSERT_EQ(plan.ok(), !scaled) << Describe(plan.status());
  if (scaled) {
    EXPECT_EQ(ReasonOf(plan.status()), Reason::kOptionUnsupported);
    EXPECT_THAT(WhereOf(plan.status()).tensor, HasSubstr("_pre_quant_scale"));
    return;
  }
  std::set<std::string> unused;
  for (const UnusedRegion& region : (*plan)->unused) {
    EXPECT_EQ(region.reason, "ModelOpt quantizer state");
    unused.insert((*plan)->checkpoint->tensors[static_cast<std::size_t>(region.region.tensor)].name);
  }
  for (const StoredTensor& tensor : (*plan)->checkpoint->tensors) {
    const bool is_range = tensor.name.find("_quantizer.") != std::string::npos && !tensor.name.ends_with("._scale");
    EXPECT_EQ(unused.contains(tensor.name), is_range) << tensor.name;
  }
}

// What was measured before may say something else, or be gone.
TEST_P(CalibratedCheckpoints, OfCompressedNvfp4TheScalesOfTheCodesAreTheRanges) {
  Checkpoint bare = *checkpoint_;
  std::erase_if(bare.tensors,
                [](const StoredTensor& tensor) { return tensor.name.ends_with("weight_quantizer._amax"); });
  const auto tensors = Canonicalize(bare);
  const auto quantizers = CanonicalizeQuantizers(bare);
  ASSERT_TRUE(tensors.ok() && quantizers.ok());
  const auto model = LearnModel(bare, *tensors, {});
  ASSERT_TRUE(model.ok()) << Describe(model.status());
  const auto ranges = RangesOfCheckpoint(bare, *tensors, *model);
  ASSERT_TRUE(ranges.ok()) << Describe(ranges.status());
  int compressed = 0;
  for (const auto& [name, module] : ranges->modules) {
    if (!module.weight_amaxes || module.weight_amaxes->dtype != DType::kF8E4M3) {
      continue;
    }
    ASSERT_TRUE(module.weight_amax) << name;
    // The quotient that the export writes is the second scale, six times which makes amaxes of scales of blocks.
    EXPECT_EQ(*module.weight_amax / (6 * 448.0F) * 6, module.weight_amaxes->factor) << name;
    EXPECT_EQ(module.weight_amaxes->columns,
              tensors->at("decoder.layers.0.mlp.linear_fc1.weight").shape[1] / (name.ends_with("down_proj") ? 8 : 16))
        << name;
    ++compressed;
  }
  EXPECT_EQ(compressed, GetParam().name == "llama3_nvfp4_compressed_tp2" ? 7 : 0);
}

std::string Name(const testing::TestParamInfo<Fixture>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(ModelOpt, CalibratedCheckpoints, testing::ValuesIn(Fixtures()), Name);

}  // namespace
}  // namespace slipway::engine
