// Outputs to which an adapter is added, in segments of any size and in the smallest budget.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "common/error.h"
#include "tests/support/memory_source.h"
#include "tests/support/random_export.h"
#include "worker/engine/quantize/reference.h"
#include "worker/engine/run/loaded_segment.h"
#include "worker/engine/run/memory_needs.h"
#include "worker/engine/run/segment_cutter.h"
#include "worker/engine/run/shard_lanes.h"
#include "worker/engine/transform/element_transform.h"
#include "worker/engine/write/safetensors.h"

namespace slipway::engine {
namespace {

// The file's bytes without its header, in segments of at most `segment_bytes`.
std::string Write(const ExportPlan& plan, std::int64_t segment_bytes, const Quantization* quantization = nullptr) {
  SegmentCutter cutter(plan, 0, segment_bytes);
  MemoryBudget budget(MinimumMemoryBudget(plan));
  BufferPool buffers(budget);
  std::string bytes;
  while (true) {
    auto segment = cutter.Next();
    EXPECT_TRUE(segment.ok()) << Describe(segment.status());
    if (!segment.ok() || !*segment) {
      return bytes.substr(plan.shards[0].header.size());
    }
    EXPECT_LE((*segment)->memory(), budget.total());
    EXPECT_LE(LoadedSegment::BufferBytes(**segment), (*segment)->memory());
    auto buffer = buffers.Take(LoadedSegment::BufferBytes(**segment), (*segment)->memory());
    const auto loaded =
        LoadedSegment::Load(plan, plan.shards[0], **std::move(segment), std::move(buffer), quantization);
    EXPECT_TRUE(loaded.ok()) << Describe(loaded.status());
    for (const iovec& piece : (*loaded)->pieces()) {
      bytes.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
    }
  }
}

constexpr const char* kFixture = SLIPWAY_TEST_DATA "/adapters/bridge-lora_llama3_tp2_pp1";

TEST(MergedPart, TheMergedModelIsMegatronBridgesInSegmentsOfAnySize) {
  const std::string fixture = kFixture;
  ExportOptions options;
  options.checkpoint = fixture + "/base";
  options.adapter = fixture + "/adapter";
  const auto plan = MakePlan(options);
  ASSERT_TRUE(plan.ok()) << Describe(plan.status());
  const std::string golden = test::ReadFile(fixture + "/golden_hf/model.safetensors");
  const auto header = ParseSafetensorsHeader(golden, static_cast<std::int64_t>(golden.size()), "golden");
  ASSERT_TRUE(header.ok());
  for (const std::int64_t segment : {std::int64_t{2}, std::int64_t{62}, std::int64_t{1000}, kSegmentBytes}) {
    const std::string data = Write(**plan, segment);
    ASSERT_EQ(header->entries.size(), (*plan)->tensors.size());
    for (const SafetensorsEntry& entry : header->entries) {
      const auto tensor = std::ranges::find((*plan)->tensors, entry.name, &OutputTensor::name);
      ASSERT_NE(tensor, (*plan)->tensors.end()) << entry.name;
      const std::int64_t begin = tensor->file_offset - static_cast<std::int64_t>((*plan)->shards[0].header.size());
      EXPECT_TRUE(data.substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(tensor->bytes)) ==
                  golden.substr(static_cast<std::size_t>(header->data_position + entry.begin),
                                static_cast<std::size_t>(entry.end - entry.begin)))
          << entry.name << " in segments of " << segment;
    }
  }
}

std::string Floats(std::size_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::string bytes(count * sizeof(float), '\0');
  for (std::size_t i = 0; i < count; ++i) {
    // Small integers: every order of summation gives the same.
    const float value = static_cast<float>(random() % 15) - 7;
    std::memcpy(bytes.data() + i * sizeof(float), &value, sizeof(value));
  }
  return bytes;
}

float At(const std::string& matrix, std::int64_t element) {
  float value = 0;
  std::memcpy(&value, matrix.data() + element * static_cast<std::int64_t>(sizeof(value)), sizeof(value));
  return value;
}

// Adds a matrix of FP32 in a file of its own.
SourceRegion AddTensor(Checkpoint& checkpoint, const std::string& name, const std::string& bytes, const Shape& shape) {
  auto file = std::make_shared<test::MemoryFile>(bytes, name);
  const auto number = static_cast<std::int32_t>(checkpoint.files.size());
  checkpoint.files.push_back({.name = name, .identity = file->identity(), .file = file});
  Piece piece;
  piece.offsets = {0, 0};
  piece.sizes = shape;
  piece.file = number;
  piece.length = static_cast<std::int64_t>(bytes.size());
  checkpoint.tensors.push_back({.name = name, .dtype = DType::kF32, .shape = shape, .pieces = {piece}});
  return SourceRegion{.tensor = number, .offsets = {0, 0}, .sizes = shape};
}

// Three blocks of five rows, the first three of which are products; all matrices in one tensor each.
TEST(MergedPart, ProductsOfBlocksOfRowsAreTheSameInSegmentsOfAnySize) {
  constexpr std::int64_t kBlocks = 3, kBlockRows = 5, kProductRows = 3, kInner = 4, kWide = 70;
  const std::string w = Floats(kBlocks * 2 * kWide, 1);  // the rows behind the products
  const std::string a = Floats(kBlocks * kInner * kWide, 2);
  const std::string b = Floats(kBlocks * kInner * kProductRows, 3);
  ExportPlan plan;
  OutputTensor& output = plan.tensors.emplace_back();
  auto checkpoint = std::make_shared<Checkpoint>();
  const auto add = [&](const std::string& name, const std::string& bytes, const Shape& shape) {
    AddTensor(*checkpoint, name, bytes, shape);
  };
  add("w", w, {kBlocks * 2, kWide});
  add("a", a, {kBlocks * kInner, kWide});
  add("b", b, {kBlocks * kInner, kProductRows});
  LowRankUpdate update{.a = {},
                       .b = {},
                       .a_dtype = DType::kF32,
                       .b_dtype = DType::kF32,
                       .rank = kInner,
                       .scale = 1,
                       .block_rows = kBlockRows,
                       .updated_rows = kProductRows};
  for (std::int64_t block = 0; block < kBlocks; ++block) {
    output.regions.push_back({.tensor = kZeros, .offsets = {0, 0}, .sizes = {kProductRows, kWide}});
    output.regions.push_back({.tensor = 0, .offsets = {block * 2, 0}, .sizes = {2, kWide}});
    update.a.push_back({.tensor = 1, .offsets = {block * kInner, 0}, .sizes = {kInner, kWide}});
    update.b.push_back({.tensor = 2, .offsets = {block * kInner, 0}, .sizes = {kInner, kProductRows}});
  }
  output.update = update;
  output.shape = {kBlocks * kBlockRows, kWide};
  output.dtype = DType::kF32;
  output.transform = {.add_one = false, .from = DType::kF32, .to = DType::kF32};
  output.bytes = kBlocks * kBlockRows * kWide * 4;
  plan.checkpoint = checkpoint;
  plan.shards.push_back({.file = "rank0.safetensors", .header = {}, .bytes = output.bytes, .tensor_count = 1});
  for (const std::int64_t segment : {std::int64_t{4}, std::int64_t{92}, std::int64_t{1000}, kSegmentBytes}) {
    const std::string written = Write(plan, segment);
    ASSERT_EQ(static_cast<std::int64_t>(written.size()), output.bytes);
    for (std::int64_t element = 0; element < kBlocks * kBlockRows * kWide; ++element) {
      const std::int64_t block = element / kWide / kBlockRows;
      const std::int64_t row = element / kWide % kBlockRows;
      const std::int64_t column = element % kWide;
      float expected = 0;
      for (std::int64_t r = block * kInner; row < kProductRows && r < (block + 1) * kInner; ++r) {
        expected += At(b, r * kProductRows + row) * At(a, r * kWide + column);
      }
      if (row >= kProductRows) {
        expected = At(w, (block * 2 + row - kProductRows) * kWide + column);
      }
      ASSERT_EQ(At(written, element), expected) << element << " in segments of " << segment;
    }
  }
}

// One product of single numbers, from FP32 to `to`.
ExportPlan ProductOf(float a, float b, DType to) {
  const auto bytes_of = [](float value) {
    std::string bytes(sizeof(value), '\0');
    std::memcpy(bytes.data(), &value, sizeof(value));
    return bytes;
  };
  auto checkpoint = std::make_shared<Checkpoint>();
  LowRankUpdate update{.a = {AddTensor(*checkpoint, "a", bytes_of(a), {1, 1})},
                       .b = {AddTensor(*checkpoint, "b", bytes_of(b), {1, 1})},
                       .a_dtype = DType::kF32,
                       .b_dtype = DType::kF32,
                       .rank = 1,
                       .scale = 1,
                       .block_rows = 1,
                       .updated_rows = 1};
  ExportPlan plan;
  OutputTensor& output = plan.tensors.emplace_back();
  output.name = "product";
  output.regions = {{.tensor = kZeros, .offsets = {0, 0}, .sizes = {1, 1}}};
  output.update = update;
  output.shape = {1, 1};
  output.dtype = to;
  output.transform = {.add_one = false, .from = DType::kF32, .to = to};
  output.bytes = InfoOf(to).bytes;
  plan.checkpoint = checkpoint;
  plan.shards.push_back({.file = "rank0.safetensors", .header = {}, .bytes = output.bytes, .tensor_count = 1});
  return plan;
}

TEST(MergedPart, MatricesAreMultipliedAsTheyAreWritten) {
  // 1.003 is 1 in BF16; were it not rounded, the product would be 100.5.
  const std::string written = Write(ProductOf(1.003F, 100, DType::kBF16), kSegmentBytes);
  ASSERT_EQ(written.size(), 2);
  std::uint16_t product = 0;
  std::memcpy(&product, written.data(), sizeof(product));
  EXPECT_EQ(product, BFloat16FromFloat(100));
}

TEST(MergedPart, AProductThatItsDtypeCannotHoldIsRefusedByName) {
  struct Case {
    float a, b;
    DType to;
    bool fits;
  };
  // F16 holds at most 65504, the others 3.4e38.
  for (const auto& [a, b, to, fits] :
       {Case{300, 300, DType::kF16, false}, Case{200, 300, DType::kF16, true}, Case{1e30F, 1e30F, DType::kBF16, false},
        Case{1e30F, 1e30F, DType::kF32, false}, Case{INFINITY, 1, DType::kF32, true}}) {
    const ExportPlan plan = ProductOf(a, b, to);
    SegmentCutter cutter(plan, 0, kSegmentBytes);
    auto segment = cutter.Next();
    ASSERT_TRUE(segment.ok() && *segment);
    MemoryBudget budget(MinimumMemoryBudget(plan));
    BufferPool buffers(budget);
    auto buffer = buffers.Take(LoadedSegment::BufferBytes(**segment), (*segment)->memory());
    const auto loaded = LoadedSegment::Load(plan, plan.shards[0], **std::move(segment), std::move(buffer), nullptr);
    ASSERT_TRUE(loaded.ok());
    RoundingLane lane(plan, plan.shards[0]);
    EXPECT_TRUE(lane.IsNeeded());
    const absl::Status status = lane.Take(**loaded);
    EXPECT_EQ(status.ok(), fits) << Describe(status);
    EXPECT_TRUE(fits || ReasonOf(status) == Reason::kOptionUnsupported);
    EXPECT_TRUE(fits || Describe(status).find("product") != std::string::npos) << Describe(status);
    EXPECT_FALSE(lane.CastOf(0));
  }
}

// The largest factor that is merged, of FP32, and a weight whose rows are wide.
constexpr std::int64_t kRows = 90;
constexpr std::int64_t kColumns = 65'536;
constexpr std::int64_t kRank = 32;
static_assert(kRank * kColumns * 4 == kMaximumFactorBytes);

ExportPlan PlanOf(const std::string& w, const std::string& a, const std::string& b) {
  auto checkpoint = std::make_shared<Checkpoint>();
  const auto add = [&](const std::string& name, const std::string& bytes, const Shape& shape) {
    return AddTensor(*checkpoint, name, bytes, shape);
  };
  ExportPlan plan;
  OutputTensor& output = plan.tensors.emplace_back();
  output.regions = {add("w", w, {kRows, kColumns})};
  LowRankUpdate update;
  update.a = {add("a", a, {kRank, kColumns})};
  update.b = {add("b", b, {kRows, kRank})};
  update.a_dtype = update.b_dtype = DType::kF32;
  update.rank = kRank;
  update.scale = 0.5F;
  output.update = update;
  output.shape = {kRows, kColumns};
  output.dtype = DType::kF32;
  output.transform = {.add_one = false, .from = DType::kF32, .to = DType::kF32};
  output.bytes = kRows * kColumns * 4;
  plan.checkpoint = checkpoint;
  plan.shards.push_back({.file = "model.safetensors", .header = {}, .bytes = output.bytes, .tensor_count = 1});
  return plan;
}

TEST(MergedPart, TheLargestFactorsStayInTheSmallestBudget) {
  const std::string w = Floats(kRows * kColumns, 1);
  const std::string a = Floats(kRank * kColumns, 2);
  const std::string b = Floats(kRows * kRank, 3);
  const ExportPlan plan = PlanOf(w, a, b);
  const std::string merged = Write(plan, kSegmentBytes);
  ASSERT_EQ(static_cast<std::int64_t>(merged.size()), plan.tensors[0].bytes);
  for (std::int64_t element = 0; element < kRows * kColumns; element += 7) {
    double sum = 0;
    for (std::int64_t r = 0; r < kRank; ++r) {
      sum += static_cast<double>(At(b, element / kColumns * kRank + r)) *
             static_cast<double>(At(a, r * kColumns + element % kColumns));
    }
    ASSERT_EQ(At(merged, element), static_cast<float>(static_cast<double>(At(w, element)) + 0.5 * sum)) << element;
  }
}

TEST(MergedPart, TheLargestFactorsOfAWeightThatIsQuantizedStayInTheSmallestBudget) {
  ExportPlan plan = PlanOf(Floats(kRows * kColumns, 1), Floats(kRank * kColumns, 2), Floats(kRows * kRank, 3));
  const std::string merged = Write(plan, kSegmentBytes);
  const auto quantizer = MakeReferenceQuantizer();
  const Quantization quantization{.quantizer = quantizer.get()};
  const OutputTensor values = plan.tensors[0];
  // A band of blocks is the whole weight, that of rows one row.
  for (const char* name : {"fp8-block", "fp8-per-channel"}) {
    const Format& format = *FindFormat(name);
    const Layout& layout = format.layouts.front();
    QuantizedWeight weight;
    weight.module = "w";
    weight.values = values;
    weight.rows = kRows;
    weight.columns = kColumns;
    weight.format = &format;
    weight.layout = &layout;
    weight.coding = layout.coding;
    plan.quantized = {weight};
    OutputTensor& codes = plan.tensors[0] = {};
    codes.name = "w.weight";
    codes.dtype = DType::kF8E4M3;
    codes.quantized = QuantizedPart{.weight = 0};
    codes.bytes = plan.shards[0].bytes = kRows * kColumns;
    std::string expected(kRows * kColumns, '\0');
    ASSERT_TRUE(quantizer
                    ->Quantize({.coding = layout.coding,
                                .values = {DType::kF32, std::as_bytes(std::span(merged)), kRows, kColumns},
                                .codes = std::as_writable_bytes(std::span(expected))})
                    .ok());
    EXPECT_TRUE(expected == Write(plan, kSegmentBytes, &quantization)) << name;
  }
}

}  // namespace
}  // namespace slipway::engine
