#include "server/services/watch_reactor.h"

#include <atomic>
#include <deque>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "server/services/call.h"
#include "server/services/conversion.h"
#include "server/services/names.h"

namespace slipway::server {
namespace {

// Its steps form one chain (ask, write, ask, ...): members need no lock. Only OnCancel comes from aside.
class WatchReactor final : public grpc::ServerWriteReactor<v1::WatchExportResponse>,
                           public std::enable_shared_from_this<WatchReactor> {
 public:
  WatchReactor(grpc::CallbackServerContext* context, Coordinator& coordinator, Metrics& metrics)
      : context_(context), coordinator_(coordinator), metrics_(metrics) {}

  void Start(const v1::WatchExportRequest& request) {
    self_ = shared_from_this();
    const absl::StatusOr<std::string> id = ParseExportName(request.name());
    if (!id.ok() || request.from_sequence() < 0) {
      End(id.ok() ? Error(Reason::kInvalidArgument, "from_sequence must not be negative.") : id.status());
      return;
    }
    id_ = *id;
    cursor_ = request.from_sequence();
    coordinator_.Get(
        id_, [self = shared_from_this()](const absl::StatusOr<ExportView>& view) { self->WriteSnapshot(view); });
  }

  void OnWriteDone(bool ok) override {
    pending_.pop_front();
    if (!ok) {
      End(Error(Reason::kCancelled, "The watcher went away."));
    } else {
      Continue();
    }
  }

  void OnCancel() override {
    cancelled_ = true;
    coordinator_.Abandon(ticket_);
  }

  void OnDone() override { self_.reset(); }

 private:
  void WriteSnapshot(const absl::StatusOr<ExportView>& view) {
    if (!view.ok()) {
      End(view.status());
      return;
    }
    if (cursor_ > view->record.last_sequence) {
      End(Error(Reason::kInvalidArgument,
                fmt::format("from_sequence is past the newest event, {}.", view->record.last_sequence)));
      return;
    }
    seen_ = view->progress;
    *pending_.emplace_back().mutable_snapshot() = ToMessage(*view);
    Continue();
  }

  // Writes what is pending, or ends, or asks for more.
  void Continue() {
    if (!pending_.empty()) {
      StartWrite(&pending_.front());
    } else if (final_) {
      End(absl::OkStatus());
    } else {
      Ask();
    }
  }

  void Ask() {
    ticket_ = coordinator_.NewTicket();
    coordinator_.Watch(ticket_, id_, cursor_, seen_, [self = shared_from_this()](absl::StatusOr<WatchUpdate> update) {
      self->Take(std::move(update));
    });
    if (cancelled_) {
      coordinator_.Abandon(ticket_);  // the cancellation may have come before the ticket
    }
  }

  void Take(absl::StatusOr<WatchUpdate> update) {
    if (!update.ok()) {
      End(update.status());
      return;
    }
    for (const EventRecord& event : update->events) {
      cursor_ = event.sequence;
      *pending_.emplace_back().mutable_event() = ToMessage(event);
    }
    if (update->progress) {
      seen_ = update->progress;
      *pending_.emplace_back().mutable_progress() = ToMessage(*update->progress, update->state);
    }
    final_ = update->final;
    Continue();
  }

  void End(const absl::Status& status) { Finish(EndCall(status, *context_, metrics_, "WatchExport", start_)); }

  grpc::CallbackServerContext* const context_;
  Coordinator& coordinator_;
  Metrics& metrics_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::string id_;
  std::int64_t cursor_ = 0;
  std::optional<ExportProgress> seen_;
  std::deque<v1::WatchExportResponse> pending_;
  bool final_ = false;
  std::atomic<Coordinator::Ticket> ticket_{0};
  std::atomic<bool> cancelled_{false};
  std::shared_ptr<WatchReactor> self_;
};

}  // namespace

grpc::ServerWriteReactor<v1::WatchExportResponse>* StartWatch(grpc::CallbackServerContext* context,
                                                              const v1::WatchExportRequest& request,
                                                              Coordinator& coordinator, Metrics& metrics) {
  auto reactor = std::make_shared<WatchReactor>(context, coordinator, metrics);
  reactor->Start(request);
  return reactor.get();
}

}  // namespace slipway::server
