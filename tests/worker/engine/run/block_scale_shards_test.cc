// Shards of dequantized FP8 weights, against values that are computed one by one from the definition.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "tests/support/random_export.h"
#include "tests/support/safetensors_writer.h"
#include "worker/engine/run/publication.h"
#include "worker/engine/run/shard_writer.h"
#include "worker/engine/run/staging.h"
#include "worker/engine/transform/block_scales.h"

namespace slipway::engine {
namespace {

using test::HfTensor;
using test::ReadFile;
using test::SafetensorsFile;
using test::WriteFile;

double ValueOf(std::uint8_t code) {
  const int exponent = (code >> 3) & 15;
  const int fraction = code & 7;
  const double magnitude = exponent == 0 ? std::ldexp(fraction, -9) : std::ldexp(8 + fraction, exponent - 10);
  return code >= 128 ? -magnitude : magnitude;
}

// The nearer of the two BF16 values around `value`, the even one half way.
std::uint16_t NearestBF16(float value) {
  const auto below = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
  const auto above = static_cast<std::uint16_t>(below + 1);
  const auto distance = [value](std::uint16_t bits) {
    return std::fabs(static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16)) -
                     static_cast<double>(value));
  };
  if (distance(below) == distance(above)) {
    return (below & 1) == 0 ? below : above;
  }
  return distance(below) < distance(above) ? below : above;
}

struct Matrix {
  std::string name;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::string codes;
  std::vector<float> scales;
};

class BlockScaleShards : public testing::Test {
 protected:
  static constexpr std::int64_t kRows = 128;
  static constexpr std::int64_t kColumns = 64;

  Matrix Make(const std::string& name, std::int64_t rows, std::int64_t columns) {
    Matrix matrix{name, rows, columns, std::string(static_cast<std::size_t>(rows * columns), '\0'), {}};
    for (char& code : matrix.codes) {
      const std::uint32_t bits = random_() & 0xFF;
      code = static_cast<char>((bits & 0x7F) == 0x7F ? bits - 1 : bits);
    }
    const std::int64_t blocks = (rows + kRows - 1) / kRows * ((columns + kColumns - 1) / kColumns);
    for (std::int64_t i = 0; i < blocks; ++i) {
      matrix.scales.push_back(std::ldexp(1.0F + static_cast<float>(random_() % 8388608) / 8388608.0F,
                                         static_cast<int>(random_() % 20) - 15));
    }
    return matrix;
  }

  static std::string Expected(const Matrix& matrix) {
    std::string bytes;
    const std::int64_t scale_columns = (matrix.columns + kColumns - 1) / kColumns;
    for (std::int64_t row = 0; row < matrix.rows; ++row) {
      for (std::int64_t column = 0; column < matrix.columns; ++column) {
        const auto code =
            static_cast<std::uint8_t>(matrix.codes[static_cast<std::size_t>(row * matrix.columns + column)]);
        const float scale = matrix.scales[static_cast<std::size_t>(row / kRows * scale_columns + column / kColumns)];
        // Exact in double, so that the one rounding is that of FP32.
        const std::uint16_t bits = NearestBF16(static_cast<float>(ValueOf(code) * static_cast<double>(scale)));
        bytes.append(reinterpret_cast<const char*>(&bits), sizeof(bits));
      }
    }
    return bytes;
  }

  // Scales and weights lie in different files, some scales before their weights.
  void Write(const std::vector<Matrix>& matrices) {
    std::filesystem::create_directories(checkpoint_);
    std::vector<HfTensor> files[2];
    std::string map;
    for (std::size_t i = 0; i < matrices.size(); ++i) {
      const Matrix& m = matrices[i];
      const auto scale_bytes = std::as_bytes(std::span(m.scales));
      const std::string scales(reinterpret_cast<const char*>(scale_bytes.data()), scale_bytes.size());
      files[i % 2].push_back({m.name, "F8_E4M3", {m.rows, m.columns}, m.codes});
      files[i % 3 == 0 ? 0 : 1].push_back({m.name + "_scale_inv",
                                           "F32",
                                           {(m.rows + kRows - 1) / kRows, (m.columns + kColumns - 1) / kColumns},
                                           scales});
      for (const auto& [name, file] :
           {std::pair(m.name, i % 2), std::pair(m.name + "_scale_inv", i % 3 == 0 ? 0UL : 1UL)}) {
        map += (map.empty() ? "\"" : ",\"") + name + R"(":"model-0000)" + std::to_string(file + 1) +
               R"(-of-00002.safetensors")";
      }
    }
    WriteFile(checkpoint_ + "/model-00001-of-00002.safetensors", SafetensorsFile(files[0]));
    if (!files[1].empty()) {
      WriteFile(checkpoint_ + "/model-00002-of-00002.safetensors", SafetensorsFile(files[1]));
    }
    WriteFile(checkpoint_ + "/model.safetensors.index.json", R"({"weight_map":{)" + map + "}}");
    WriteFile(checkpoint_ + "/config.json",
              R"({"quantization_config":{"quant_method":"fp8","weight_block_size":[128,64]}})");
  }

  std::shared_ptr<const ExportPlan> Plan() {
    ExportOptions options;
    options.checkpoint = checkpoint_;
    options.dtype = DType::kBF16;
    auto plan = MakePlan(options);
    EXPECT_TRUE(plan.ok()) << Describe(plan.status());
    return *plan;
  }

  test::TemporaryDirectory directory_;
  const std::string checkpoint_ = directory_ / "checkpoint";
  MemoryBudget memory_{kMaximumSegmentMemory + kScaleMemory};
  std::mt19937 random_{17};
};

TEST_F(BlockScaleShards, EveryElementIsItsCodeTimesItsBlocksScaleInSegmentsOfAnySize) {
  const std::vector<Matrix> matrices = {Make("a", 300, 200), Make("b", 1, 1), Make("c", 129, 65), Make("d", 1, 4000),
                                        Make("e", 4000, 1),  Make("f", 0, 7), Make("g", 128, 64)};
  Write(matrices);
  const auto plan = Plan();
  ASSERT_EQ(plan->shards.size(), 1U);
  for (const std::int64_t segment : {std::int64_t{16}, std::int64_t{250}, std::int64_t{10'001}, kSegmentBytes}) {
    const auto staging = PrepareStaging(*plan, directory_ / "out", false, PosixFileSystem());
    ASSERT_TRUE(staging.ok()) << Describe(staging.status());
    const RunResources resources{
        .files = &PosixFileSystem(), .memory = &memory_, .threads = segment == 16 ? 1 : 3, .segment_bytes = segment};
    const auto result = WriteShard(*plan, 0, *staging, "a", resources, {});
    ASSERT_TRUE(result.ok()) << Describe(result.status());
    const std::string file = ReadFile(*staging + "/" + result->file);
    for (const Matrix& matrix : matrices) {
      const auto tensor = std::ranges::find(plan->tensors, matrix.name, &OutputTensor::name);
      EXPECT_EQ(file.substr(static_cast<std::size_t>(tensor->file_offset), static_cast<std::size_t>(tensor->bytes)),
                Expected(matrix))
          << matrix.name << " in segments of " << segment;
    }
    EXPECT_LE(memory_.peak(), memory_.total());
    std::filesystem::remove_all(*staging);
  }
}

// Two codes a byte, their scales in another order than they are, of two ranks; tests/e2e/test_calibrated.py knows the
// values.
TEST_F(BlockScaleShards, PairsOfCodesComeOutAlikeInSegmentsOfAnySize) {
  ExportOptions options;
  options.checkpoint = SLIPWAY_TEST_DATA "/calibrated/llama3_nvfp4_compressed_tp2";
  const auto plan = MakePlan(options);
  ASSERT_TRUE(plan.ok()) << Describe(plan.status());
  std::string whole;
  for (const std::int64_t segment : {kSegmentBytes, std::int64_t{1}, std::int64_t{250}, std::int64_t{10'001}}) {
    const auto staging = PrepareStaging(**plan, directory_ / "out", false, PosixFileSystem());
    ASSERT_TRUE(staging.ok()) << Describe(staging.status());
    const auto result = WriteShard(
        **plan, 0, *staging, "a",
        {.files = &PosixFileSystem(), .memory = &memory_, .threads = segment == 1 ? 1 : 3, .segment_bytes = segment},
        {});
    ASSERT_TRUE(result.ok()) << Describe(result.status());
    const std::string file = ReadFile(*staging + "/" + result->file);
    whole = whole.empty() ? file : whole;
    EXPECT_TRUE(file == whole) << "in segments of " << segment;
    EXPECT_LE(memory_.peak(), memory_.total());
    std::filesystem::remove_all(*staging);
  }
}

TEST_F(BlockScaleShards, AMatrixOfSeveralSegmentsStaysInTheSmallestBudget) {
  const Matrix matrix = Make("big", 700, 9000);  // 12.6 MB of BF16
  Write({matrix});
  const auto plan = Plan();
  const auto staging = PrepareStaging(*plan, directory_ / "out", false, PosixFileSystem());
  ASSERT_TRUE(staging.ok()) << Describe(staging.status());
  const auto result =
      WriteShard(*plan, 0, *staging, "a", {.files = &PosixFileSystem(), .memory = &memory_, .threads = 4}, {});
  ASSERT_TRUE(result.ok()) << Describe(result.status());
  EXPECT_EQ(ReadFile(*staging + "/" + result->file).substr(static_cast<std::size_t>(plan->tensors[0].file_offset)),
            Expected(matrix));
  EXPECT_LE(memory_.peak(), memory_.total());
}

TEST_F(BlockScaleShards, ANaNAmongTheWeightsFailsTheShardByNameAndPlace) {
  Matrix matrix = Make("w", 300, 200);
  matrix.codes[40'123] = '\x7F';
  Write({matrix});
  const auto plan = Plan();
  const auto staging = PrepareStaging(*plan, directory_ / "out", false, PosixFileSystem());
  ASSERT_TRUE(staging.ok());
  for (const std::int64_t segment : {std::int64_t{1000}, kSegmentBytes}) {
    const absl::Status status =
        WriteShard(*plan, 0, *staging, "a",
                   {.files = &PosixFileSystem(), .memory = &memory_, .threads = 2, .segment_bytes = segment}, {})
            .status();
    EXPECT_EQ(ReasonOf(status), Reason::kCheckpointCorrupt) << Describe(status);
    EXPECT_EQ(WhereOf(status).tensor, "w");
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("element 40123"));
    const std::string file = ReadFile(WhereOf(status).file);
    EXPECT_EQ(file.at(static_cast<std::size_t>(*WhereOf(status).offset)), '\x7F');
    EXPECT_THAT(test::NamesIn(*staging), testing::ElementsAre("journal", "lock"));
  }
}

}  // namespace
}  // namespace slipway::engine
