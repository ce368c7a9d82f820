// The server's metrics: one table of names, and the handles that the code moves. Thread-safe.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

namespace slipway::server {

class Metrics {
 public:
  Metrics();

  // The exposition in Prometheus' text format.
  [[nodiscard]] std::string Exposition() const;

  void CountRpc(std::string_view method, std::string_view code, double seconds);

 private:
  // First: what follows is made in it.
  std::unique_ptr<prometheus::Registry> registry_;

 public:
  prometheus::Family<prometheus::Gauge>& exports;  // {state}
  prometheus::Counter& exports_created;
  prometheus::Family<prometheus::Counter>& exports_finished;  // {result}
  prometheus::Histogram& export_queue_seconds;
  prometheus::Histogram& export_run_seconds;
  prometheus::Family<prometheus::Counter>& failed_attempts;  // {cause}
  prometheus::Gauge& queued_bytes;
  prometheus::Family<prometheus::Gauge>& workers;  // {state}
  prometheus::Counter& lease_expirations;
  prometheus::Counter& fenced_reports;
  prometheus::Histogram& commit_seconds;
  prometheus::Counter& commit_failures;
  prometheus::Gauge& watchers;

 private:
  prometheus::Family<prometheus::Counter>& rpc_requests_;   // {method, code}
  prometheus::Family<prometheus::Histogram>& rpc_seconds_;  // {method}
};

}  // namespace slipway::server
