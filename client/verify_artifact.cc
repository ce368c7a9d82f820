#include "client/verify_artifact.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <system_error>
#include <thread>

#include "client/progress.h"
#include "common/clock.h"

namespace slipway {
namespace {

namespace fs = std::filesystem;

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

}  // namespace

absl::StatusOr<engine::VerifyReport> VerifyWithProgress(const std::string& directory, const Console& console) {
  ProgressReporter reporter(console.err, console.err_terminal, console.quiet, SystemClock());
  const std::int64_t total = BytesBelow(directory);
  std::mutex mutex;  // progress comes from every thread of the engine
  const auto progress = [&](std::int64_t bytes) {
    const std::scoped_lock lock(mutex);
    reporter.Update({.phase = "verifying", .bytes_done = std::min(bytes, total), .bytes_total = total});
  };
  const int threads = static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, 64U));
  return engine::VerifyArtifact(directory, threads, progress);
}

}  // namespace slipway
