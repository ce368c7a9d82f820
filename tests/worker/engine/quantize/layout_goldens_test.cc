// Layouts against the tensors that Model Optimizer, llm-compressor and others write of the same models.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/worker/engine/quantize/golden.h"

namespace slipway::engine {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::IsEmpty;

std::string TypeOf(const LayoutTensor& tensor) {
  return std::string(InfoOf(tensor.model_dtype ? DType::kBF16 : tensor.dtype).safetensors_name);
}

// Tensors of one kind, by name: [type, shape].
struct Tensors {
  std::map<std::string, Json> required;
  std::map<std::string, Json> optional;  // pre_quant_scale: a norm may have taken it in
};

Tensors FromLayouts(const test::Golden& golden) {
  Tensors tensors;
  const Layout& layout = *test::LayoutOf(golden);
  const Recipe recipe = test::RecipeFor(golden);
  Coding coding = layout.coding;
  coding.group = golden.group != 0 ? golden.group : coding.group;
  for (const Json& source : test::ReadSource(golden.source)) {
    const std::string module = test::ModuleOfMatrix(source);
    if (module.empty() || !test::IsQuantized(recipe, module)) {
      tensors.required[source[0]] = {source[1], source[2]};
      continue;
    }
    for (const LayoutTensor& tensor : layout.tensors) {
      const Shape shape = tensor.shape(source[2][0], source[2][1], coding);
      auto& kind = tensor.role == StoredRole::kPreQuantScale ? tensors.optional : tensors.required;
      kind[module + "." + std::string(tensor.suffix)] = {TypeOf(tensor),
                                                         std::vector<std::int64_t>(shape.begin(), shape.end())};
    }
  }
  return tensors;
}

class LayoutGoldens : public ::testing::TestWithParam<test::Golden> {};

TEST_P(LayoutGoldens, NamesTypesAndShapesAreThoseOfTheToolThatMadeTheFormat) {
  Tensors expected = FromLayouts(GetParam());
  const Json golden = test::ReadGolden(GetParam());
  for (const auto& [name, tensor] : golden["tensors"].items()) {
    if (name.ends_with(".k_scale") || name.ends_with(".v_scale")) {
      continue;  // of the KV cache
    }
    auto& kind = expected.required.contains(name) ? expected.required : expected.optional;
    ASSERT_TRUE(kind.contains(name)) << "no layout has " << name;
    EXPECT_EQ(kind[name], tensor) << name;
    kind.erase(name);
  }
  EXPECT_THAT(expected.required, IsEmpty());
}

TEST_P(LayoutGoldens, TheWeightsOfTheGoldenFit) {
  const test::Golden& golden = GetParam();
  for (const Json& source : test::ReadSource(golden.source)) {
    const std::string module = test::ModuleOfMatrix(source);
    if (!module.empty() && test::IsQuantized(test::RecipeFor(golden), module)) {
      EXPECT_EQ(WhyNot(*FindFormat(golden.format), *test::LayoutOf(golden), source[2][0], source[2][1], golden.group),
                std::nullopt)
          << module;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, LayoutGoldens, ::testing::ValuesIn(test::Goldens()),
                         [](const auto& golden) { return golden.param.source + "_" + golden.param.name; });

// Each layer as its entry of quantized_layers says.
TEST(LayoutGoldens, AMixtureHasEachLayersLayout) {
  const Json golden = test::ReadJson("llama_mixed_auto");
  std::map<std::string, Json> tensors = golden["tensors"];
  for (const Json& source : test::ReadSource("llama")) {
    const std::string module = test::ModuleOfMatrix(source);
    const Json& layers = golden["config"]["quantized_layers"];
    if (!layers.contains(module)) {
      EXPECT_EQ(tensors.erase(source[0]), 1U) << source[0];
      continue;
    }
    const std::string_view format = layers[module]["quant_algo"] == "FP8" ? "fp8" : "nvfp4";
    const Layout& layout = *ChooseLayout(*FindFormat(format), {.form = ConfigForm::kModelOpt, .has_ranges = true});
    for (const LayoutTensor& tensor : layout.tensors) {
      const std::string name = module + "." + std::string(tensor.suffix);
      const Shape shape = tensor.shape(source[2][0], source[2][1], layout.coding);
      EXPECT_EQ(tensors[name], Json({TypeOf(tensor), std::vector<std::int64_t>(shape.begin(), shape.end())})) << name;
      tensors.erase(name);
    }
  }
  EXPECT_THAT(tensors, IsEmpty());
}

}  // namespace
}  // namespace slipway::engine
