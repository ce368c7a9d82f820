// Exports from a program: the contract's calls, with retries where they are safe and a watch that survives broken
// connections.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include <grpcpp/client_context.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/channel.h"
#include "client/retry.h"
#include "slipway/v1/export.grpc.pb.h"

namespace slipway {

// What a watch tells. Called in the watching thread, in order; absent ones are not called.
struct WatchObserver {
  std::function<void(const v1::Export&)> snapshot = {};    // once a connection
  std::function<void(const v1::ExportEvent&)> event = {};  // each event once, without a gap
  std::function<void(const v1::Progress&)> progress = {};
};

// Whether an export in this state will change no more.
bool IsFinal(v1::ExportState state);

// A random UUID (version 4).
std::string MakeRequestId();

// "exports/ID", for "exports/ID" and "ID" alike.
std::string ExportName(const std::string& name_or_id);

// Thread-safe. Every call gives up early (CANCELLED) once its stop token is triggered.
class ExportClient {
 public:
  explicit ExportClient(std::shared_ptr<const Connection> connection, RetryPolicy policy = {});

  // Fills in a request id, so that trying again after a lost answer creates nothing twice. validate_only requests wait
  // as long as the plan takes.
  absl::StatusOr<v1::Export> Create(v1::CreateExportRequest request, const std::stop_token& stop = {}) const;
  absl::StatusOr<v1::Export> Get(const std::string& name, const std::stop_token& stop = {}) const;
  // Newest first, over as many pages as `limit` takes; 0: all.
  absl::StatusOr<std::vector<v1::Export>> List(const std::string& filter, std::int64_t limit) const;
  // Follows an export to its end and returns it as it is then. Resumes after the last event seen whenever the stream
  // breaks. `from_sequence`: the last event already known.
  absl::StatusOr<v1::Export> Watch(const std::string& name, std::int64_t from_sequence, const WatchObserver& observer,
                                   const std::stop_token& stop = {}) const;
  absl::StatusOr<v1::Export> Cancel(const std::string& name, const std::stop_token& stop = {}) const;
  absl::Status Delete(const std::string& name, bool keep_artifact) const;

 private:
  // A unary call of the service, tried until it is answered.
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (v1::ExportService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                                Response*),
                                const Request& request, std::chrono::seconds timeout,
                                const std::stop_token& stop) const;

  const std::shared_ptr<const Connection> connection_;
  const RetryPolicy policy_;
  const std::unique_ptr<v1::ExportService::Stub> stub_;
};

}  // namespace slipway
