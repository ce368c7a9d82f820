#include "server/store/sqlite_store.h"

#include <utility>

#include <SQLiteCpp/Database.h>
#include <SQLiteCpp/Exception.h>
#include <SQLiteCpp/Statement.h>
#include <SQLiteCpp/Transaction.h>
#include <fmt/format.h>

#include "common/error.h"
#include "server/store/schema.h"
#include "server/store/sqlite_rows.h"

namespace slipway::server {
namespace {

constexpr int kBusyTimeoutMilliseconds = 2000;

std::string Placeholders(std::string_view columns) {
  std::string marks = "?";
  for (const char letter : columns) {
    marks += letter == ',' ? ",?" : "";
  }
  return marks;
}

std::string Replacement(std::string_view table, std::string_view columns) {
  return fmt::format("INSERT OR REPLACE INTO {} (export_id, {}) VALUES (?,{})", table, columns, Placeholders(columns));
}

// An export is updated in place: replacing it would delete what refers to it.
std::string ExportUpsert() {
  std::string updates;
  std::string_view rest = kExportColumns;
  while (!rest.empty()) {
    const std::size_t comma = rest.find(", ");
    const std::string_view column = rest.substr(0, comma);
    updates += fmt::format("{}{} = excluded.{}", updates.empty() ? "" : ", ", column, column);
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 2);
  }
  return fmt::format("INSERT INTO exports ({}) VALUES ({}) ON CONFLICT (id) DO UPDATE SET {}", kExportColumns,
                     Placeholders(kExportColumns), updates);
}

class SqliteStore final : public Store {
 public:
  explicit SqliteStore(SQLite::Database database)
      : database_(std::move(database)),
        put_export_(database_, ExportUpsert()),
        put_shard_(database_, Replacement("shards", kShardColumns)),
        put_attempt_(database_, Replacement("attempts", kAttemptColumns)),
        put_event_(database_, Replacement("events", kEventColumns)),
        put_order_(database_, "UPDATE counters SET last_order = max(last_order, ?)"),
        delete_export_(database_, "DELETE FROM exports WHERE id = ?") {}

  absl::Status Commit(const Changes& changes) override {
    return Guard("write to", [&]() -> absl::Status {
      SQLite::Transaction transaction(database_, SQLite::TransactionBehavior::IMMEDIATE);
      for (const ExportRecord& record : changes.exports) {
        Run(put_export_, record);
        put_order_.bind(1, record.order);
        Finish(put_order_);
      }
      for (const Changes::Shard& shard : changes.shards) {
        Run(put_shard_, shard);
      }
      for (const Changes::Attempt& attempt : changes.attempts) {
        Run(put_attempt_, attempt);
      }
      for (const Changes::Event& event : changes.events) {
        Run(put_event_, event);
      }
      for (const std::string& id : changes.deleted) {
        delete_export_.bind(1, id);
        Finish(delete_export_);
      }
      transaction.commit();
      return absl::OkStatus();
    });
  }

  absl::StatusOr<std::vector<ExportHistory>> LoadUnfinished() override {
    return Guard("read", [&]() -> absl::StatusOr<std::vector<ExportHistory>> {
      std::vector<ExportHistory> exports;
      SQLite::Statement query(
          database_, fmt::format("SELECT {} FROM exports WHERE state NOT IN ({}, {}, {}) "
                                 "ORDER BY ordinal",
                                 kExportColumns, static_cast<int>(ExportState::kSucceeded),
                                 static_cast<int>(ExportState::kFailed), static_cast<int>(ExportState::kCancelled)));
      while (query.executeStep()) {
        exports.push_back({ReadExport(query)});
      }
      for (ExportHistory& history : exports) {
        history.shards = ReadShards(history.record.id);
        history.attempts = ReadAttempts(history.record.id, "ORDER BY epoch");
      }
      return exports;
    });
  }

  absl::StatusOr<std::optional<ExportRecord>> FindExport(const std::string& id) override { return FindBy("id", id); }
  absl::StatusOr<std::optional<ExportRecord>> FindRequest(const std::string& request_id) override {
    return FindBy("request_id <> '' AND request_id", request_id);
  }

  absl::StatusOr<std::vector<ExportRecord>> List(const ListQuery& list) override {
    return Guard("read", [&]() -> absl::StatusOr<std::vector<ExportRecord>> {
      std::string sql = fmt::format("SELECT {} FROM exports WHERE ordinal < :before", kExportColumns);
      sql += list.state ? " AND state = :state" : "";
      sql += list.checkpoint ? " AND checkpoint = :checkpoint" : "";
      sql += " ORDER BY ordinal DESC LIMIT :limit";
      SQLite::Statement query(database_, sql);
      query.bind(":before", list.before_order.value_or(INT64_MAX));
      query.bind(":limit", static_cast<std::int64_t>(list.limit));
      if (list.state) {
        query.bind(":state", static_cast<int>(*list.state));
      }
      if (list.checkpoint) {
        query.bind(":checkpoint", *list.checkpoint);
      }
      std::vector<ExportRecord> page;
      std::size_t bytes = 0;
      while (bytes <= kMaximumListBytes && query.executeStep()) {
        page.push_back(ReadExport(query));
        bytes += page.back().spec.size();
      }
      return page;
    });
  }

  absl::StatusOr<std::vector<ShardRecord>> Shards(const std::string& id) override {
    return Guard("read", [&]() -> absl::StatusOr<std::vector<ShardRecord>> { return ReadShards(id); });
  }

  absl::StatusOr<std::vector<AttemptRecord>> LastAttempts(const std::string& id, std::size_t limit) override {
    return Guard("read", [&]() -> absl::StatusOr<std::vector<AttemptRecord>> {
      std::vector<AttemptRecord> attempts = ReadAttempts(id, fmt::format("ORDER BY epoch DESC LIMIT {}", limit));
      return std::vector<AttemptRecord>(attempts.rbegin(), attempts.rend());
    });
  }

  absl::StatusOr<std::vector<EventRecord>> Events(const std::string& id, std::int64_t after,
                                                  std::size_t limit) override {
    return Guard("read", [&]() -> absl::StatusOr<std::vector<EventRecord>> {
      SQLite::Statement query(database_, fmt::format("SELECT {} FROM events WHERE export_id = ? AND sequence > ? "
                                                     "ORDER BY sequence LIMIT ?",
                                                     kEventColumns));
      query.bind(1, id);
      query.bind(2, after);
      query.bind(3, static_cast<std::int64_t>(limit));
      std::vector<EventRecord> events;
      while (query.executeStep()) {
        events.push_back(ReadEvent(query));
      }
      return events;
    });
  }

  absl::StatusOr<std::map<ExportState, std::int64_t>> CountByState() override {
    return Guard("read", [&]() -> absl::StatusOr<std::map<ExportState, std::int64_t>> {
      SQLite::Statement query(database_, "SELECT state, count(*) FROM exports GROUP BY state");
      std::map<ExportState, std::int64_t> counts;
      while (query.executeStep()) {
        counts[static_cast<ExportState>(query.getColumn(0).getInt())] = query.getColumn(1).getInt64();
      }
      return counts;
    });
  }

  absl::StatusOr<std::int64_t> LastOrder() override {
    return Guard("read", [&]() -> absl::StatusOr<std::int64_t> {
      SQLite::Statement query(database_, "SELECT last_order FROM counters");
      return query.executeStep() ? query.getColumn(0).getInt64() : 0;
    });
  }

 private:
  // Runs `work`; an exception of SQLiteCpp becomes STORE_FAILED.
  template <typename Work>
  auto Guard(std::string_view verb, Work work) -> decltype(work()) {
    try {
      return work();
    } catch (const SQLite::Exception& error) {
      // A statement that failed half-way would refuse its next binding.
      for (SQLite::Statement* statement :
           {&put_export_, &put_shard_, &put_attempt_, &put_event_, &put_order_, &delete_export_}) {
        statement->tryReset();
      }
      return Error(Reason::kStoreFailed, fmt::format("Cannot {} the store: {}.", verb, error.what()));
    }
  }

  static void Finish(SQLite::Statement& statement) {
    statement.exec();
    statement.reset();
    statement.clearBindings();
  }

  template <typename Record>
  static void Run(SQLite::Statement& statement, const Record& record) {
    Bind(statement, record);
    Finish(statement);
  }

  absl::StatusOr<std::optional<ExportRecord>> FindBy(std::string_view condition, const std::string& value) {
    return Guard("read", [&]() -> absl::StatusOr<std::optional<ExportRecord>> {
      SQLite::Statement query(database_, fmt::format("SELECT {} FROM exports WHERE {} = ?", kExportColumns, condition));
      query.bind(1, value);
      return query.executeStep() ? std::optional(ReadExport(query)) : std::nullopt;
    });
  }

  std::vector<ShardRecord> ReadShards(const std::string& id) {
    SQLite::Statement query(database_,
                            fmt::format("SELECT {} FROM shards WHERE export_id = ? ORDER BY number", kShardColumns));
    query.bind(1, id);
    std::vector<ShardRecord> shards;
    while (query.executeStep()) {
      shards.push_back(ReadShard(query));
    }
    return shards;
  }

  std::vector<AttemptRecord> ReadAttempts(const std::string& id, std::string_view tail) {
    SQLite::Statement query(database_,
                            fmt::format("SELECT {} FROM attempts WHERE export_id = ? {}", kAttemptColumns, tail));
    query.bind(1, id);
    std::vector<AttemptRecord> attempts;
    while (query.executeStep()) {
      attempts.push_back(ReadAttempt(query));
    }
    return attempts;
  }

  SQLite::Database database_;
  SQLite::Statement put_export_;
  SQLite::Statement put_shard_;
  SQLite::Statement put_attempt_;
  SQLite::Statement put_event_;
  SQLite::Statement put_order_;
  SQLite::Statement delete_export_;
};

int VersionOf(SQLite::Database& database) { return database.execAndGet("PRAGMA user_version").getInt(); }

// Reads only: what is not ours stays as it is.
absl::Status CheckIsOurs(SQLite::Database& database) {
  const int version = VersionOf(database);
  const int application = database.execAndGet("PRAGMA application_id").getInt();
  const bool is_new = version == 0 && database.execAndGet("SELECT count(*) FROM sqlite_schema").getInt() == 0;
  if (!is_new && application != kApplicationId) {
    return Error(Reason::kStoreFailed, "The file is a database, but not a Slipway store.");
  }
  if (version < 0 || version > static_cast<int>(kMigrations.size())) {
    return Error(Reason::kStoreFailed, fmt::format("The store has version {}, this program knows up to {}; use a newer "
                                                   "slipway-server.",
                                                   version, kMigrations.size()));
  }
  return absl::OkStatus();
}

void Migrate(SQLite::Database& database) {
  for (auto next = static_cast<std::size_t>(VersionOf(database)); next < kMigrations.size(); ++next) {
    SQLite::Transaction transaction(database, SQLite::TransactionBehavior::IMMEDIATE);
    database.exec(kMigrations[next]);
    database.exec(fmt::format("PRAGMA application_id = {}", kApplicationId));
    database.exec(fmt::format("PRAGMA user_version = {}", next + 1));
    transaction.commit();
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> OpenSqliteStore(const std::string& path) {
  try {
    SQLite::Database database(path, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE, kBusyTimeoutMilliseconds);
    SLIPWAY_RETURN_IF_ERROR(AddWhere(CheckIsOurs(database), Where{.file = path}));
    database.exec("PRAGMA journal_mode = WAL");
    database.exec("PRAGMA synchronous = FULL");
    database.exec("PRAGMA foreign_keys = ON");
    Migrate(database);
    if (const std::string check = database.execAndGet("PRAGMA quick_check(1)").getString(); check != "ok") {
      return Error(Reason::kStoreFailed, fmt::format("The store is corrupt: {}.", check), Where{.file = path});
    }
    return std::make_unique<SqliteStore>(std::move(database));
  } catch (const SQLite::Exception& error) {
    return Error(Reason::kStoreFailed, fmt::format("Cannot open the store: {}.", error.what()), Where{.file = path});
  }
}

}  // namespace slipway::server
