#include "client/export_client.h"

#include <algorithm>
#include <array>
#include <optional>
#include <random>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "common/rpc/rpc_status.h"

namespace slipway {
namespace {

constexpr std::chrono::seconds kCallTimeout{30};
// A plan of a very large model over slow storage.
constexpr std::chrono::seconds kPlanTimeout{600};
constexpr int kPageSize = 500;

// One connection's part of a watch: what has been seen so far is shared by all of them.
struct WatchCursor {
  std::int64_t last_sequence = 0;
  v1::ExportState state = v1::EXPORT_STATE_UNSPECIFIED;
  bool heard = false;  // anything since this connection began
};

// Passes on what is new. An error where events are missing.
absl::Status Observe(const v1::WatchExportResponse& update, const WatchObserver& observer, WatchCursor& cursor) {
  cursor.heard = true;
  if (update.has_snapshot()) {
    cursor.state = update.snapshot().state();
    if (observer.snapshot) {
      observer.snapshot(update.snapshot());
    }
  } else if (update.has_progress()) {
    if (observer.progress) {
      observer.progress(update.progress());
    }
  } else if (update.has_event()) {
    const v1::ExportEvent& event = update.event();
    if (event.sequence() <= cursor.last_sequence) {
      return absl::OkStatus();  // seen before the connection broke
    }
    if (event.sequence() != cursor.last_sequence + 1) {
      return Error(Reason::kInternal,
                   fmt::format("the server skipped from event {} to event {}", cursor.last_sequence, event.sequence()));
    }
    cursor.last_sequence = event.sequence();
    cursor.state = event.state();
    if (observer.event) {
      observer.event(event);
    }
  }
  return absl::OkStatus();
}

// Why a stream ended. A server that goes away may end its streams with other codes than UNAVAILABLE.
absl::Status EndOfStream(const grpc::Status& status, const grpc::ClientContext& context) {
  const bool from_slipway = context.GetServerTrailingMetadata().contains(kErrorMetadataKey);
  const bool cut = status.error_code() == grpc::StatusCode::CANCELLED ||
                   status.error_code() == grpc::StatusCode::UNKNOWN ||
                   status.error_code() == grpc::StatusCode::INTERNAL;
  if (status.ok() || (cut && !from_slipway)) {
    return Error(Reason::kServerUnreachable, "the watch broke off before the export ended");
  }
  return FromGrpcStatus(status, context);
}

absl::Status Stopped() { return Error(Reason::kCancelled, "interrupted"); }

}  // namespace

bool IsFinal(v1::ExportState state) {
  return state == v1::EXPORT_STATE_SUCCEEDED || state == v1::EXPORT_STATE_FAILED || state == v1::EXPORT_STATE_CANCELLED;
}

std::string MakeRequestId() {
  std::random_device random;
  std::array<std::uint32_t, 4> words{};
  std::ranges::generate(words, std::ref(random));
  words[1] = (words[1] & 0xFFFF0FFFU) | 0x00004000U;  // version 4: random
  words[2] = (words[2] & 0x3FFFFFFFU) | 0x80000000U;  // variant of RFC 4122
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:04x}{:08x}", words[0], words[1] >> 16U, words[1] & 0xFFFFU,
                     words[2] >> 16U, words[2] & 0xFFFFU, words[3]);
}

std::string ExportName(const std::string& name_or_id) {
  return name_or_id.find('/') == std::string::npos ? "exports/" + name_or_id : name_or_id;
}

ExportClient::ExportClient(std::shared_ptr<const Connection> connection, RetryPolicy policy)
    : connection_(std::move(connection)),
      policy_(std::move(policy)),
      stub_(v1::ExportService::NewStub(connection_->channel())) {}

template <typename Request, typename Response>
absl::StatusOr<Response> ExportClient::Call(grpc::Status (v1::ExportService::Stub::*method)(grpc::ClientContext*,
                                                                                            const Request&, Response*),
                                            const Request& request, std::chrono::seconds timeout,
                                            const std::stop_token& stop) const {
  Backoff backoff(policy_);
  while (true) {
    grpc::ClientContext context;
    connection_->Authorize(context);
    context.set_deadline(std::chrono::system_clock::now() + timeout);
    const std::stop_callback cancel(stop, [&context] { context.TryCancel(); });
    Response response;
    const grpc::Status answer = ((*stub_).*method)(&context, request, &response);
    if (answer.ok()) {
      return response;
    }
    const absl::Status status = FromGrpcStatus(answer, context);
    const bool again = answer.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED && backoff.WaitAfter(status, stop);
    if (!again) {
      return stop.stop_requested() ? Stopped() : status;
    }
  }
}

absl::StatusOr<v1::Export> ExportClient::Create(v1::CreateExportRequest request, const std::stop_token& stop) const {
  if (request.request_id().empty()) {
    request.set_request_id(MakeRequestId());
  }
  const auto timeout = request.validate_only() ? kPlanTimeout : kCallTimeout;
  return Call(&v1::ExportService::Stub::CreateExport, request, timeout, stop);
}

absl::StatusOr<v1::Export> ExportClient::Get(const std::string& name, const std::stop_token& stop) const {
  v1::GetExportRequest request;
  request.set_name(ExportName(name));
  return Call(&v1::ExportService::Stub::GetExport, request, kCallTimeout, stop);
}

absl::StatusOr<std::vector<v1::Export>> ExportClient::List(const std::string& filter, std::int64_t limit) const {
  std::vector<v1::Export> exports;
  v1::ListExportsRequest request;
  request.set_filter(filter);
  while (true) {
    const std::int64_t wanted = limit == 0 ? kPageSize : limit - static_cast<std::int64_t>(exports.size());
    request.set_page_size(static_cast<int>(std::min<std::int64_t>(wanted, kPageSize)));
    SLIPWAY_ASSIGN_OR_RETURN(v1::ListExportsResponse page,
                             Call(&v1::ExportService::Stub::ListExports, request, kCallTimeout, {}));
    for (v1::Export& item : *page.mutable_exports()) {
      exports.push_back(std::move(item));
    }
    const bool enough = limit != 0 && static_cast<std::int64_t>(exports.size()) >= limit;
    if (enough || page.next_page_token().empty()) {
      return exports;
    }
    request.set_page_token(page.next_page_token());
  }
}

absl::StatusOr<v1::Export> ExportClient::Watch(const std::string& name, std::int64_t from_sequence,
                                               const WatchObserver& observer, const std::stop_token& stop) const {
  v1::WatchExportRequest request;
  request.set_name(ExportName(name));
  WatchCursor cursor{.last_sequence = from_sequence};
  Backoff backoff(policy_);
  while (true) {
    grpc::ClientContext context;
    connection_->Authorize(context);
    const std::stop_callback cancel(stop, [&context] { context.TryCancel(); });
    request.set_from_sequence(cursor.last_sequence);
    cursor.heard = false;
    const auto reader = stub_->WatchExport(&context, request);
    v1::WatchExportResponse update;
    absl::Status observed = absl::OkStatus();
    while (observed.ok() && reader->Read(&update)) {
      observed = Observe(update, observer, cursor);
    }
    if (!observed.ok()) {
      context.TryCancel();
      (void)reader->Finish();
      return observed;
    }
    const grpc::Status finished = reader->Finish();
    if (stop.stop_requested()) {
      return Stopped();
    }
    if (IsFinal(cursor.state)) {
      return Get(name, stop);
    }
    if (cursor.heard) {
      backoff.Reset();
    }
    const absl::Status status = EndOfStream(finished, context);
    if (!backoff.WaitAfter(status, stop)) {
      return stop.stop_requested() ? Stopped() : status;
    }
  }
}

absl::StatusOr<v1::Export> ExportClient::Cancel(const std::string& name, const std::stop_token& stop) const {
  v1::CancelExportRequest request;
  request.set_name(ExportName(name));
  return Call(&v1::ExportService::Stub::CancelExport, request, kCallTimeout, stop);
}

absl::Status ExportClient::Delete(const std::string& name, bool keep_artifact) const {
  v1::DeleteExportRequest request;
  request.set_name(ExportName(name));
  request.set_keep_artifact(keep_artifact);
  return Call(&v1::ExportService::Stub::DeleteExport, request, kCallTimeout, {}).status();
}

}  // namespace slipway
