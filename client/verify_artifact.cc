#include "client/verify_artifact.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <system_error>
#include <thread>

#include "client/progress.h"
#include "common/clock.h"

namespace slipway {
namespace {

namespace fs = std::filesystem;

using Progress = std::function<void(std::int64_t)>;

constexpr std::int64_t kComparisonMemory = std::int64_t{256} << 20;

std::int64_t BytesBelow(const std::string& directory) {
  std::int64_t bytes = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(directory, error); !error && entry != fs::recursive_directory_iterator();
       entry.increment(error)) {
    std::error_code ignored;
    const std::uintmax_t size = entry->is_regular_file(ignored) ? entry->file_size(ignored) : 0;
    bytes += ignored ? 0 : static_cast<std::int64_t>(size);
  }
  return bytes;
}

// Calls `work` with the number of processors and a function that takes bytes as they are done, from any thread.
template <class Work>
auto WithProgress(const std::string& directory, const char* phase, const Console& console, const Work& work) {
  ProgressReporter reporter(console.err, console.err_terminal, console.quiet, SystemClock());
  const std::int64_t total = BytesBelow(directory);
  std::int64_t done = 0;
  std::mutex mutex;
  const Progress progress = [&](std::int64_t bytes) {
    const std::scoped_lock lock(mutex);
    done += bytes;
    reporter.Update({.phase = phase, .bytes_done = std::min(done, total), .bytes_total = total});
  };
  return work(static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, 64U)), progress);
}

}  // namespace

absl::StatusOr<engine::VerifyReport> VerifyWithProgress(const std::string& directory, const Console& console) {
  return WithProgress(directory, "verifying", console, [&](int threads, const Progress& progress) {
    return engine::VerifyArtifact(directory, threads, progress);
  });
}

absl::StatusOr<engine::ComparisonReport> CompareWithProgress(const std::string& directory,
                                                             const std::string& checkpoint, const Console& console) {
  return WithProgress(directory, "comparing", console, [&](int threads, const Progress& progress) {
    return engine::CompareWithCheckpoint(directory, checkpoint, {.memory_bytes = kComparisonMemory, .threads = threads},
                                         progress);
  });
}

}  // namespace slipway
