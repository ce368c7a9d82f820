// Load on one coordinator from one process, for test_load.py:
//
//   load_client ADDRESS CHECKPOINT EXPORTS WATCHERS PREFIX
//
// Creates EXPORTS exports (request ids begin with PREFIX), watches the first WATCHERS of them (a stream and a thread
// each), and waits until all have ended. Prints one JSON object: how many were created, succeeded and lost, events seen
// and gaps between their numbers, reconnects, and the time to the first lease: by the coordinator's clock from
// acceptance, and by this program's from its call until a watcher hears of the lease. Exit status 0 where it could be
// measured.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <google/protobuf/util/time_util.h>
#include <grpcpp/grpcpp.h>

#include "slipway/v1/export.grpc.pb.h"

namespace slipway {
namespace {

using google::protobuf::util::TimeUtil;
using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::minutes kPatience{10};
constexpr int kMaximumReconnects = 20;

bool IsFinal(v1::ExportState state) {
  return state == v1::EXPORT_STATE_SUCCEEDED || state == v1::EXPORT_STATE_FAILED || state == v1::EXPORT_STATE_CANCELLED;
}

struct Counters {
  std::atomic<std::int64_t> events{0};
  std::atomic<std::int64_t> gaps{0};
  std::atomic<std::int64_t> reconnects{0};
  std::atomic<std::int64_t> unfinished{0};  // watchers that never saw the end
  std::mutex mutex;
  std::vector<std::int64_t> heard_us;  // guarded by mutex: from the call that created the export to its first lease
};

// Follows one export to its end as a careful client does: counts events, resumes where a stream breaks.
void Watch(v1::ExportService::Stub& stub, const std::string& name, SteadyClock::time_point called, Counters& counters) {
  std::int64_t last = 0;
  for (int attempt = 0; attempt <= kMaximumReconnects; ++attempt) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kPatience);
    v1::WatchExportRequest request;
    request.set_name(name);
    request.set_from_sequence(last);
    const auto reader = stub.WatchExport(&context, request);
    v1::WatchExportResponse response;
    bool ended = false;
    while (reader->Read(&response)) {
      if (!response.has_event()) {
        continue;
      }
      ++counters.events;
      counters.gaps += response.event().sequence() == last + 1 ? 0 : 1;
      last = response.event().sequence();
      if (response.event().state() == v1::EXPORT_STATE_PLANNING) {
        const std::lock_guard lock(counters.mutex);
        counters.heard_us.push_back(
            std::chrono::duration_cast<std::chrono::microseconds>(SteadyClock::now() - called).count());
      }
      ended = IsFinal(response.event().state());
    }
    if (reader->Finish().ok() && ended) {
      return;
    }
    ++counters.reconnects;
  }
  ++counters.unfinished;
}

std::optional<std::string> Create(v1::ExportService::Stub& stub, const std::string& checkpoint,
                                  const std::string& request_id) {
  grpc::ClientContext context;
  v1::CreateExportRequest request;
  request.mutable_spec()->set_checkpoint(checkpoint);
  request.set_request_id(request_id);
  v1::Export created;
  const grpc::Status status = stub.CreateExport(&context, request, &created);
  if (!status.ok()) {
    fmt::print(stderr, "create {}: {}\n", request_id, status.error_message());
    return std::nullopt;
  }
  return created.name();
}

// The export once it has ended; absent where it does not end or is not there.
std::optional<v1::Export> WaitForEnd(v1::ExportService::Stub& stub, const std::string& name) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < end) {
    grpc::ClientContext context;
    v1::GetExportRequest request;
    request.set_name(name);
    v1::Export found;
    if (!stub.GetExport(&context, request, &found).ok()) {
      return std::nullopt;
    }
    if (IsFinal(found.state())) {
      return found;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return std::nullopt;
}

// `share` of the values are at most this; 0 where there are none.
std::int64_t Percentile(std::vector<std::int64_t> values, double share) {
  if (values.empty()) {
    return 0;
  }
  std::ranges::sort(values);
  const auto rank = static_cast<std::size_t>(std::lround(share * static_cast<double>(values.size() - 1)));
  return values[rank];
}

int Run(const std::string& address, const std::string& checkpoint, int exports, int watchers, std::string_view prefix) {
  const auto stub = v1::ExportService::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  Counters counters;
  std::vector<std::string> names;
  std::vector<std::jthread> threads;
  for (int number = 0; number < exports; ++number) {
    const auto called = SteadyClock::now();
    const std::optional<std::string> name = Create(*stub, checkpoint, fmt::format("{}-{}", prefix, number));
    if (!name) {
      continue;
    }
    names.push_back(*name);
    if (number < watchers) {
      threads.emplace_back([&stub, &counters, called, name = *name] { Watch(*stub, name, called, counters); });
    }
  }
  std::int64_t succeeded = 0;
  std::int64_t lost = 0;
  std::vector<std::int64_t> lease_us;
  for (const std::string& name : names) {
    const std::optional<v1::Export> ended = WaitForEnd(*stub, name);
    if (!ended) {
      ++lost;
      continue;
    }
    succeeded += ended->state() == v1::EXPORT_STATE_SUCCEEDED ? 1 : 0;
    if (ended->attempts_size() > 0) {
      lease_us.push_back(TimeUtil::DurationToMicroseconds(ended->attempts(0).start_time() - ended->create_time()));
    }
  }
  threads.clear();  // joins
  fmt::print(
      "{{\"created\": {}, \"succeeded\": {}, \"lost\": {}, \"events\": {}, \"gaps\": {}, \"reconnects\": {}, "
      "\"unfinished\": {}, \"lease_us_p50\": {}, \"lease_us_p99\": {}, \"heard_us_p50\": {}}}\n",
      names.size(), succeeded, lost, counters.events.load(), counters.gaps.load(), counters.reconnects.load(),
      counters.unfinished.load(), Percentile(lease_us, 0.5), Percentile(lease_us, 0.99),
      Percentile(counters.heard_us, 0.5));
  return 0;
}

}  // namespace
}  // namespace slipway

int main(int argc, char** argv) {
  if (argc != 6) {
    fmt::print(stderr, "usage: load_client ADDRESS CHECKPOINT EXPORTS WATCHERS PREFIX\n");
    return 2;
  }
  return slipway::Run(argv[1], argv[2], std::atoi(argv[3]), std::atoi(argv[4]), argv[5]);
}
