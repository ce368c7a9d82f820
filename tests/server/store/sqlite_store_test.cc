#include "server/store/sqlite_store.h"

#include <filesystem>
#include <fstream>

#include <SQLiteCpp/Database.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "tests/support/temporary_directory.h"

namespace slipway::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class SqliteStoreTest : public testing::Test {
 protected:
  std::unique_ptr<Store> Open() {
    absl::StatusOr<std::unique_ptr<Store>> store = OpenSqliteStore(path_);
    EXPECT_TRUE(store.ok()) << Describe(store.status());
    return store.ok() ? *std::move(store) : nullptr;
  }

  static ExportRecord Record(const std::string& id, std::int64_t order) {
    return {.id = id,
            .order = order,
            .priority = -3,
            .create_time = Clock::Wall(std::chrono::nanoseconds(1'234'567'890'123'456'789)),
            .spec = std::string("spec\0with zero", 14),
            .checkpoint = "/checkpoints/" + id,
            .output = "/out/" + id};
  }

  static EventRecord EventOf(std::int64_t sequence) {
    return {.sequence = sequence, .time = {}, .kind = "state", .message = "something happened"};
  }

  test::TemporaryDirectory directory_;
  const std::string path_ = directory_.path() + "/slipway.db";
};

TEST_F(SqliteStoreTest, WhatIsCommittedIsThereAfterReopening) {
  ExportRecord record = Record("a", 7);
  record.state = ExportState::kRunning;
  record.plan_hash = "hash";
  record.plan = "plan";
  record.last_epoch = 9;
  record.last_sequence = 4;
  record.request_id = "request";
  record.request_digest = "digest";
  const AttemptRecord attempt{
      .kind = TaskKind::kShard,
      .shard = 1,
      .worker = "w",
      .incarnation = "i",
      .epoch = 9,
      .start_time = record.create_time,
      .end_time = record.create_time + std::chrono::seconds(5),
      .error = Error(Reason::kWorkerLost, "gone", Where{.tensor = "t", .file = "f", .offset = 3}),
      .export_fault = true};
  ASSERT_TRUE(
      Open()
          ->Commit({.exports = {record},
                    .shards = {{"a", {.number = 0, .bytes = 10, .done = true, .file = "f", .digest = "d"}},
                               {"a", {.number = 1, .bytes = 20}}},
                    .attempts = {{"a", attempt}},
                    .events = {{"a", {.sequence = 1, .time = record.create_time, .kind = "created", .message = "m"}}}})
          .ok());

  const std::unique_ptr<Store> store = Open();
  const std::vector<ExportHistory> unfinished = *store->LoadUnfinished();
  ASSERT_THAT(unfinished, SizeIs(1));
  const ExportRecord& read = unfinished[0].record;
  EXPECT_EQ(read.id, "a");
  EXPECT_EQ(read.order, 7);
  EXPECT_EQ(read.priority, -3);
  EXPECT_EQ(read.create_time, record.create_time);
  EXPECT_EQ(read.end_time, std::nullopt);
  EXPECT_EQ(read.state, ExportState::kRunning);
  EXPECT_EQ(read.spec, record.spec);
  EXPECT_EQ(read.plan_hash, "hash");
  EXPECT_EQ(read.plan, "plan");
  EXPECT_TRUE(read.error.ok());
  EXPECT_EQ(read.last_epoch, 9);
  EXPECT_EQ(read.last_sequence, 4);
  EXPECT_EQ(read.request_digest, "digest");
  ASSERT_THAT(unfinished[0].shards, SizeIs(2));
  EXPECT_TRUE(unfinished[0].shards[0].done);
  EXPECT_EQ(unfinished[0].shards[0].digest, "d");
  EXPECT_EQ(unfinished[0].shards[1].bytes, 20);
  ASSERT_THAT(unfinished[0].attempts, SizeIs(1));
  const AttemptRecord& tried = unfinished[0].attempts[0];
  EXPECT_EQ(tried.incarnation, "i");
  EXPECT_EQ(tried.end_time, attempt.end_time);
  EXPECT_EQ(ReasonOf(tried.error), Reason::kWorkerLost);
  EXPECT_EQ(WhereOf(tried.error).offset, 3);
  EXPECT_TRUE(tried.export_fault);
  EXPECT_EQ((*store->FindRequest("request"))->id, "a");
  EXPECT_THAT(*store->Events("a", 0, 10), SizeIs(1));
}

TEST_F(SqliteStoreTest, UpdatingAnExportKeepsWhatRefersToIt) {
  const std::unique_ptr<Store> store = Open();
  ExportRecord record = Record("a", 1);
  ASSERT_TRUE(store->Commit({.exports = {record}, .shards = {{"a", {.number = 0, .bytes = 5}}}}).ok());
  record.state = ExportState::kSucceeded;
  ASSERT_TRUE(store->Commit({.exports = {record}}).ok());
  EXPECT_THAT(*store->Shards("a"), SizeIs(1));
  EXPECT_THAT(*store->LoadUnfinished(), IsEmpty());
}

TEST_F(SqliteStoreTest, ACommitIsWrittenWholeOrNotAtAll) {
  const std::unique_ptr<Store> store = Open();
  // The second export takes the order of the first.
  const absl::Status status = store->Commit({.exports = {Record("a", 1), Record("b", 1)}});
  EXPECT_EQ(ReasonOf(status), Reason::kStoreFailed);
  EXPECT_FALSE(store->FindExport("a")->has_value());
  EXPECT_TRUE(store->Commit({.exports = {Record("a", 1)}}).ok()) << "the store must work on";
}

TEST_F(SqliteStoreTest, PagesAreNewestFirstAndFilteredInTheStore) {
  const std::unique_ptr<Store> store = Open();
  Changes changes;
  for (int i = 1; i <= 5; ++i) {
    changes.exports.push_back(Record("e" + std::to_string(i), i));
    changes.exports.back().state = i % 2 == 0 ? ExportState::kFailed : ExportState::kQueued;
  }
  ASSERT_TRUE(store->Commit(changes).ok());
  const auto ids = [&](const ListQuery& query) {
    std::vector<std::string> found;
    const std::vector<ExportRecord> page = *store->List(query);
    found.reserve(page.size());
    for (const ExportRecord& record : page) {
      found.push_back(record.id);
    }
    return found;
  };
  EXPECT_THAT(ids({.limit = 2}), ElementsAre("e5", "e4"));
  EXPECT_THAT(ids({.before_order = 4, .limit = 2}), ElementsAre("e3", "e2"));
  EXPECT_THAT(ids({.state = ExportState::kFailed}), ElementsAre("e4", "e2"));
  EXPECT_THAT(ids({.checkpoint = "/checkpoints/e3"}), ElementsAre("e3"));
}

TEST_F(SqliteStoreTest, EventsComeInBoundedBatchesAfterACursor) {
  const std::unique_ptr<Store> store = Open();
  Changes changes{.exports = {Record("a", 1)}};
  for (int i = 1; i <= 10; ++i) {
    changes.events.push_back({"a", EventOf(i)});
  }
  ASSERT_TRUE(store->Commit(changes).ok());
  const std::vector<EventRecord> events = *store->Events("a", 4, 3);
  ASSERT_THAT(events, SizeIs(3));
  EXPECT_EQ(events.front().sequence, 5);
  EXPECT_EQ(events.back().sequence, 7);
}

TEST_F(SqliteStoreTest, DeletingTakesEverythingAlongButNeverGivesAnOrderTwice) {
  const std::unique_ptr<Store> store = Open();
  ASSERT_TRUE(
      store->Commit({.exports = {Record("a", 41)}, .shards = {{"a", {.number = 0}}}, .events = {{"a", EventOf(1)}}})
          .ok());
  ASSERT_TRUE(store->Commit({.deleted = {"a"}}).ok());
  EXPECT_FALSE(store->FindExport("a")->has_value());
  EXPECT_THAT(*store->Shards("a"), IsEmpty());
  EXPECT_THAT(*store->Events("a", 0, 10), IsEmpty());
  EXPECT_EQ(*store->LastOrder(), 41);
}

TEST_F(SqliteStoreTest, AcknowledgedMeansSyncedToDisk) {
  (void)Open();
  SQLite::Database database(path_);
  EXPECT_EQ(database.execAndGet("PRAGMA journal_mode").getString(), "wal");
}

TEST_F(SqliteStoreTest, AStoreOfANewerVersionIsRefusedAndLeftAlone) {
  (void)Open();
  { SQLite::Database(path_, SQLite::OPEN_READWRITE).exec("PRAGMA user_version = 99"); }
  const absl::Status status = OpenSqliteStore(path_).status();
  EXPECT_EQ(ReasonOf(status), Reason::kStoreFailed);
  EXPECT_THAT(Describe(status), HasSubstr("version 99"));
  EXPECT_EQ(SQLite::Database(path_).execAndGet("PRAGMA user_version").getInt(), 99);
}

TEST_F(SqliteStoreTest, SomeOtherDatabaseIsRefused) {
  { SQLite::Database(path_, SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE).exec("CREATE TABLE songs (title TEXT)"); }
  EXPECT_THAT(Describe(OpenSqliteStore(path_).status()), HasSubstr("not a Slipway store"));
}

TEST_F(SqliteStoreTest, AFileThatIsNoDatabaseIsRefusedAndNotOverwritten) {
  std::ofstream(path_) << std::string(10'000, 'x');
  EXPECT_EQ(ReasonOf(OpenSqliteStore(path_).status()), Reason::kStoreFailed);
  EXPECT_EQ(std::filesystem::file_size(path_), 10'000U);
}

TEST_F(SqliteStoreTest, ACorruptStoreIsRefused) {
  {
    const std::unique_ptr<Store> store = Open();
    Changes changes;
    for (int i = 1; i <= 500; ++i) {
      changes.exports.push_back(Record("e" + std::to_string(i), i));
    }
    ASSERT_TRUE(store->Commit(changes).ok());
  }
  std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(std::streamoff{4096} * 3);
  file << std::string(8192, '\xAB');
  file.close();
  EXPECT_EQ(ReasonOf(OpenSqliteStore(path_).status()), Reason::kStoreFailed);
}

}  // namespace
}  // namespace slipway::server
