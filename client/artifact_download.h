// Downloading an artifact: parallel ranges, each chunk checked as it comes, each file checked as a whole, resumed after
// a break, and there only when it is complete.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "absl/status/status.h"
#include "client/channel.h"
#include "client/console.h"
#include "client/retry.h"

namespace slipway {

struct DownloadRequest {
  std::string name = {};    // "exports/ID"
  std::string output = {};  // absolute; its parent exists
  bool overwrite = false;
  int streams = 4;  // ranges fetched at a time
};

// "downloading" or "verifying", and how far that is. Called from several threads, one at a time.
using DownloadProgress = std::function<void(const std::string& phase, std::int64_t done, std::int64_t total)>;

// A range whose bytes arrive damaged is asked for again so many times.
inline constexpr int kMaximumDamagedTries = 5;

// OUTPUT_EXISTS, ARTIFACT_CORRUPT naming the file, what ListArtifactFiles says, SERVER_UNREACHABLE once `policy` gives
// up. Whatever the error, what arrived is kept beside the output for the next try, except where it proved corrupt.
absl::Status DownloadArtifact(const std::shared_ptr<const Connection>& connection, const DownloadRequest& request,
                              const RetryPolicy& policy, const DownloadProgress& progress, const std::stop_token& stop);

// The same with the usual patience and a progress line on the console's `err`.
absl::Status DownloadWithProgress(const std::shared_ptr<const Connection>& connection, const DownloadRequest& request,
                                  const Console& console, const std::stop_token& stop);

}  // namespace slipway
