// What the HTTP server shows: /metrics, /healthz (the coordinator's thread turns), /readyz (the store answers and the
// server is not draining).
#pragma once

#include <atomic>
#include <string>

#include "server/coordinator.h"
#include "server/http/http_server.h"
#include "server/metrics.h"

namespace slipway::server {

// Blocks until the coordinator answers, at most a second. Thread-safe.
HttpResponse ServePage(const std::string& path, Coordinator& coordinator, Metrics& metrics,
                       const std::atomic<bool>& draining);

}  // namespace slipway::server
