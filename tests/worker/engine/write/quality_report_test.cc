// Expected numbers were computed by hand from the definitions: SQNR = 10 log10(sum v^2 / sum e^2), error = its root.
#include "worker/engine/write/quality_report.h"

#include <cmath>
#include <limits>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "common/error.h"
#include "worker/engine/write/quality_json.h"
#include "worker/engine/write/quality_page.h"
#include "worker/engine/write/quality_text.h"

namespace slipway::engine {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// A plan of one shard, tensor by tensor, with what writing it would have measured.
class Made {
 public:
  Made() {
    plan.architecture = "LlamaForCausalLM";
    plan.shards.emplace_back().file = "model.safetensors";
    results.emplace_back().file = "model.safetensors";
  }

  static OutputTensor Output(std::string name, DType dtype, std::optional<QuantizedPart> quantized = std::nullopt) {
    OutputTensor output;
    output.name = std::move(name);
    output.dtype = dtype;
    output.quantized = quantized;
    return output;
  }

  void AddWeight(const std::string& module, const WeightStatistics& statistics, const char* format = "nvfp4",
                 std::int64_t rows = 4, std::int64_t columns = 32) {
    QuantizedWeight weight;
    weight.module = module;
    weight.values.name = module + ".weight";
    weight.rows = rows;
    weight.columns = columns;
    weight.format = FindFormat(format);
    weight.layout = &weight.format->layouts.back();
    weight.coding = weight.layout->coding;
    const auto index = static_cast<std::int32_t>(plan.quantized.size());
    plan.quantized.push_back(weight);
    Add(Output(module + ".weight", DType::kU8, QuantizedPart{.weight = index}), 64, statistics);
    Add(Output(module + ".weight_scale", DType::kF8E4M3, QuantizedPart{.weight = index, .role = StoredRole::kScales}),
        8);
  }

  void Add(OutputTensor tensor, std::int64_t bytes, std::optional<WeightStatistics> statistics = std::nullopt) {
    tensor.bytes = bytes;
    results[0].tensors.push_back({.name = tensor.name, .xxh3 = "", .rounding = {}, .quantization = statistics});
    plan.tensors.push_back(std::move(tensor));
    plan.shards[0].tensor_count = static_cast<std::int32_t>(plan.tensors.size());
  }

  [[nodiscard]] QualityReport Report() const { return MakeQualityReport(plan, results); }

  ExportPlan plan;
  std::vector<ShardResult> results;
};

// 128 values whose squares add up to 200, with an error of `squared_error`.
WeightStatistics Statistics(double squared_error) {
  return {.elements = 128,
          .squared_error = squared_error,
          .squared_value = 200,
          .amax = 5,
          .largest_error = 0.25F,
          .saturated = 3,
          .zeros = 4};
}

TEST(QualityReport, SaysOfATensorWhatItsSumsSay) {
  Made made;
  made.AddWeight("model.layers.0.mlp.down_proj", Statistics(2));
  const nlohmann::json row = nlohmann::json::parse(QualityToJson(made.Report())).at("tensors").at(0);
  EXPECT_EQ(row.at("name"), "model.layers.0.mlp.down_proj.weight");
  EXPECT_EQ(row.at("shape"), nlohmann::json({4, 32}));
  EXPECT_DOUBLE_EQ(row.at("sqnr_db"), 20);          // 10 log10(200 / 2)
  EXPECT_DOUBLE_EQ(row.at("relative_error"), 0.1);  // sqrt(2 / 200)
  EXPECT_DOUBLE_EQ(row.at("amax_to_rms"), 4);       // 5 / sqrt(200 / 128)
  EXPECT_EQ(row.at("bytes_before"), 256);           // BF16
  EXPECT_EQ(row.at("bytes_after"), 72);             // codes and scales
  EXPECT_DOUBLE_EQ(row.at("bits_per_weight"), 4.5);
  EXPECT_EQ(row.at("saturated"), 3);
  EXPECT_EQ(row.at("zeros"), 4);
  EXPECT_DOUBLE_EQ(row.at("largest_error"), 0.25);
  EXPECT_EQ(row.at("within_bound"), true);
}

TEST(QualityReport, AWeightWithoutErrorHasNoSqnr) {
  Made made;
  made.AddWeight("model.layers.0.mlp.down_proj", Statistics(0));
  const QualityReport report = made.Report();
  EXPECT_TRUE(nlohmann::json::parse(QualityToJson(report)).at("total").at("sqnr_db").is_null());
  EXPECT_THAT(QualityToHtml(report), HasSubstr("exact"));
}

TEST(QualityReport, LayersHaveTheirSumTheirWorstAndTheirMean) {
  Made made;
  made.AddWeight("model.layers.10.mlp.down_proj", Statistics(2));
  made.AddWeight("model.layers.2.mlp.down_proj", Statistics(0.2));  // 30 dB
  made.AddWeight("model.layers.2.mlp.up_proj", Statistics(2));      // 20 dB
  made.AddWeight("lm_head", Statistics(2));
  const QualityReport report = made.Report();
  ASSERT_EQ(report.layers.size(), 3);
  EXPECT_EQ(report.layers[0].name, "");
  EXPECT_EQ(report.layers[1].name, "model.layers.2");
  EXPECT_EQ(report.layers[2].name, "model.layers.10");
  EXPECT_DOUBLE_EQ(report.layers[1].least, 20);
  EXPECT_DOUBLE_EQ(report.layers[1].mean, 25);
  EXPECT_NEAR(report.layers[1].sum.statistics.SignalToQuantizationNoise(), 22.596373, 1e-6);  // 10 log10(400 / 2.2)
}

TEST(QualityReport, MarksWhatIsOutsideItsFormatsBound) {
  Made made;
  ASSERT_DOUBLE_EQ(FindFormat("nvfp4")->error_bound, 0.1);
  made.AddWeight("model.layers.0.mlp.up_proj", Statistics(1.99));
  made.AddWeight("model.layers.0.mlp.down_proj", Statistics(2.1));
  const QualityReport report = made.Report();
  EXPECT_EQ(report.total.outside, 1);
  EXPECT_TRUE(report.tensors[0].Outside());
  EXPECT_FALSE(report.tensors[1].Outside());
  EXPECT_THAT(QualityToHtml(report), HasSubstr(R"(<tr class="outside"><td><code>mlp.down_proj.weight)"));
}

TEST(QualityReport, SaysWhatStaysAndWhoLoadsIt) {
  Made made;
  made.AddWeight("model.layers.0.mlp.up_proj", Statistics(2));
  OutputTensor norm = Made::Output("model.norm.weight", DType::kBF16);
  norm.shape = {32};
  made.Add(std::move(norm), 64);
  const QualityReport report = made.Report();
  ASSERT_EQ(report.unquantized.size(), 1);
  EXPECT_EQ(report.unquantized[0].name, "model.norm.weight");
  EXPECT_EQ(report.unquantized_bytes, 64);
  EXPECT_THAT(report.loaded_by, ElementsAre("vLLM", "SGLang", "transformers"));
}

TEST(QualityReport, ExpertsAreLoadedByFewer) {
  Made made;
  made.AddWeight("model.layers.0.mlp.experts.0.up_proj", Statistics(2));
  EXPECT_THAT(made.Report().loaded_by, ElementsAre("vLLM", "SGLang"));
}

TEST(QualityReport, JsonGivesStatisticsBackExactly) {
  Made made;
  const WeightStatistics odd{.elements = 128,
                             .squared_error = 0.1 + 0.2,
                             .squared_value = 1.0 / 3,
                             .amax = 0.1F,
                             .largest_error = 1e-30F,
                             .saturated = 7,
                             .zeros = 9};
  made.AddWeight("model.layers.0.mlp.up_proj", odd);
  const auto parsed = ParseQuality(QualityToJson(made.Report()));
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->at("model.layers.0.mlp.up_proj.weight"), odd);
  EXPECT_EQ(ReasonOf(ParseQuality("{}").status()), Reason::kArtifactCorrupt);
  EXPECT_EQ(ReasonOf(ParseQuality("nonsense").status()), Reason::kArtifactCorrupt);
}

TEST(QualityReport, KnowsPlacesByNames) {
  EXPECT_EQ(PlaceOf("model.layers.3.self_attn.q_proj"), (ModulePlace{"model.layers", 3, "q_proj"}));
  EXPECT_EQ(PlaceOf("model.layers.3.mlp.experts.17.up_proj"), (ModulePlace{"model.layers", 3, "experts.*.up_proj"}));
  EXPECT_EQ(PlaceOf("lm_head"), (ModulePlace{"", -1, "lm_head"}));
  EXPECT_EQ(PlaceOf("model.layers.99999999999999999999.x").layer, -1);
  EXPECT_EQ(PlaceOf("").layer, -1);
  EXPECT_EQ(PlaceOf("..3..").kind, "");  // behind the layer, an empty block and an empty name
}

TEST(QualityReport, NamesCannotBreakThePage) {
  Made made;
  made.AddWeight("model.layers.0.mlp.<script>alert('&\")</script>", Statistics(2));
  made.AddWeight(std::string("model.layers.0.mlp.\xFF\x01\xED\xA0\x80", 23), Statistics(2));
  made.plan.warnings = {"<b>"};
  const std::string page = QualityToHtml(made.Report());
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert(&#39;&amp;&quot;)&lt;/script&gt;"));
  EXPECT_THAT(page, HasSubstr("<li>&lt;b&gt;</li>"));
  EXPECT_EQ(page.find_first_of("\xFF\x01\xED"), std::string::npos);
}

TEST(QualityReport, EscapesWhatXmlHasNot) {
  EXPECT_EQ(Escaped("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
  EXPECT_EQ(Escaped("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"), "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
  EXPECT_EQ(Escaped(std::string("\0\n\x7F", 3)), "???");
  EXPECT_EQ(Escaped("\xC0\xAF"), "??");       // overlong
  EXPECT_EQ(Escaped("\xED\xA0\x80"), "???");  // a surrogate
  EXPECT_EQ(Escaped("\xEF\xBF\xBF"), "???");  // U+FFFF
  EXPECT_EQ(Escaped("x\xE2\x82"), "x??");     // cut
}

// 60 layers of 384 experts with three projections.
TEST(QualityReport, ThePageOfAHundredThousandTensorsIsSmall) {
  Made made;
  for (int layer = 0; layer < 60; ++layer) {
    for (int expert = 0; expert < 384; ++expert) {
      for (const char* projection : {"gate_proj", "up_proj", "down_proj"}) {
        made.AddWeight(fmt::format("model.layers.{}.mlp.experts.{}.{}", layer, expert, projection),
                       Statistics(1 + 0.001 * expert));
      }
    }
  }
  const QualityReport report = made.Report();
  const std::string page = QualityToHtml(report);
  EXPECT_LT(page.size(), 400'000);
  EXPECT_THAT(page, HasSubstr("384 × experts.*.gate_proj"));
  EXPECT_EQ(ParseQuality(QualityToJson(report))->size(), 60 * 384 * 3);
  EXPECT_EQ(page, QualityToHtml(made.Report()));
}

TEST(QualityReport, ThePageOfAHundredThousandLayersIsCut) {
  Made made;
  for (int layer = 0; layer < 100'000; ++layer) {
    made.AddWeight(fmt::format("model.layers.{}.{}", layer, std::string(300, 'x')), Statistics(2));
  }
  EXPECT_LT(QualityToHtml(made.Report()).size(), 12'000'000);
}

}  // namespace
}  // namespace slipway::engine
