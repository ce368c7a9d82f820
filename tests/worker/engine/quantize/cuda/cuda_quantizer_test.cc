// The GPU's own: shapes of the fused kernels, bands in pieces, several callers, pinned memory, what fails.
#include "worker/engine/quantize/cuda/cuda_quantizer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

#include "common/error.h"
#include "tests/worker/engine/quantize/codings.h"
#include "tests/worker/engine/quantize/expect_same.h"
#include "tests/worker/engine/quantize/made_values.h"
#include "worker/engine/device/cuda_devices.h"
#include "worker/engine/quantize/cuda/pinned_memory.h"
#include "worker/engine/quantize/reference.h"

namespace slipway::test {
namespace {

using engine::MakeCudaQuantizer;
using engine::PinnedMemory;

constexpr std::int64_t kMebibyte = std::int64_t{1} << 20;

TEST(CudaQuantizerWithoutGpu, IsRefusedByName) {
  if (!engine::BuiltWithCuda()) {
    EXPECT_EQ(*MakeCudaQuantizer(0, 64 * kMebibyte), nullptr);
    return;
  }
  EXPECT_EQ(ReasonOf(MakeCudaQuantizer(4711, 64 * kMebibyte).status()), Reason::kDeviceFailed);
  EXPECT_EQ(ReasonOf(MakeCudaQuantizer(0, kMebibyte).status()), Reason::kMemoryBudgetTooSmall);
}

TEST(CudaQuantizerWithoutGpu, StaysWithinItsBudget) {
  for (const std::int64_t budget : {4 * kMebibyte, 5 * kMebibyte, 17 * kMebibyte, 300 * kMebibyte}) {
    EXPECT_LE(engine::CudaQuantizerBytes(budget), budget);
    EXPECT_GE(engine::CudaQuantizerBytes(budget), std::min(budget * 3 / 4, 256 * kMebibyte));
  }
  EXPECT_EQ(engine::CudaQuantizerBytes(1024 * kMebibyte), 256 * kMebibyte);
}

class CudaQuantizer : public testing::Test {
 protected:
  void SetUp() override {
    if (engine::CudaDevices().empty()) {
      GTEST_SKIP() << "no GPU";
    }
    quantizer_ = *MakeCudaQuantizer(0, 64 * kMebibyte);
  }
  engine::Quantizer& quantizer() { return *quantizer_; }
  engine::Quantizer& reference() { return *reference_; }

 private:
  std::unique_ptr<engine::Quantizer> quantizer_;
  std::unique_ptr<engine::Quantizer> reference_ = engine::MakeReferenceQuantizer();
};

Coding Grouped(Coding coding, std::int32_t group) {
  coding.sharing = Sharing::kGroup;
  coding.group = group;
  return coding;
}

Coding Packed(Coding coding, Packing packing) {
  coding.packing = packing;
  return coding;
}

struct Case {
  Coding coding;
  std::int64_t rows;
  std::int64_t columns;
};

// Every branch of every fused kernel: rows in one, two and four vectors a thread, and too long for them; edges of
// squares in both directions; groups of one thread to a whole warp, and larger; the last block of threads half empty;
// tiles of words that hang over both edges; searched groups in a thread, in chunks and in words; statistics in chunks.
TEST_F(CudaQuantizer, AgreesInTheShapesOfTheFusedKernels) {
  Coding int4_row = kInt8Row;
  int4_row.element = Element::kInt4;
  int4_row.bound = 7;
  int4_row.packing = Packing::kWords;
  Coding int4_pairs = Grouped(int4_row, 64);
  int4_pairs.packing = Packing::kNibblePairs;
  Coding int8_groups = Grouped(kInt8Row, 128);
  const Case cases[] = {
      {kFp8Tensor, 37, 1008},
      {kFp8Row, 5, 16},
      {kFp8Row, 3, 2048},
      {kFp8Row, 3, 2064},
      {kFp8Row, 3, 16400},
      {kFp8Row, 2, 32768},
      {kFp8Row, 2, 32784},
      {kFp8Row, 2, 65536},
      {kFp8Row, 2, 65552},
      {kInt8Row, 7, 4096},
      {kInt8Row, 2, 40000},
      {Packed(kInt8Row, Packing::kWords), 3, 4112},
      {int4_row, 5, 5120},
      {kFp8Square, 128, 128},
      {kFp8Square, 300, 400},
      {kFp8Square, 129, 2064},
      {kNvfp4, 33, 1040},
      {kNvfp4Reciprocal, 33, 1040},
      {kMxfp4, 33, 1056},
      {kMxfp8, 33, 1056},
      {Grouped(kFp8Row, 16), 5, 4112},
      {Grouped(kFp8Row, 512), 5, 1536},
      {Grouped(kFp8Row, 1024), 3, 2048},
      {Grouped(kFp8Row, 48), 3, 960},
      {int8_groups, 17, 1152},
      {int4_pairs, 17, 1152},
      {kInt4Rows, 34, 1152},
      {Grouped(kInt4Rows, 16), 6, 4112},
      {Grouped(kInt4Rows, 512), 2, 5120},
      {kInt4Words, 17, 1152},
      {kAwq, 64, 1024},
      {kAwq, 264, 416},
      {Grouped(kAwq, 128), 136, 384},
      {kGptq, 72, 1024},
      {kGptq, 131, 416},
      {Grouped(kGptq, 64), 129, 320},
      {Searched(kNvfp4), 33, 1040},
      {Searched(kNvfp4Reciprocal), 9, 4224},
      {Searched(kMxfp4), 9, 1152},
      {Searched(kInt4Words), 9, 1152},
      {Grouped(Searched(kInt4Words), 64), 9, 1152},
      {Searched(kAwq), 136, 256},
      {Searched(kGptq), 129, 384},
      {kAwqRange, 136, 416},
      {Searched(kAwqRange), 136, 256},
      {kInt4Range, 17, 1152},
      {Searched(kInt4Range), 9, 1152},
  };
  for (const Case& a_case : cases) {
    for (const DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
      for (const Kind kind : {Kind::kNormal, Kind::kTies, Kind::kAnyBits}) {
        SCOPED_TRACE(testing::Message() << "case " << (&a_case - cases) << ", dtype " << static_cast<int>(dtype)
                                        << ", kind " << static_cast<int>(kind));
        const MadeValues made(dtype, a_case.rows, a_case.columns, kind, kind == Kind::kNormal);
        const float amax = reference().Measure(made.values())->amax;
        ExpectSame(
            reference(), quantizer(),
            {.coding = a_case.coding, .values = made.values(), .tensor_scale = TensorScale(a_case.coding, amax)});
        ASSERT_FALSE(HasFatalFailure());
      }
    }
  }
}

TEST_F(CudaQuantizer, AgreesInPieces) {
  const std::unique_ptr<engine::Quantizer> small = *MakeCudaQuantizer(0, 4 * kMebibyte);
  const MadeValues made(DType::kBF16, 1100, 3072, Kind::kNormal);
  for (const Coding& coding : {kFp8Tensor, kFp8Row, kFp8Square, kInt4Rows, kNvfp4, Searched(kNvfp4)}) {
    ExpectSame(reference(), *small, {.coding = coding, .values = made.values(), .tensor_scale = 1e-4F});
    ASSERT_FALSE(HasFatalFailure());
  }
  MadeValues bad(DType::kF32, 1100, 3072, Kind::kNormal);
  bad.Set(3'000'001, INFINITY);
  EXPECT_EQ(small->Measure(bad.values())->first_bad, 3'000'001);
  EXPECT_EQ(small->Measure(bad.values())->amax, reference().Measure(bad.values())->amax);
  std::vector<double> expected(2200);
  std::vector<double> actual(2200);
  const std::vector<float> scales = {1e-4F, 2e-4F};
  ASSERT_TRUE(reference().SquaredErrors(kFp8Tensor, made.values(), scales, expected).ok());
  ASSERT_TRUE(small->SquaredErrors(kFp8Tensor, made.values(), scales, actual).ok());
  EXPECT_EQ(actual, expected);
}

TEST_F(CudaQuantizer, SaysWhatDoesNotFit) {
  const std::unique_ptr<engine::Quantizer> small = *MakeCudaQuantizer(0, 4 * kMebibyte);
  const MadeValues made(DType::kF32, 1024, 2048, Kind::kZeros);
  std::string codes(static_cast<std::size_t>(CodeBytes(kAwq, 1024, 2048)), '\0');
  EXPECT_EQ(ReasonOf(small->Quantize(
                {.coding = kAwq, .values = made.values(), .codes = std::as_writable_bytes(std::span(codes))})),
            Reason::kMemoryBudgetTooSmall);
}

TEST_F(CudaQuantizer, ServesManyThreads) {
  const MadeValues made(DType::kBF16, 96, 1024, Kind::kHeavy);
  const GuardedOutputs expected =
      MakeGuarded(reference(), {.coding = kNvfp4, .values = made.values(), .tensor_scale = 1e-3F}, kAllOutputs);
  std::vector<int> wrong(12);
  std::vector<std::thread> threads;
  threads.reserve(wrong.size());
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        const GuardedOutputs made_here =
            MakeGuarded(quantizer(), {.coding = kNvfp4, .values = made.values(), .tensor_scale = 1e-3F}, kAllOutputs);
        count += made_here == expected ? 0 : 1;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(wrong, std::vector<int>(wrong.size()));
}

TEST_F(CudaQuantizer, ReadsAndWritesPinnedMemory) {
  const MadeValues made(DType::kBF16, 64, 512, Kind::kNormal);
  const engine::Values values = made.values();
  const PinnedMemory source = *PinnedMemory::Allocate(static_cast<std::int64_t>(values.bytes.size()));
  const PinnedMemory target = *PinnedMemory::Allocate(CodeBytes(kFp8Row, 64, 512));
  EXPECT_TRUE(engine::IsPinned(source.bytes()));
  EXPECT_FALSE(engine::IsPinned(values.bytes));
  std::memcpy(source.bytes().data(), values.bytes.data(), values.bytes.size());
  engine::Values pinned = values;
  pinned.bytes = source.bytes();
  ASSERT_TRUE(quantizer().Quantize({.coding = kFp8Row, .values = pinned, .codes = target.bytes()}).ok());
  const Quantized expected = Quantize(reference(), kFp8Row, values);
  EXPECT_EQ(std::memcmp(target.bytes().data(), expected.codes.data(), expected.codes.size()), 0);
}

}  // namespace
}  // namespace slipway::test
