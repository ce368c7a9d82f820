#include "worker/engine/device/device.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace slipway::engine {
namespace {

TEST(Device, TheCpuComesFirstAndIsAlwaysThere) {
  const std::vector<Device> devices = UsableDevices();
  ASSERT_FALSE(devices.empty());
  EXPECT_EQ(devices[0].name, "cpu");
  EXPECT_EQ(devices[0].capability, "cpu");
}

TEST(Device, GpusHaveNamesOfTheirOwnAMemoryAndACapability) {
  std::set<std::string> names;
  for (const Device& device : UsableDevices()) {
    EXPECT_TRUE(names.insert(device.name).second) << device.name;
    if (device.name != "cpu") {
      EXPECT_TRUE(BuiltWithCuda());
      EXPECT_GT(device.memory_bytes, 0);
      EXPECT_THAT(device.capability, testing::MatchesRegex("cuda:sm_[0-9]+"));
    }
  }
}

}  // namespace
}  // namespace slipway::engine
