#include "client/private_directory.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "common/error.h"

namespace slipway {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "slipway-local-";
constexpr std::string_view kLockName = "client.lock";
constexpr std::string_view kUnfinishedLockName = "client.lock.new";
// A socket's path has at most 107 bytes; what is appended to the base takes about 40.
constexpr std::size_t kMaximumBaseLength = 60;

// Whether the directory at `path` is this user's and was left by a program that lives no more.
bool IsLeftOver(const fs::path& path) {
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) || status.st_uid != geteuid()) {
    return false;
  }
  const int lock = open((path / kLockName).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (lock >= 0) {
    const bool left_over = flock(lock, LOCK_EX | LOCK_NB) == 0;
    close(lock);
    return left_over;
  }
  const auto changed = std::chrono::system_clock::from_time_t(status.st_mtime);
  return errno == ENOENT && std::chrono::system_clock::now() - changed > kSweepAge;
}

}  // namespace

absl::StatusOr<PrivateDirectory> PrivateDirectory::Make(const std::string& base) {
  std::string path = fmt::format("{}/{}XXXXXX", base, kPrefix);
  if (mkdtemp(path.data()) == nullptr) {
    return ErrnoError(errno, "mkdtemp", path, FileRole::kOutput);
  }
  const std::string unfinished = fmt::format("{}/{}", path, kUnfinishedLockName);
  const std::string finished = fmt::format("{}/{}", path, kLockName);
  const int lock = open(unfinished.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_EXCL, 0600);
  PrivateDirectory directory(path, lock);
  if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) != 0 || rename(unfinished.c_str(), finished.c_str()) != 0) {
    return ErrnoError(errno, "locking", finished, FileRole::kOutput);
  }
  return directory;
}

PrivateDirectory::PrivateDirectory(PrivateDirectory&& other) noexcept
    : path_(std::exchange(other.path_, {})), lock_(std::exchange(other.lock_, -1)) {}

PrivateDirectory::~PrivateDirectory() {
  if (!path_.empty()) {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  if (lock_ >= 0) {
    close(lock_);
  }
}

std::string TemporaryBase() {
  const char* variable = std::getenv("TMPDIR");  // NOLINT(concurrency-mt-unsafe): nothing here sets the environment
  std::error_code error;
  if (variable != nullptr && *variable == '/' && std::string_view(variable).size() <= kMaximumBaseLength &&
      fs::is_directory(variable, error)) {
    return variable;
  }
  return "/tmp";
}

int SweepPrivateDirectories(const std::string& base) {
  int removed = 0;
  std::error_code error;
  for (fs::directory_iterator entry(base, error); !error && entry != fs::directory_iterator(); entry.increment(error)) {
    std::error_code ignored;
    if (entry->path().filename().string().starts_with(kPrefix) && IsLeftOver(entry->path())) {
      removed += fs::remove_all(entry->path(), ignored) > 0 && !ignored ? 1 : 0;
    }
  }
  return removed;
}

}  // namespace slipway
