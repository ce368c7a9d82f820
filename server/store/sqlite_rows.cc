#include "server/store/sqlite_rows.h"

#include <chrono>

#include <SQLiteCpp/Column.h>

#include "common/rpc/rpc_status.h"

namespace slipway::server {
namespace {

std::int64_t Nanoseconds(Clock::Wall time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

Clock::Wall TimeOf(std::int64_t nanoseconds) {
  return Clock::Wall(std::chrono::duration_cast<Clock::Wall::duration>(std::chrono::nanoseconds(nanoseconds)));
}

// Binds or reads one column after the other.
class Columns {
 public:
  explicit Columns(SQLite::Statement& statement) : statement_(statement) {}

  void Put(std::int64_t value) { statement_.bind(next_++, value); }
  void Put(const std::string& value) { statement_.bind(next_++, value); }
  void PutBlob(const std::string& value) { statement_.bind(next_++, value.data(), static_cast<int>(value.size())); }
  void Put(const std::optional<Clock::Wall>& time) {
    if (time) {
      Put(Nanoseconds(*time));
    } else {
      statement_.bind(next_++);
    }
  }
  void Put(const absl::Status& error) {
    PutBlob(error.ok() ? std::string() : ToErrorDetail(error).SerializeAsString());
  }

  std::int64_t Integer() { return statement_.getColumn(next_++).getInt64(); }
  std::string Text() { return statement_.getColumn(next_++).getString(); }
  Clock::Wall Time() { return TimeOf(Integer()); }
  std::optional<Clock::Wall> OptionalTime() {
    const SQLite::Column column = statement_.getColumn(next_++);
    return column.isNull() ? std::nullopt : std::optional(TimeOf(column.getInt64()));
  }
  absl::Status Status() {
    const std::string bytes = Text();
    v1::ErrorDetail detail;
    return bytes.empty() || !detail.ParseFromString(bytes) ? absl::OkStatus() : FromErrorDetail(detail);
  }

  void From(int first) { next_ = first; }

 private:
  SQLite::Statement& statement_;
  int next_ = 1;  // SQLite counts parameters from 1, columns from 0
};

Columns ReaderOf(SQLite::Statement& row) {
  Columns columns(row);
  columns.From(0);
  return columns;
}

}  // namespace

void Bind(SQLite::Statement& statement, const ExportRecord& record) {
  Columns columns(statement);
  columns.Put(record.id);
  columns.Put(record.order);
  columns.Put(record.priority);
  columns.Put(Nanoseconds(record.create_time));
  columns.Put(record.end_time);
  columns.Put(static_cast<std::int64_t>(record.state));
  columns.PutBlob(record.spec);
  columns.Put(record.checkpoint);
  columns.Put(record.output);
  columns.Put(record.plan_hash);
  columns.PutBlob(record.plan);
  columns.Put(record.error);
  columns.Put(record.artifact_path);
  columns.Put(record.manifest_digest);
  columns.Put(record.last_epoch);
  columns.Put(record.last_sequence);
  columns.Put(record.request_id);
  columns.Put(record.request_digest);
}

ExportRecord ReadExport(SQLite::Statement& row) {
  Columns columns = ReaderOf(row);
  ExportRecord record;
  record.id = columns.Text();
  record.order = columns.Integer();
  record.priority = static_cast<std::int32_t>(columns.Integer());
  record.create_time = columns.Time();
  record.end_time = columns.OptionalTime();
  record.state = static_cast<ExportState>(columns.Integer());
  record.spec = columns.Text();
  record.checkpoint = columns.Text();
  record.output = columns.Text();
  record.plan_hash = columns.Text();
  record.plan = columns.Text();
  record.error = columns.Status();
  record.artifact_path = columns.Text();
  record.manifest_digest = columns.Text();
  record.last_epoch = columns.Integer();
  record.last_sequence = columns.Integer();
  record.request_id = columns.Text();
  record.request_digest = columns.Text();
  return record;
}

void Bind(SQLite::Statement& statement, const Changes::Shard& shard) {
  Columns columns(statement);
  columns.Put(shard.export_id);
  columns.Put(shard.record.number);
  columns.Put(shard.record.bytes);
  columns.Put(static_cast<std::int64_t>(shard.record.done));
  columns.Put(shard.record.file);
  columns.Put(shard.record.digest);
}

ShardRecord ReadShard(SQLite::Statement& row) {
  Columns columns = ReaderOf(row);
  ShardRecord record;
  record.number = static_cast<std::int32_t>(columns.Integer());
  record.bytes = columns.Integer();
  record.done = columns.Integer() != 0;
  record.file = columns.Text();
  record.digest = columns.Text();
  return record;
}

void Bind(SQLite::Statement& statement, const Changes::Attempt& attempt) {
  Columns columns(statement);
  columns.Put(attempt.export_id);
  columns.Put(attempt.record.epoch);
  columns.Put(static_cast<std::int64_t>(attempt.record.kind));
  columns.Put(attempt.record.shard);
  columns.Put(attempt.record.worker);
  columns.Put(attempt.record.incarnation);
  columns.Put(Nanoseconds(attempt.record.start_time));
  columns.Put(attempt.record.end_time);
  columns.Put(attempt.record.error);
  columns.Put(static_cast<std::int64_t>(attempt.record.export_fault));
}

AttemptRecord ReadAttempt(SQLite::Statement& row) {
  Columns columns = ReaderOf(row);
  AttemptRecord record;
  record.epoch = columns.Integer();
  record.kind = static_cast<TaskKind>(columns.Integer());
  record.shard = static_cast<std::int32_t>(columns.Integer());
  record.worker = columns.Text();
  record.incarnation = columns.Text();
  record.start_time = columns.Time();
  record.end_time = columns.OptionalTime();
  record.error = columns.Status();
  record.export_fault = columns.Integer() != 0;
  return record;
}

void Bind(SQLite::Statement& statement, const Changes::Event& event) {
  Columns columns(statement);
  columns.Put(event.export_id);
  columns.Put(event.record.sequence);
  columns.Put(Nanoseconds(event.record.time));
  columns.Put(event.record.kind);
  columns.Put(static_cast<std::int64_t>(event.record.state));
  columns.Put(event.record.message);
  columns.Put(event.record.shard);
  columns.Put(event.record.error);
}

EventRecord ReadEvent(SQLite::Statement& row) {
  Columns columns = ReaderOf(row);
  EventRecord record;
  record.sequence = columns.Integer();
  record.time = columns.Time();
  record.kind = columns.Text();
  record.state = static_cast<ExportState>(columns.Integer());
  record.message = columns.Text();
  record.shard = static_cast<std::int32_t>(columns.Integer());
  record.error = columns.Status();
  return record;
}

}  // namespace slipway::server
