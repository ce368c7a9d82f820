#include "worker/engine/write/verify_bytes.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <span>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "common/digest.h"

namespace slipway::engine {
namespace {

constexpr std::size_t kReadStep = std::size_t{1} << 20;

// Runs tasks 0 to count-1 on `threads` threads; the error of the first task that failed, by number.
absl::Status RunTasks(std::size_t count, int threads, const std::function<absl::Status(std::size_t)>& task) {
  std::atomic<std::size_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::map<std::size_t, absl::Status> errors;
  const auto work = [&] {
    for (std::size_t i = next++; i < count && !failed; i = next++) {
      absl::Status status = task(i);
      if (!status.ok()) {
        failed = true;
        const std::lock_guard lock(mutex);
        errors.emplace(i, std::move(status));
      }
    }
  };
  {
    std::vector<std::jthread> helpers;
    for (int i = 1; i < threads; ++i) {
      try {
        helpers.emplace_back(work);
      } catch (const std::system_error&) {
        break;  // those that run do the work
      }
    }
    work();
  }
  return errors.empty() ? absl::OkStatus() : errors.begin()->second;
}

class ByteCheck {
 public:
  ByteCheck(const Manifest& manifest, const ArtifactFiles& files, const std::function<void(std::int64_t)>& progress)
      : manifest_(manifest), files_(files), progress_(progress) {}

  absl::Status Run(int threads) const {
    if (manifest_.digest == DigestAlgorithm::kNone) {
      return absl::OkStatus();
    }
    const std::size_t count = manifest_.files.size() + manifest_.tensors.size();
    return RunTasks(count, threads, [this](std::size_t task) {
      return task < manifest_.files.size() ? CheckDigest(manifest_.files[task])
                                           : CheckTensor(manifest_.tensors[task - manifest_.files.size()]);
    });
  }

 private:
  absl::Status CheckDigest(const ManifestFile& file) const {
    auto digest = DigestOf(file.path, 0, file.size, manifest_.digest, progress_);
    if (!digest.ok()) {
      return AsCorrupt(digest.status(), {.file = file.path});
    }
    return *digest == file.digest ? absl::OkStatus()
                                  : Corrupt("the file's digest is not the manifest's", {.file = file.path});
  }

  absl::Status CheckTensor(const ManifestTensor& tensor) const {
    const Where where{.tensor = tensor.name, .file = tensor.file, .offset = tensor.offset};
    auto digest = DigestOf(tensor.file, tensor.offset, tensor.bytes, DigestAlgorithm::kXxh3, {});
    if (!digest.ok()) {
      return AsCorrupt(digest.status(), where);
    }
    return *digest == tensor.xxh3 ? absl::OkStatus() : Corrupt("the tensor's checksum is not the manifest's", where);
  }

  absl::StatusOr<std::string> DigestOf(const std::string& path, std::int64_t begin, std::int64_t bytes,
                                       DigestAlgorithm algorithm,
                                       const std::function<void(std::int64_t)>& progress) const {
    const SourceFile& file = *files_.at(path);
    Digest digest(algorithm);
    std::vector<std::byte> buffer(std::min<std::size_t>(kReadStep, static_cast<std::size_t>(bytes)));
    for (std::int64_t done = 0; done < bytes;) {
      const auto step = std::min<std::size_t>(buffer.size(), static_cast<std::size_t>(bytes - done));
      const std::span<std::byte> part = std::span(buffer).first(step);
      SLIPWAY_RETURN_IF_ERROR(file.ReadAt(begin + done, part));
      digest.Update(part);
      done += static_cast<std::int64_t>(step);
      if (progress) {
        progress(static_cast<std::int64_t>(step));
      }
    }
    return digest.Finish();
  }

  const Manifest& manifest_;
  const ArtifactFiles& files_;
  const std::function<void(std::int64_t)>& progress_;
};

}  // namespace

absl::Status VerifyBytes(const Manifest& manifest, const ArtifactFiles& files, int threads,
                         const std::function<void(std::int64_t)>& progress) {
  return ByteCheck(manifest, files, progress).Run(threads);
}

}  // namespace slipway::engine
