// Records <-> rows. Column lists are here once, in the order in which they are bound and read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <SQLiteCpp/Statement.h>

#include "absl/status/status.h"
#include "server/scheduling/records.h"

namespace slipway::server {

inline constexpr char kExportColumns[] =
    "id, ordinal, priority, create_time, end_time, state, spec, checkpoint, output, plan_hash, plan, error, "
    "artifact_path, manifest_digest, last_epoch, last_sequence, request_id, request_digest";
inline constexpr char kShardColumns[] = "number, bytes, done, file, digest";
inline constexpr char kAttemptColumns[] =
    "epoch, kind, shard, worker, incarnation, start_time, end_time, error, export_fault";
inline constexpr char kEventColumns[] = "sequence, time, kind, state, message, shard, error";

// Bind the columns above; those of shards, attempts and events come after export_id. May throw SQLite::Exception.
void Bind(SQLite::Statement& statement, const ExportRecord& record);
void Bind(SQLite::Statement& statement, const Changes::Shard& shard);
void Bind(SQLite::Statement& statement, const Changes::Attempt& attempt);
void Bind(SQLite::Statement& statement, const Changes::Event& event);

// Read the columns above from the current row.
ExportRecord ReadExport(SQLite::Statement& row);
ShardRecord ReadShard(SQLite::Statement& row);
AttemptRecord ReadAttempt(SQLite::Statement& row);
EventRecord ReadEvent(SQLite::Statement& row);

}  // namespace slipway::server
