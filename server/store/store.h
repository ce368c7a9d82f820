// Where exports outlive the process.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/scheduling/records.h"

namespace slipway::server {

// A page has no further export once the specs on it are longer than this together: each may have a recipe in it.
inline constexpr std::size_t kMaximumListBytes = std::size_t{16} << 20;

// A page of exports, newest first.
struct ListQuery {
  std::optional<std::int64_t> before_order = {};  // only exports older than this one
  std::optional<ExportState> state = {};
  std::optional<std::string> checkpoint = {};
  std::size_t limit = 50;  // fewer where kMaximumListBytes ends the page
};

// Used by one thread at a time. Errors are STORE_FAILED; after an error of Commit nothing of that commit is stored.
class Store {
 public:
  virtual ~Store() = default;
  // Writes everything or nothing; on disk, past any power cut, when it returns OK.
  virtual absl::Status Commit(const Changes& changes) = 0;

  // Exports in no final state, oldest first, with shards and attempts.
  virtual absl::StatusOr<std::vector<ExportHistory>> LoadUnfinished() = 0;
  virtual absl::StatusOr<std::optional<ExportRecord>> FindExport(const std::string& id) = 0;
  virtual absl::StatusOr<std::optional<ExportRecord>> FindRequest(const std::string& request_id) = 0;
  virtual absl::StatusOr<std::vector<ExportRecord>> List(const ListQuery& query) = 0;
  virtual absl::StatusOr<std::vector<ShardRecord>> Shards(const std::string& id) = 0;
  // The newest `limit`, oldest first.
  virtual absl::StatusOr<std::vector<AttemptRecord>> LastAttempts(const std::string& id, std::size_t limit) = 0;
  // At most `limit` events after sequence `after`, in order.
  virtual absl::StatusOr<std::vector<EventRecord>> Events(const std::string& id, std::int64_t after,
                                                          std::size_t limit) = 0;
  virtual absl::StatusOr<std::map<ExportState, std::int64_t>> CountByState() = 0;
  // The highest order that an export ever had; 0 for none.
  virtual absl::StatusOr<std::int64_t> LastOrder() = 0;
};

}  // namespace slipway::server
