#include "client/artifact_download.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "client/export_client.h"
#include "client/partial_download.h"
#include "client/progress.h"
#include "common/clock.h"
#include "common/digest.h"
#include "common/error.h"
#include "common/rpc/rpc_status.h"
#include "slipway/v1/artifact.grpc.pb.h"

namespace slipway {
namespace {

constexpr std::chrono::seconds kListTimeout{60};

// Calls `work(i)` for i in [0, count) from several threads; the first error ends it.
absl::Status ForEachInParallel(std::size_t count, int threads, const std::function<absl::Status(std::size_t)>& work) {
  std::atomic<std::size_t> next = 0;
  std::mutex mutex;
  absl::Status first_error;
  {
    std::vector<std::jthread> pool;
    const auto size = std::min(count, static_cast<std::size_t>(std::max(threads, 1)));
    for (std::size_t thread = 0; thread < size; ++thread) {
      pool.emplace_back([&] {
        for (std::size_t i = next++; i < count; i = next++) {
          if (absl::Status status = work(i); !status.ok()) {
            next = count;
            const std::scoped_lock lock(mutex);
            first_error.Update(std::move(status));
          }
        }
      });
    }
  }
  return first_error;
}

// Sums what several threads have done.
class SharedProgress {
 public:
  SharedProgress(std::string phase, std::int64_t done, std::int64_t total, const DownloadProgress& report)
      : phase_(std::move(phase)), done_(done), total_(total), report_(report) {}

  void Add(std::int64_t bytes) {
    const std::scoped_lock lock(mutex_);
    done_ += bytes;
    if (report_) {
      report_(phase_, done_, total_);
    }
  }

 private:
  const std::string phase_;
  std::mutex mutex_;
  std::int64_t done_;
  const std::int64_t total_;
  const DownloadProgress& report_;
};

// Fetches ranges of one artifact into a partial download. Thread-safe.
class RangeFetcher {
 public:
  RangeFetcher(const std::shared_ptr<const Connection>& connection, std::string name, const RetryPolicy& policy,
               PartialDownload& partial, SharedProgress& progress, std::stop_token stop)
      : connection_(connection),
        stub_(v1::ArtifactService::NewStub(connection->channel())),
        name_(std::move(name)),
        policy_(policy),
        partial_(partial),
        progress_(progress),
        stop_(std::move(stop)) {}

  // The whole range, over as many calls as it takes.
  absl::Status Fetch(ByteRange range) const {
    Backoff backoff(policy_);
    int damaged_tries = 0;
    while (range.length > 0) {
      const std::int64_t before = range.length;
      const absl::Status status = FetchOnce(range);
      if (range.length < before) {
        backoff.Reset();
      }
      const bool damaged = ReasonOf(status) == Reason::kArtifactCorrupt && ++damaged_tries < kMaximumDamagedTries;
      if (!status.ok() && !damaged && !backoff.WaitAfter(status, stop_)) {
        return stop_.stop_requested() ? Error(Reason::kCancelled, "interrupted") : status;
      }
    }
    return absl::OkStatus();
  }

 private:
  // One call; `range` shrinks by what was stored.
  absl::Status FetchOnce(ByteRange& range) const {
    grpc::ClientContext context;
    connection_->Authorize(context);
    const std::stop_callback cancel(stop_, [&context] { context.TryCancel(); });
    v1::DownloadArtifactFileRequest request;
    request.set_name(name_);
    request.set_path(partial_.file(range.file).path());
    request.set_offset(range.offset);
    request.set_length(range.length);
    const auto reader = stub_->DownloadArtifactFile(&context, request);
    v1::DownloadArtifactFileResponse chunk;
    absl::Status stored = absl::OkStatus();
    while (stored.ok() && reader->Read(&chunk)) {
      stored = StoreChunk(chunk, range);
    }
    if (!stored.ok()) {
      context.TryCancel();
      (void)reader->Finish();
      return stored;
    }
    absl::Status status = FromGrpcStatus(reader->Finish(), context);
    if (status.ok() && range.length > 0) {
      return Error(Reason::kServerUnreachable, "the server ended the download early", {.file = request.path()});
    }
    return status;
  }

  absl::Status StoreChunk(const v1::DownloadArtifactFileResponse& chunk, ByteRange& range) const {
    const std::span bytes = std::as_bytes(std::span(chunk.data()));
    const auto length = static_cast<std::int64_t>(bytes.size());
    const bool fits =
        chunk.offset() == range.offset && length > 0 && length <= range.length && length <= kMaximumChunkBytes;
    if (!fits || Xxh3(bytes) != chunk.xxh3()) {
      return Error(Reason::kArtifactCorrupt, "a chunk of the download arrived damaged",
                   {.file = partial_.file(range.file).path(), .offset = range.offset});
    }
    SLIPWAY_RETURN_IF_ERROR(partial_.Store(range.file, range.offset, bytes, chunk.xxh3()));
    range.offset += length;
    range.length -= length;
    progress_.Add(length);
    return absl::OkStatus();
  }

  const std::shared_ptr<const Connection> connection_;
  const std::unique_ptr<v1::ArtifactService::Stub> stub_;
  const std::string name_;
  const RetryPolicy& policy_;
  PartialDownload& partial_;
  SharedProgress& progress_;
  const std::stop_token stop_;
};

absl::StatusOr<std::vector<v1::ArtifactFile>> ListFiles(const Connection& connection, const std::string& name,
                                                        const RetryPolicy& policy, const std::stop_token& stop) {
  const auto stub = v1::ArtifactService::NewStub(connection.channel());
  v1::ListArtifactFilesRequest request;
  request.set_name(name);
  Backoff backoff(policy);
  while (true) {
    grpc::ClientContext context;
    connection.Authorize(context);
    context.set_deadline(std::chrono::system_clock::now() + kListTimeout);
    v1::ListArtifactFilesResponse response;
    const absl::Status status = FromGrpcStatus(stub->ListArtifactFiles(&context, request, &response), context);
    if (status.ok()) {
      return std::vector<v1::ArtifactFile>(response.files().begin(), response.files().end());
    }
    if (!backoff.WaitAfter(status, stop)) {
      return status;
    }
  }
}

absl::Status CheckRoom(const PartialDownload& partial, const std::string& output) {
  const std::string parent = output.substr(0, output.rfind('/') + 1);
  SLIPWAY_ASSIGN_OR_RETURN(const std::int64_t room, PosixFileSystem().FreeSpace(parent));
  const std::int64_t needed = partial.total_bytes() - partial.kept_bytes();
  if (needed > room) {
    return Error(Reason::kOutputDiskFull, fmt::format("{} bytes are needed and {} are free", needed, room),
                 {.file = output});
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status DownloadArtifact(const std::shared_ptr<const Connection>& connection, const DownloadRequest& request,
                              const RetryPolicy& policy, const DownloadProgress& progress,
                              const std::stop_token& stop) {
  if (!request.overwrite && PosixFileSystem().Exists(request.output)) {
    return Error(Reason::kOutputExists, "the output exists", {.file = request.output});
  }
  const std::string name = ExportName(request.name);
  SLIPWAY_ASSIGN_OR_RETURN(std::vector<v1::ArtifactFile> files, ListFiles(*connection, name, policy, stop));
  SLIPWAY_ASSIGN_OR_RETURN(const auto partial, PartialDownload::Open(request.output, std::move(files)));
  SLIPWAY_RETURN_IF_ERROR(CheckRoom(*partial, request.output));

  SharedProgress fetched("downloading", partial->kept_bytes(), partial->total_bytes(), progress);
  const RangeFetcher fetcher(connection, name, policy, *partial, fetched, stop);
  const std::vector<ByteRange> missing = partial->Missing();
  SLIPWAY_RETURN_IF_ERROR(
      ForEachInParallel(missing.size(), request.streams, [&](std::size_t i) { return fetcher.Fetch(missing[i]); }));

  SharedProgress verified("verifying", 0, partial->total_bytes(), progress);
  const absl::Status whole = ForEachInParallel(partial->file_count(), request.streams, [&](std::size_t i) {
    absl::Status status = partial->CheckDigest(i, stop);
    verified.Add(partial->file(i).size());
    return status;
  });
  if (ReasonOf(whole) == Reason::kArtifactCorrupt) {
    partial->Discard();
  }
  SLIPWAY_RETURN_IF_ERROR(whole);
  return partial->Publish(request.overwrite);
}

absl::Status DownloadWithProgress(const std::shared_ptr<const Connection>& connection, const DownloadRequest& request,
                                  const Console& console, const std::stop_token& stop) {
  ProgressReporter reporter(console.err, console.err_terminal, console.quiet, SystemClock());
  const auto show = [&reporter](const std::string& phase, std::int64_t done, std::int64_t total) {
    reporter.Update({.phase = phase, .bytes_done = done, .bytes_total = total});
  };
  return DownloadArtifact(connection, request, {}, show, stop);
}

}  // namespace slipway
