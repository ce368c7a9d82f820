// cuda_quantize_check DATA: every test of quantization, vectors (DATA/vectors) and properties, on this machine's GPU,
// and the GPU's arithmetic for every input there is. Runs without the rest of Slipway. 0 if all passed, or where there
// is no GPU.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>

#include "tests/worker/engine/quantize/cuda/exhaustive.h"
#include "worker/engine/device/cuda_devices.h"

namespace slipway::test {
namespace {

TEST(OnTheGpu, AllFloatsBecomeTheDefinitionsE4M3) { EXPECT_EQ(E4M3Differences(), 0); }
TEST(OnTheGpu, AllFloatsBecomeTheDefinitionsE2M1) { EXPECT_EQ(E2M1Differences(), 0); }
TEST(OnTheGpu, SmallQuotientsBecomeTheDefinitionsE2M1) { EXPECT_EQ(E2M1MagnitudeDifferences(), 0); }
TEST(OnTheGpu, OneCorrectionIsEnoughForShortValues) { EXPECT_EQ(ShortQuotientDifferences(), 0); }
TEST(OnTheGpu, QuotientsBecomeTheDivisionsCodes) {
  for (const engine::Element element :
       {engine::Element::kE4M3, engine::Element::kE2M1, engine::Element::kInt8, engine::Element::kInt4}) {
    EXPECT_EQ(QuotientDifferences(element), 0) << static_cast<int>(element);
  }
}

}  // namespace
}  // namespace slipway::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc != 2 || chdir(argv[1]) != 0) {
    std::fprintf(stderr, "usage: cuda_quantize_check DATA: the directory that holds 'vectors'\n");
    return 2;
  }
  const std::vector<slipway::engine::Device> devices = slipway::engine::CudaDevices();
  if (devices.empty()) {
    std::printf("skipped: no GPU\n");
    return 0;
  }
  std::printf("%s: %s, %s\n", devices[0].name.c_str(), devices[0].model.c_str(), devices[0].capability.c_str());
  const int result = RUN_ALL_TESTS();
  const testing::UnitTest& tests = *testing::UnitTest::GetInstance();
  std::printf("%d passed, %d failed\n", tests.successful_test_count(), tests.failed_test_count());
  return result;
}
