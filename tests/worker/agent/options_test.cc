#include "worker/options.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "worker/engine/device/device.h"

namespace slipway::worker {
namespace {

ParsedOptions Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "slipway-worker");
  return ParseWorkerOptions(static_cast<int>(arguments.size()), arguments.data());
}

class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text) {
    std::string pattern = (std::filesystem::temp_directory_path() / "slipway-options-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    std::ofstream(path()) << text;
  }
  ~ConfigFile() { std::filesystem::remove_all(directory_); }
  [[nodiscard]] std::string path() const { return directory_ + "/worker.yaml"; }

 private:
  std::string directory_;
};

TEST(WorkerOptions, OnlyTheServerIsRequired) {
  const ParsedOptions parsed = Parse({"--server", "unix:/s"});
  ASSERT_FALSE(parsed.exit);
  EXPECT_EQ(parsed.options.server, "unix:/s");
  EXPECT_EQ(parsed.options.memory_budget, std::int64_t{8} << 30);
  EXPECT_FALSE(parsed.options.name.empty());
  EXPECT_GE(parsed.options.threads, 1);
  EXPECT_GE(parsed.options.slots, 1);
  EXPECT_EQ(parsed.options.drain_timeout, std::chrono::seconds(60));
  EXPECT_EQ(Parse({}).exit, ExitStatus::kUsage);
}

TEST(WorkerOptions, SlotsDefaultToTheThreads) {
  EXPECT_EQ(Parse({"--server", "s", "--threads", "8"}).options.slots, 8);
  EXPECT_EQ(Parse({"--server", "s", "--threads", "1"}).options.slots, 1);
  EXPECT_EQ(Parse({"--server", "s", "--threads", "8", "--slots", "3"}).options.slots, 3);
}

TEST(WorkerOptions, ValuesThatMakeNoSenseAreWrongUsage) {
  EXPECT_EQ(Parse({"--server", "s", "--memory-budget", "much"}).exit, ExitStatus::kUsage);
  EXPECT_EQ(Parse({"--server", "s", "--memory-budget", "0"}).exit, ExitStatus::kUsage);
  EXPECT_EQ(Parse({"--server", "s", "--gpu-memory-budget", "0"}).exit, ExitStatus::kUsage);
  EXPECT_EQ(Parse({"--server", "s", "--threads", "0"}).exit, ExitStatus::kUsage);
  EXPECT_EQ(Parse({"--server", "s", "--slots", "-1"}).exit, ExitStatus::kUsage);
  EXPECT_EQ(Parse({"--server", "s", "--device", "tpu"}).exit, ExitStatus::kUsage);
  EXPECT_EQ(Parse({"--server", "s", "--device", "cuda:4096"}).exit, ExitStatus::kUsage);
  EXPECT_EQ(Parse({"--server", "s", "--durability", "perhaps"}).exit, ExitStatus::kUsage);
  EXPECT_EQ(Parse({"--server", "s", "--no-such-flag"}).exit, ExitStatus::kUsage);
  EXPECT_EQ(Parse({"--help"}).exit, ExitStatus::kDone);
  EXPECT_EQ(Parse({"--version"}).exit, ExitStatus::kDone);
}

TEST(WorkerOptions, TheGpusBudgetIsTheDevicesAffairUnlessGiven) {
  EXPECT_EQ(Parse({"--server", "s"}).options.gpu_memory_budget, std::nullopt);
  EXPECT_EQ(Parse({"--server", "s", "--gpu-memory-budget", "40GiB"}).options.gpu_memory_budget, std::int64_t{40} << 30);
}

TEST(WorkerOptions, TheDevicesOfThisMachineAreTakenAndNoOthers) {
  for (const engine::Device& device : engine::UsableDevices()) {
    EXPECT_EQ(Parse({"--server", "s", "--device", device.name.c_str()}).options.device, device.name);
  }
  const bool has_gpu = engine::UsableDevices().size() > 1;
  EXPECT_EQ(Parse({"--server", "s", "--device", "cuda:0"}).exit.has_value(), !has_gpu);
}

TEST(WorkerOptions, WorkIsDurableUnlessToldOtherwise) {
  EXPECT_EQ(Parse({"--server", "s"}).options.durability, Durability::kDurable);
  EXPECT_EQ(Parse({"--server", "s", "--durability", "page-cache"}).options.durability, Durability::kPageCache);
}

TEST(WorkerOptions, AConfigFileSetsWhatFlagsDoNot) {
  const ConfigFile file("server: unix:/from-file\nmemory-budget: 2GiB\nthreads: 6\nexit-with-parent: 17\n");
  const ParsedOptions parsed = Parse({"--config", file.path().c_str(), "--threads", "4"});
  ASSERT_FALSE(parsed.exit);
  EXPECT_EQ(parsed.options.server, "unix:/from-file");
  EXPECT_EQ(parsed.options.memory_budget, std::int64_t{2} << 30);
  EXPECT_EQ(parsed.options.threads, 4);
  EXPECT_EQ(parsed.options.parent, 17);
}

TEST(WorkerOptions, AConfigFileWithAnUnknownNameOrAnotherShapeIsWrongUsage) {
  for (const char* text : {"servre: s\n", "- server\n", "server: [a, b]\n", "server: {a: b}\n", "server: [a\n"}) {
    const ConfigFile file(text);
    EXPECT_EQ(Parse({"--config", file.path().c_str(), "--server", "s"}).exit, ExitStatus::kUsage) << text;
  }
}

}  // namespace
}  // namespace slipway::worker
