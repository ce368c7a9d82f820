// The tables of the SQLite store, as a list of migrations: entry i takes a store of version i (PRAGMA user_version) to
// version i + 1. Entries are never changed once released.
#pragma once

#include <array>

namespace slipway::server {

// Marks the file as a Slipway store (PRAGMA application_id): "SLIP".
inline constexpr int kApplicationId = 0x534C4950;

// Times are nanoseconds since the epoch; error columns hold a serialized v1::ErrorDetail or are empty for none.
inline constexpr std::array kMigrations = {
    R"sql(
CREATE TABLE exports (
  id              TEXT PRIMARY KEY,
  ordinal         INTEGER NOT NULL UNIQUE,
  priority        INTEGER NOT NULL,
  create_time     INTEGER NOT NULL,
  end_time        INTEGER,
  state           INTEGER NOT NULL,
  spec            BLOB NOT NULL,
  checkpoint      TEXT NOT NULL,
  output          TEXT NOT NULL,
  plan_hash       TEXT NOT NULL,
  plan            BLOB NOT NULL,
  error           BLOB NOT NULL,
  artifact_path   TEXT NOT NULL,
  manifest_digest TEXT NOT NULL,
  last_epoch      INTEGER NOT NULL,
  last_sequence   INTEGER NOT NULL,
  request_id      TEXT NOT NULL,
  request_digest  TEXT NOT NULL
);
CREATE UNIQUE INDEX exports_request ON exports (request_id) WHERE request_id <> '';
CREATE INDEX exports_state ON exports (state, ordinal);
CREATE INDEX exports_checkpoint ON exports (checkpoint, ordinal);
CREATE TABLE shards (
  export_id TEXT NOT NULL REFERENCES exports (id) ON DELETE CASCADE,
  number    INTEGER NOT NULL,
  bytes     INTEGER NOT NULL,
  done      INTEGER NOT NULL,
  file      TEXT NOT NULL,
  digest    TEXT NOT NULL,
  PRIMARY KEY (export_id, number)
) WITHOUT ROWID;
CREATE TABLE attempts (
  export_id    TEXT NOT NULL REFERENCES exports (id) ON DELETE CASCADE,
  epoch        INTEGER NOT NULL,
  kind         INTEGER NOT NULL,
  shard        INTEGER NOT NULL,
  worker       TEXT NOT NULL,
  incarnation  TEXT NOT NULL,
  start_time   INTEGER NOT NULL,
  end_time     INTEGER,
  error        BLOB NOT NULL,
  export_fault INTEGER NOT NULL,
  PRIMARY KEY (export_id, epoch)
) WITHOUT ROWID;
CREATE TABLE events (
  export_id TEXT NOT NULL REFERENCES exports (id) ON DELETE CASCADE,
  sequence  INTEGER NOT NULL,
  time      INTEGER NOT NULL,
  kind      TEXT NOT NULL,
  state     INTEGER NOT NULL,
  message   TEXT NOT NULL,
  shard     INTEGER NOT NULL,
  error     BLOB NOT NULL,
  PRIMARY KEY (export_id, sequence)
) WITHOUT ROWID;
-- One row: the highest ordinal ever given, which deleting the newest export must not give again.
CREATE TABLE counters (last_order INTEGER NOT NULL);
INSERT INTO counters VALUES (0);
)sql",
};

}  // namespace slipway::server
