#include "server/metrics.h"

#include <prometheus/text_serializer.h>

namespace slipway::server {
namespace {

const prometheus::Histogram::BucketBoundaries kShort = {0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05,
                                                        0.1,    0.2,   0.5,   1,     5,    20};
const prometheus::Histogram::BucketBoundaries kLong = {0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400};

template <typename Builder>
auto& Register(Builder builder, prometheus::Registry& registry, const char* name, const char* help) {
  return builder.Name(name).Help(help).Register(registry);
}

}  // namespace

// The table: every name that /metrics shows, in this order.
Metrics::Metrics()
    : registry_(std::make_unique<prometheus::Registry>()),
      exports(Register(prometheus::BuildGauge(), *registry_, "slipway_exports", "Exports in the store, by state.")),
      exports_created(Register(prometheus::BuildCounter(), *registry_, "slipway_exports_created_total",
                               "Exports that were accepted.")
                          .Add({})),
      exports_finished(Register(prometheus::BuildCounter(), *registry_, "slipway_exports_finished_total",
                                "Exports that ended, by result.")),
      export_queue_seconds(Register(prometheus::BuildHistogram(), *registry_, "slipway_export_queue_seconds",
                                    "Time from acceptance to the first lease.")
                               .Add({}, kLong)),
      export_run_seconds(Register(prometheus::BuildHistogram(), *registry_, "slipway_export_run_seconds",
                                  "Time from acceptance to the end.")
                             .Add({}, kLong)),
      failed_attempts(Register(prometheus::BuildCounter(), *registry_, "slipway_export_failed_attempts_total",
                               "Attempts that failed, by cause.")),
      queued_bytes(Register(prometheus::BuildGauge(), *registry_, "slipway_queued_work_bytes",
                            "Planned output bytes that are not written yet.")
                       .Add({})),
      workers(Register(prometheus::BuildGauge(), *registry_, "slipway_workers", "Workers that called lately.")),
      lease_expirations(Register(prometheus::BuildCounter(), *registry_, "slipway_lease_expirations_total",
                                 "Leases whose worker did not call in time.")
                            .Add({})),
      fenced_reports(Register(prometheus::BuildCounter(), *registry_, "slipway_fenced_reports_total",
                              "Results that came under a dead lease and were discarded.")
                         .Add({})),
      commit_seconds(Register(prometheus::BuildHistogram(), *registry_, "slipway_store_commit_seconds",
                              "Time of one transaction of the store, syncing included.")
                         .Add({}, kShort)),
      commit_failures(Register(prometheus::BuildCounter(), *registry_, "slipway_store_commit_failures_total",
                               "Transactions of the store that failed.")
                          .Add({})),
      watchers(Register(prometheus::BuildGauge(), *registry_, "slipway_watchers", "Open watches.").Add({})),
      rpc_requests_(Register(prometheus::BuildCounter(), *registry_, "slipway_rpc_requests_total",
                             "Calls that ended, by method and status code.")),
      rpc_seconds_(Register(prometheus::BuildHistogram(), *registry_, "slipway_rpc_request_seconds",
                            "Time of a call, waiting included.")) {
  Register(prometheus::BuildGauge(), *registry_, "slipway_build_info", "Always 1; the labels say what runs.")
      .Add({{"version", SLIPWAY_VERSION}})
      .Set(1);
}

std::string Metrics::Exposition() const { return prometheus::TextSerializer().Serialize(registry_->Collect()); }

void Metrics::CountRpc(std::string_view method, std::string_view code, double seconds) {
  rpc_requests_.Add({{"method", std::string(method)}, {"code", std::string(code)}}).Increment();
  rpc_seconds_.Add({{"method", std::string(method)}}, kShort).Observe(seconds);
}

}  // namespace slipway::server
