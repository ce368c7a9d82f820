// Shards of quantized weights: the same bytes however they are cut, those of each weight quantized as a whole by the
// scalar definition.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/random_export.h"
#include "tests/support/safetensors_writer.h"
#include "worker/engine/float_bits.h"
#include "worker/engine/quantize/packing.h"
#include "worker/engine/quantize/quantizer.h"
#include "worker/engine/quantize/reference.h"
#include "worker/engine/quantize/scale_search.h"
#include "worker/engine/run/journal.h"
#include "worker/engine/run/shard_writer.h"
#include "worker/engine/run/staging.h"

namespace slipway::engine {
namespace {

using test::HfTensor;
using test::ReadFile;
using test::SafetensorsFile;
using test::WriteFile;

struct Weight {
  std::string module;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::string bytes = {};  // BF16
};

float ValueAt(const std::string& bytes, std::size_t element) {
  std::uint16_t half = 0;
  std::memcpy(&half, bytes.data() + element * 2, 2);
  const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

float LargestOf(const std::string& bytes) {
  float largest = 0;
  for (std::size_t i = 0; i < bytes.size() / 2; ++i) {
    largest = std::max(largest, std::fabs(ValueAt(bytes, i)));
  }
  return largest;
}

// What is asked of an export.
struct Case {
  const char* quantization;
  const char* form;
  const char* search;
  const char* scale;             // suffix of scales
  const char* codes;             // and of codes
  const char* zero_points = "";  // and of zero points, where they are not all alike
  const char* recipe = "";       // instead of `quantization`
};

class QuantizedShards : public testing::TestWithParam<Case> {
 protected:
  void Add(const std::string& module, std::int64_t rows, std::int64_t columns) {
    Weight weight{module, rows, columns, {}};
    std::normal_distribution<float> normal(0, 0.02F);
    for (std::int64_t i = 0; i < rows * columns; ++i) {
      const float value = normal(random_);
      std::uint32_t bits = 0;
      std::memcpy(&bits, &value, sizeof(bits));
      const auto half = static_cast<std::uint16_t>(bits >> 16);
      weight.bytes.append(reinterpret_cast<const char*>(&half), sizeof(half));
    }
    weights_.push_back(std::move(weight));
  }

  void AddLayer() {
    Add("model.layers.0.self_attn.q_proj", 256, 256);
    Add("model.layers.0.self_attn.k_proj", 128, 256);
    Add("model.layers.0.self_attn.v_proj", 128, 256);
    Add("model.layers.0.mlp.gate_proj", 384, 256);
    Add("model.layers.0.mlp.up_proj", 384, 256);
    Add("model.layers.0.mlp.down_proj", 256, 384);
  }

  void Write() {
    std::filesystem::create_directories(checkpoint_);
    std::vector<HfTensor> tensors = {
        {"model.norm.weight", "BF16", {3}, "\1\2\3\4\5\6"}};  // what follows is at an odd place
    for (const Weight& weight : weights_) {
      tensors.push_back({weight.module + ".weight", "BF16", {weight.rows, weight.columns}, weight.bytes});
    }
    WriteFile(checkpoint_ + "/model.safetensors", SafetensorsFile(tensors));
    WriteFile(checkpoint_ + "/config.json", R"({"architectures":["LlamaForCausalLM"],"model_type":"llama"})");
  }

  std::shared_ptr<const ExportPlan> Plan(const Case& wanted, std::int64_t maximum_shard_bytes = 5'000'000'000) {
    ExportOptions options;
    options.checkpoint = checkpoint_;
    options.recipe = wanted.recipe;
    options.quantization = options.recipe.empty() ? wanted.quantization : "none";
    options.config_form = wanted.form;
    options.scale_search = wanted.search;
    options.maximum_shard_bytes = maximum_shard_bytes;
    auto plan = MakePlan(options);
    EXPECT_TRUE(plan.ok()) << Describe(plan.status());
    return plan.ok() ? *plan : nullptr;
  }

  // All shards' bytes.
  std::vector<std::string> Run(const ExportPlan& plan, int threads, std::int64_t segment_bytes, MemoryBudget& memory) {
    const auto staging = PrepareStaging(plan, directory_ / "out", false, PosixFileSystem());
    EXPECT_TRUE(staging.ok()) << Describe(staging.status());
    std::vector<std::string> files;
    for (std::size_t i = 0; i < plan.shards.size(); ++i) {
      const RunResources resources{
          .files = &PosixFileSystem(), .memory = &memory, .threads = threads, .segment_bytes = segment_bytes};
      const auto result = WriteShard(plan, static_cast<std::int32_t>(i), *staging, "a", resources, {});
      EXPECT_TRUE(result.ok()) << Describe(result.status());
      files.push_back(result.ok() ? ReadFile(*staging + "/" + result->file) : "");
    }
    std::filesystem::remove_all(*staging);
    return files;
  }

  static std::string BytesOf(const ExportPlan& plan, const std::vector<std::string>& files, const std::string& name) {
    const auto tensor = std::ranges::find(plan.tensors, name, &OutputTensor::name);
    EXPECT_NE(tensor, plan.tensors.end()) << name;
    return tensor == plan.tensors.end()
               ? ""
               : files.at(static_cast<std::size_t>(tensor->shard))
                     .substr(static_cast<std::size_t>(tensor->file_offset), static_cast<std::size_t>(tensor->bytes));
  }

  // The weights whose codes depend on one scale with `weight`'s.
  std::vector<const Weight*> Fused(const Weight& weight, bool siblings) const {
    std::vector<const Weight*> fused;
    const std::string parent = weight.module.substr(0, weight.module.rfind('.'));
    for (const Weight& other : weights_) {
      const bool down = other.module.ends_with("down_proj") || weight.module.ends_with("down_proj");
      if (&other == &weight || (siblings && !down && other.module.starts_with(parent + "."))) {
        fused.push_back(&other);
      }
    }
    return fused;
  }

  test::TemporaryDirectory directory_;
  const std::string checkpoint_ = directory_ / "checkpoint";
  std::mt19937 random_{23};
  std::vector<Weight> weights_;
};

TEST_P(QuantizedShards, BytesDoNotDependOnSegmentsThreadsAndFiles) {
  AddLayer();
  Write();
  const auto plan = Plan(GetParam());
  ASSERT_NE(plan, nullptr);
  MemoryBudget memory(plan->peak_memory_bytes);
  const std::vector<std::string> expected = Run(*plan, 1, kSegmentBytes, memory);
  for (const std::int64_t segment : {std::int64_t{4096}, std::int64_t{65536}, std::int64_t{100'001}, kSegmentBytes}) {
    for (const int threads : {1, 8}) {
      EXPECT_TRUE(expected == Run(*plan, threads, segment, memory)) << segment << " bytes, " << threads << " threads";
    }
  }
  EXPECT_LE(memory.peak(), memory.total());
  // In several files, fused siblings apart: their common scale is the same.
  const auto split = Plan(GetParam(), 60'000);
  ASSERT_NE(split, nullptr);
  ASSERT_GT(split->shards.size(), 4U);
  const std::vector<std::string> files = Run(*split, 2, 65536, memory);
  for (const OutputTensor& tensor : plan->tensors) {
    EXPECT_TRUE(BytesOf(*plan, expected, tensor.name) == BytesOf(*split, files, tensor.name)) << tensor.name;
  }
}

TEST_P(QuantizedShards, EachWeightIsWhatTheDefinitionMakesOfItAsAWhole) {
  AddLayer();
  Write();
  const auto plan = Plan(GetParam());
  ASSERT_NE(plan, nullptr);
  MemoryBudget memory(plan->peak_memory_bytes);
  const std::vector<std::string> files = Run(*plan, 3, 20'000, memory);
  const auto reference = MakeReferenceQuantizer();
  for (const Weight& weight : weights_) {
    const auto planned = std::ranges::find(plan->quantized, weight.module, &QuantizedWeight::module);
    ASSERT_NE(planned, plan->quantized.end()) << weight.module;
    const Coding& coding = planned->coding;
    float largest = 0;
    for (const Weight* fused : Fused(weight, std::string_view(GetParam().quantization) == "nvfp4")) {
      largest = std::max(largest, LargestOf(fused->bytes));
    }
    const bool searched = coding.sharing == Sharing::kTensor && coding.search == ScaleSearch::kSquaredError;
    const std::string scale = BytesOf(*plan, files, weight.module + "." + GetParam().scale);
    float tensor_scale = TensorScale(coding, largest);
    if (searched) {  // whichever was found: the next test asks which
      std::memcpy(&tensor_scale, scale.data(), sizeof(tensor_scale));
    }
    const Values values{DType::kBF16, std::as_bytes(std::span(weight.bytes)), weight.rows, weight.columns};
    std::string codes(static_cast<std::size_t>(CodeBytes(coding, weight.rows, weight.columns)), '\0');
    const std::int64_t count = ScaleCount(coding, weight.rows, weight.columns);
    std::string scales(static_cast<std::size_t>(count * InfoOf(coding.scale_dtype).bytes), '\0');
    std::vector<std::byte> zero_points(HasZeroPoints(coding.rule) ? static_cast<std::size_t>(count) : 0);
    ASSERT_TRUE(reference
                    ->Quantize({.coding = coding,
                                .values = values,
                                .tensor_scale = tensor_scale,
                                .codes = std::as_writable_bytes(std::span(codes)),
                                .scales = std::as_writable_bytes(std::span(scales)),
                                .zero_points = zero_points})
                    .ok());
    EXPECT_TRUE(codes == BytesOf(*plan, files, weight.module + "." + GetParam().codes)) << weight.module;
    ASSERT_EQ(HasZeroPoints(coding.rule), *GetParam().zero_points != '\0');
    if (HasZeroPoints(coding.rule)) {
      std::string words(zero_points.size() / 2, '\0');
      PackZeroPoints(coding.packing, zero_points, weight.rows, std::as_writable_bytes(std::span(words)));
      EXPECT_TRUE(words == BytesOf(*plan, files, weight.module + "." + GetParam().zero_points)) << weight.module;
    }
    if (count > 0) {
      EXPECT_TRUE(scales == scale) << weight.module;
    } else if (!searched) {
      EXPECT_EQ(std::string(reinterpret_cast<const char*>(&tensor_scale), sizeof(tensor_scale)), scale);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Formats, QuantizedShards,
    testing::Values(Case{"fp8", "native", "amax", "weight_scale", "weight"},
                    Case{"fp8", "native", "mse", "weight_scale", "weight"},
                    Case{"nvfp4", "modelopt", "amax", "weight_scale", "weight"},
                    Case{"nvfp4", "modelopt", "mse", "weight_scale", "weight"},
                    Case{"int4", "native", "amax", "scales", "qweight", "qzeros"},
                    Case{"int4", "native", "mse", "scales", "qweight", "qzeros"},
                    Case{"int4 symmetric", "native", "amax", "scales", "qweight", "",
                         "rules: [{format: int4, symmetric: true}]"},
                    Case{"int4 asymmetric", "compressed-tensors", "amax", "weight_scale", "weight_packed",
                         "weight_zero_point", "rules: [{format: int4, group: 32, symmetric: false}]"},
                    Case{"int4 asymmetric", "compressed-tensors", "mse", "weight_scale", "weight_packed",
                         "weight_zero_point", "rules: [{format: int4, symmetric: false}]"},
                    Case{"int4", "modelopt", "amax", "weight_scale", "weight"},
                    Case{"int4", "modelopt", "mse", "weight_scale", "weight"},
                    Case{"fp8-block", "modelopt", "amax", "weight_scale", "weight"},
                    Case{"fp8-block", "modelopt", "mse", "weight_scale", "weight"},
                    Case{"mxfp4", "modelopt", "mse", "weight_scale", "weight"}),
    [](const auto& wanted) {
      std::string name = std::string(wanted.param.quantization) + "_" + wanted.param.form + "_" + wanted.param.search;
      std::ranges::replace_if(
          name, [](char letter) { return letter == '-' || letter == ' '; }, '_');
      return name;
    });

class QuantizedShardRuns : public QuantizedShards {};

TEST_F(QuantizedShardRuns, ASearchedTensorScaleIsTheBestOfItsNeighbours) {
  Add("model.layers.0.mlp.down_proj", 64, 256);
  Write();
  const Case wanted{"fp8", "native", "mse", "weight_scale", "weight"};
  const auto plan = Plan(wanted);
  ASSERT_NE(plan, nullptr);
  MemoryBudget memory(plan->peak_memory_bytes);
  const std::vector<std::string> files = Run(*plan, 2, 4096, memory);
  const auto error_of = [&](float scale) {
    double error = 0;
    for (std::size_t i = 0; i < weights_[0].bytes.size() / 2; ++i) {
      const double quotient = std::fabs(static_cast<double>(ValueAt(weights_[0].bytes, i) / scale));
      const int exponent = std::max(-6, quotient == 0 ? -6 : std::ilogb(quotient));
      const double step = std::ldexp(1.0, exponent - 3);
      const double element = std::min(448.0, std::nearbyint(quotient / step) * step);
      error += std::pow((quotient - element) * static_cast<double>(scale), 2);
    }
    return error;
  };
  float found = 0;
  std::memcpy(&found, BytesOf(*plan, files, "model.layers.0.mlp.down_proj.weight_scale").data(), sizeof(found));
  bool is_one = false;
  for (const float factor : AmaxFactors(Element::kE4M3)) {
    const float neighbour = LargestOf(weights_[0].bytes) * factor / 448;
    is_one = is_one || neighbour == found;
    EXPECT_LE(error_of(found), error_of(neighbour) * (1 + 1e-6)) << factor;
  }
  EXPECT_TRUE(is_one) << found;
}

TEST_F(QuantizedShardRuns, AnInterruptedExportGoesOnFromItsFinishedShardsToTheSameBytes) {
  AddLayer();
  Write();
  const auto plan = Plan({"nvfp4", "modelopt", "mse", "weight_scale", "weight"}, 60'000);
  ASSERT_NE(plan, nullptr);
  MemoryBudget memory(plan->peak_memory_bytes);
  const std::vector<std::string> expected = Run(*plan, 2, kSegmentBytes, memory);
  const auto staging = PrepareStaging(*plan, directory_ / "out", false, PosixFileSystem());
  ASSERT_TRUE(staging.ok()) << Describe(staging.status());
  const auto write = [&](std::int32_t shard, const RunControl& control) {
    return WriteShard(*plan, shard, *staging, "a",
                      {.files = &PosixFileSystem(), .memory = &memory, .threads = 2, .segment_bytes = 4096}, control);
  };
  const auto first = write(0, {});
  ASSERT_TRUE(first.ok()) << Describe(first.status());
  std::atomic<bool> cancelled = false;
  RunControl stop{.written = [&](std::int64_t bytes) { cancelled = cancelled || bytes > 0; }, .cancelled = &cancelled};
  EXPECT_EQ(ReasonOf(write(1, stop).status()), Reason::kCancelled);
  for (std::size_t i = 0; i < plan->shards.size(); ++i) {
    const auto result = write(static_cast<std::int32_t>(i), {});
    ASSERT_TRUE(result.ok()) << Describe(result.status());
    EXPECT_EQ(result->bytes_written == 0, i == 0) << "shard " << i;
    EXPECT_TRUE(ReadFile(*staging + "/" + result->file) == expected[i]) << "shard " << i;
    if (i == 0) {  // what the manifest will say is what was found when it was written
      EXPECT_EQ(result->digest, first->digest);
      for (std::size_t tensor = 0; tensor < result->tensors.size(); ++tensor) {
        EXPECT_EQ(result->tensors[tensor].xxh3, first->tensors[tensor].xxh3);
        const auto& recorded = result->tensors[tensor].quantization;
        const auto& measured = first->tensors[tensor].quantization;
        ASSERT_EQ(recorded.has_value(), measured.has_value());
        if (recorded) {
          EXPECT_EQ(StatisticsToJson(*recorded).dump(), StatisticsToJson(*measured).dump());
        }
      }
    }
  }
}

// As norms and weights of AWQ get the scales of inputs.
TEST_F(QuantizedShardRuns, ColumnsAreMultipliedByTheirFactorsBeforeTheyAreCoded) {
  AddLayer();
  Write();
  const auto reference = MakeReferenceQuantizer();
  for (const Case& wanted : {Case{"int4", "native", "amax", "scales", "qweight"},
                             Case{"int4", "modelopt", "amax", "weight_scale", "weight"}}) {
    const auto unscaled = Plan(wanted);
    ASSERT_NE(unscaled, nullptr);
    ExportPlan plan = *unscaled;
    std::map<std::string, std::vector<float>> factors;
    for (QuantizedWeight& weight : plan.quantized) {
      std::vector<float>& of_weight = factors[weight.module];
      for (std::int64_t i = 0; i < weight.columns; ++i) {
        of_weight.push_back(std::ldexp(1 + static_cast<float>(random_() % 64) / 64, static_cast<int>(random_() % 5)));
      }
      weight.values.column_factors = std::make_shared<const std::vector<float>>(of_weight);
    }
    const auto norm = std::ranges::find(plan.tensors, "model.norm.weight", &OutputTensor::name);
    norm->column_factors = std::make_shared<const std::vector<float>>(std::vector<float>{2, 0.5F, 4});
    MemoryBudget memory(plan.peak_memory_bytes);
    const std::vector<std::string> files = Run(plan, 2, 20'000, memory);
    EXPECT_TRUE(files == Run(plan, 1, kSegmentBytes, memory));
    EXPECT_EQ(BytesOf(plan, files, "model.norm.weight"), std::string("\x81\2\x83\3\5\7", 6));  // 2^n: exponents alone
    for (const Weight& weight : weights_) {
      const QuantizedWeight& planned = *std::ranges::find(plan.quantized, weight.module, &QuantizedWeight::module);
      std::string scaled = weight.bytes;
      for (std::size_t i = 0; i < scaled.size() / 2; ++i) {
        const float product = ValueAt(weight.bytes, i) * factors[weight.module][i % factors[weight.module].size()];
        const std::uint16_t half = ToBFloat16(product);
        std::memcpy(scaled.data() + 2 * i, &half, 2);
      }
      std::string codes(static_cast<std::size_t>(CodeBytes(planned.coding, weight.rows, weight.columns)), '\0');
      ASSERT_TRUE(
          reference
              ->Quantize({.coding = planned.coding,
                          .values = {DType::kBF16, std::as_bytes(std::span(scaled)), weight.rows, weight.columns},
                          .codes = std::as_writable_bytes(std::span(codes))})
              .ok());
      EXPECT_TRUE(codes == BytesOf(plan, files, weight.module + "." + wanted.codes)) << weight.module;
    }
  }
}

TEST_F(QuantizedShardRuns, AValueThatIsNotFiniteStopsTheShardByName) {
  for (const Case& wanted : {Case{"fp8", "native", "amax", "", ""}, Case{"nvfp4", "modelopt", "mse", "", ""},
                             Case{"int4", "native", "amax", "", ""}, Case{"int4", "modelopt", "amax", "", ""},
                             Case{"fp8-block", "native", "amax", "", ""}, Case{"mxfp8", "modelopt", "amax", "", ""}}) {
    for (const std::string_view bad : {std::string_view("\xC0\x7F", 2), std::string_view("\x80\xFF", 2)}) {
      weights_.clear();
      AddLayer();
      weights_[4].bytes.replace(70'000, 2, bad);  // of up_proj
      Write();
      const auto plan = Plan(wanted);
      ASSERT_NE(plan, nullptr);
      MemoryBudget memory(plan->peak_memory_bytes);
      const auto staging = PrepareStaging(*plan, directory_ / "out", false, PosixFileSystem());
      ASSERT_TRUE(staging.ok());
      const absl::Status status =
          WriteShard(*plan, 0, *staging, "a", {.files = &PosixFileSystem(), .memory = &memory, .threads = 2}, {})
              .status();
      EXPECT_EQ(ReasonOf(status), Reason::kCheckpointCorrupt) << wanted.quantization << Describe(status);
      EXPECT_EQ(WhereOf(status).tensor, "model.layers.0.mlp.up_proj.weight") << wanted.quantization;
      EXPECT_FALSE(std::filesystem::exists(*staging + "/model.safetensors"));
    }
  }
}

TEST_F(QuantizedShardRuns, AFiniteValueThatTheDtypeCannotHoldIsNotCalledCorrupt) {
  AddLayer();
  weights_[4].bytes.replace(70'000, 2, std::string_view("\x74\x49", 2));  // 999424
  Write();
  for (const char* quantization : {"nvfp4", "mxfp8"}) {
    ExportOptions options;
    options.checkpoint = checkpoint_;
    options.quantization = quantization;
    options.config_form = "modelopt";
    options.dtype = DType::kF16;
    const auto plan = MakePlan(options);
    ASSERT_TRUE(plan.ok()) << Describe(plan.status());
    MemoryBudget memory((*plan)->peak_memory_bytes);
    const auto staging = PrepareStaging(**plan, directory_ / "out", false, PosixFileSystem());
    ASSERT_TRUE(staging.ok());
    const absl::Status status =
        WriteShard(**plan, 0, *staging, "a", {.files = &PosixFileSystem(), .memory = &memory}, {}).status();
    EXPECT_EQ(ReasonOf(status), Reason::kOptionUnsupported) << Describe(status);
    EXPECT_EQ(WhereOf(status).tensor, "model.layers.0.mlp.up_proj.weight");
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("--dtype bf16"));
  }
}

TEST_F(QuantizedShardRuns, BandsOfWideMatricesStayInTheBudgetOfThePlan) {
  Add("model.layers.0.mlp.down_proj", 300, 30'080);  // a band of 128 rows has 7.7 MB of BF16
  Write();
  for (const Case& wanted :
       {Case{"fp8-block", "native", "mse", "weight_scale_inv", "weight"}, Case{"int4", "modelopt", "amax", "", ""}}) {
    const auto plan = Plan(wanted);
    ASSERT_NE(plan, nullptr);
    MemoryBudget memory(plan->peak_memory_bytes);
    const auto files = Run(*plan, 4, kSegmentBytes, memory);
    EXPECT_GT(memory.peak(), 0);
    EXPECT_LE(memory.peak(), plan->peak_memory_bytes);
    MemoryBudget large(plan->peak_memory_bytes * 8);
    EXPECT_TRUE(files == Run(*plan, 4, kSegmentBytes, large));
    MemoryBudget small(plan->peak_memory_bytes - 1);
    const auto staging = PrepareStaging(*plan, directory_ / "out", false, PosixFileSystem());
    EXPECT_EQ(
        ReasonOf(WriteShard(*plan, 0, *staging, "a", {.files = &PosixFileSystem(), .memory = &small}, {}).status()),
        Reason::kMemoryBudgetTooSmall);
    std::filesystem::remove_all(*staging);
  }
}

TEST_F(QuantizedShardRuns, StripsOfTallMatricesStayInTheBudgetOfThePlan) {
  Add("model.layers.0.mlp.up_proj", 40'000, 256);  // a strip of 128 columns has 10.2 MB of BF16
  Write();
  const auto plan = Plan({"int4", "native", "amax", "scales", "qweight"});
  ASSERT_NE(plan, nullptr);
  MemoryBudget memory(plan->peak_memory_bytes);
  const auto files = Run(*plan, 3, kSegmentBytes, memory);
  EXPECT_LE(memory.peak(), plan->peak_memory_bytes);
  EXPECT_TRUE(files == Run(*plan, 1, 4096, memory));
}

}  // namespace
}  // namespace slipway::engine
