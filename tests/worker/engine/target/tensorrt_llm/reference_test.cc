// Every family against tests/data/tensorrt_llm/layouts.json: what a plain writer that shares no code with this one
// makes of models whose elements are numbered (tests/derived/tensorrt_llm_layouts.py).
#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <map>
#include <set>
#include <string>

#include <nlohmann/json.hpp>

#include "common/error.h"
#include "worker/engine/target/tensorrt_llm/layout.h"

namespace slipway::engine {
namespace {

using nlohmann::ordered_json;

const ordered_json& Cases() {
  static const ordered_json cases =
      ordered_json::parse(std::ifstream(SLIPWAY_TEST_DATA "/tensorrt_llm/layouts.json"), nullptr, false);
  return cases;
}

// A tensor as it lies in Hugging Face's file, its elements counted from `first` on.
struct Numbered {
  std::uint64_t first = 0;
  std::uint64_t rows = 0;
  std::uint64_t columns = 0;
  bool transposed = false;

  // Of the matrix [rows, columns].
  [[nodiscard]] std::uint64_t At(std::uint64_t row, std::uint64_t column) const {
    return first + (transposed ? column * rows + row : row * columns + column);
  }
};

struct Model {
  HuggingFaceModel model;
  std::map<std::string, Numbered> numbers;
};

Model ModelOf(const ordered_json& given) {
  Model result;
  result.model.architecture = given["config"]["architectures"][0];
  result.model.config = given["config"];
  const std::set<std::string> transposed = given["transposed"];
  for (const auto& [name, extents] : given["tensors"].items()) {
    HuggingFaceTensor tensor{.shape = {}, .dtype = DType::kF32};
    for (const auto& extent : extents) {
      tensor.shape.push_back(extent.get<std::int64_t>());
    }
    if (transposed.contains(name)) {
      std::swap(tensor.shape[0], tensor.shape[1]);
    }
    result.model.tensors[name] = tensor;
  }
  std::uint64_t first = 0;
  for (const auto& [name, tensor] : result.model.tensors) {
    const auto rows = static_cast<std::uint64_t>(tensor.shape[0]);
    const auto columns = tensor.shape.size() > 1 ? static_cast<std::uint64_t>(tensor.shape[1]) : 1;
    result.numbers[name] = {first, rows, columns, transposed.contains(name)};
    first += rows * columns;
  }
  return result;
}

// Of (i + 1) * element i, modulo 2^64.
std::uint64_t Sum(const RankTensor& tensor, const std::map<std::string, Numbered>& numbers) {
  std::uint64_t sum = 0;
  std::uint64_t index = 0;
  for (const MatrixPart& part : tensor.parts) {
    for (std::int64_t row = 0; row < part.rows; ++row) {
      for (std::int64_t column = 0; column < part.columns; ++column) {
        const std::uint64_t element = part.tensor.empty()
                                          ? 0
                                          : numbers.at(part.tensor)
                                                .At(static_cast<std::uint64_t>(part.first_row + row),
                                                    static_cast<std::uint64_t>(part.first_column + column));
        sum += ++index * (element + (tensor.add_one ? 1 : 0));
      }
    }
  }
  return sum;
}

class TensorRtLlmReference : public testing::TestWithParam<std::string> {};

TEST_P(TensorRtLlmReference, EveryRankHoldsWhatAPlainWriterWrites) {
  const ordered_json& given = Cases()[GetParam()];
  const Model model = ModelOf(given);
  ASSERT_FALSE(given["layouts"].empty());
  for (const ordered_json& expected : given["layouts"]) {
    const RankRequest request{expected["tensor"], expected["pipeline"], expected["expert"], ""};
    const absl::StatusOr<RankLayout> layout = TensorRtLlmLayout(model.model, request);
    ASSERT_TRUE(layout.ok()) << Describe(layout.status());
    ASSERT_EQ(layout->files.size(), expected["ranks"].size());
    for (const RankFile& file : layout->files) {
      const ordered_json& rank = expected["ranks"][file.file];
      EXPECT_EQ(file.tensors.size(), rank.size()) << file.file;
      for (const RankTensor& tensor : file.tensors) {
        ASSERT_TRUE(rank.contains(tensor.name)) << tensor.name;
        EXPECT_EQ(ordered_json(std::vector(tensor.shape.begin(), tensor.shape.end())), rank[tensor.name][0])
            << file.file << " " << tensor.name;
        EXPECT_EQ(Sum(tensor, model.numbers), rank[tensor.name][1].get<std::uint64_t>())
            << file.file << " " << tensor.name;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, TensorRtLlmReference,
                         testing::Values("llama", "llama_bias", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3",
                                         "qwen3_moe", "gemma", "gemma2", "gemma3_text", "nemotron", "starcoder2",
                                         "gpt2", "falcon", "falcon_7b", "phi3", "gpt_neox"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace slipway::engine
