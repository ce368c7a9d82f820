#include "server/coordinator.h"

#include <atomic>
#include <future>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/error.h"
#include "server/store/sqlite_store.h"
#include "tests/support/temporary_directory.h"

namespace slipway::server {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

// Fails commits when told to; everything else goes to the real store.
class FaultyStore final : public Store {
 public:
  FaultyStore(std::unique_ptr<Store> store, std::atomic<bool>& failing) : store_(std::move(store)), failing_(failing) {}

  absl::Status Commit(const Changes& changes) override {
    return failing_ ? Error(Reason::kStoreFailed, "the disk is full") : store_->Commit(changes);
  }
  absl::StatusOr<std::vector<ExportHistory>> LoadUnfinished() override { return store_->LoadUnfinished(); }
  absl::StatusOr<std::optional<ExportRecord>> FindExport(const std::string& id) override {
    return store_->FindExport(id);
  }
  absl::StatusOr<std::optional<ExportRecord>> FindRequest(const std::string& id) override {
    return store_->FindRequest(id);
  }
  absl::StatusOr<std::vector<ExportRecord>> List(const ListQuery& query) override { return store_->List(query); }
  absl::StatusOr<std::vector<ShardRecord>> Shards(const std::string& id) override { return store_->Shards(id); }
  absl::StatusOr<std::vector<AttemptRecord>> LastAttempts(const std::string& id, std::size_t limit) override {
    return store_->LastAttempts(id, limit);
  }
  absl::StatusOr<std::vector<EventRecord>> Events(const std::string& id, std::int64_t after,
                                                  std::size_t limit) override {
    return store_->Events(id, after, limit);
  }
  absl::StatusOr<std::map<ExportState, std::int64_t>> CountByState() override { return store_->CountByState(); }
  absl::StatusOr<std::int64_t> LastOrder() override { return store_->LastOrder(); }

 private:
  std::unique_ptr<Store> store_;
  std::atomic<bool>& failing_;
};

class CoordinatorTest : public testing::Test {
 protected:
  CoordinatorTest() { Start({}); }

  void Start(CoordinatorOptions options) {
    coordinator_.reset();
    options.artifact_root = "/artifacts";
    auto store = std::make_unique<FaultyStore>(*OpenSqliteStore(directory_.path() + "/slipway.db"), failing_);
    coordinator_ = *Coordinator::Start(
        std::move(options), std::move(store), [](const ExportRecord&, const std::function<void()>& done) { done(); },
        SystemClock(), metrics_);
  }

  template <typename Value, typename Call>
  absl::StatusOr<Value> Wait(Call call) {
    std::promise<absl::StatusOr<Value>> promise;
    call([&promise](absl::StatusOr<Value> value) { promise.set_value(std::move(value)); });
    return promise.get_future().get();
  }

  absl::StatusOr<ExportView> Create(const std::string& request_id = "", const std::string& digest = "") {
    return Wait<ExportView>([&](const Reply<ExportView>& reply) {
      coordinator_->Create(
          {.spec = "spec", .checkpoint = "/c", .output = {}, .request_id = request_id, .request_digest = digest},
          reply);
    });
  }
  absl::StatusOr<ExportView> Get(const std::string& id) {
    return Wait<ExportView>([&](const Reply<ExportView>& reply) { coordinator_->Get(id, reply); });
  }
  absl::StatusOr<SynchronizeAnswer> Synchronize(std::vector<TaskReport> tasks = {}) {
    return Wait<SynchronizeAnswer>([&](const Reply<SynchronizeAnswer>& reply) {
      coordinator_->Synchronize(
          coordinator_->NewTicket(),
          {.worker = "w", .incarnation = "1", .version = {}, .free_slots = 1, .tasks = std::move(tasks)}, reply);
    });
  }

  test::TemporaryDirectory directory_;
  std::atomic<bool> failing_{false};
  Metrics metrics_;
  std::unique_ptr<Coordinator> coordinator_;
};

TEST_F(CoordinatorTest, WhatCannotBeStoredIsNotAcknowledgedAndDidNotHappen) {
  failing_ = true;
  EXPECT_EQ(ReasonOf(Create("id").status()), Reason::kStoreFailed);
  failing_ = false;
  const auto listed = Wait<std::vector<ExportView>>(
      [&](const Reply<std::vector<ExportView>>& reply) { coordinator_->List({}, reply); });
  EXPECT_THAT(*listed, IsEmpty());
  EXPECT_TRUE(Create("id").ok()) << "the server works on as soon as the disk does";
}

TEST_F(CoordinatorTest, NoLeaseIsHandedOutBeforeItIsDurable) {
  const std::string id = Create()->record.id;
  failing_ = true;
  EXPECT_EQ(ReasonOf(Synchronize().status()), Reason::kStoreFailed);
  failing_ = false;
  EXPECT_EQ(Get(id)->record.state, ExportState::kQueued);
  const auto answer = Synchronize();
  ASSERT_TRUE(answer.ok());
  ASSERT_THAT(answer->assignments, SizeIs(1));
  EXPECT_EQ(answer->assignments[0].lease.epoch, Get(id)->record.last_epoch);
}

TEST_F(CoordinatorTest, AResultThatCouldNotBeStoredIsTakenWhenItIsReportedAgain) {
  const std::string id = Create()->record.id;
  const LeaseKey lease = Synchronize()->assignments.at(0).lease;
  const TaskReport done{.lease = lease,
                        .outcome = Planned{.plan_hash = "hash", .shard_bytes = {1}, .summary = {}, .plan_json = {}}};
  failing_ = true;
  EXPECT_EQ(ReasonOf(Synchronize({done}).status()), Reason::kStoreFailed);
  failing_ = false;
  const auto answer = Synchronize({done});
  ASSERT_TRUE(answer.ok());
  EXPECT_THAT(answer->acknowledged, testing::ElementsAre(lease));
  EXPECT_EQ(Get(id)->record.state, ExportState::kRunning);
}

TEST_F(CoordinatorTest, OneRequestIdInOneTurnMakesOneExport) {
  std::vector<std::future<absl::StatusOr<ExportView>>> answers;
  std::vector<std::shared_ptr<std::promise<absl::StatusOr<ExportView>>>> promises;
  for (int i = 0; i < 50; ++i) {
    promises.push_back(std::make_shared<std::promise<absl::StatusOr<ExportView>>>());
    answers.push_back(promises.back()->get_future());
    coordinator_->Create(
        {.spec = "spec", .checkpoint = "/c", .output = {}, .request_id = "same", .request_digest = "d"},
        [promise = promises.back()](absl::StatusOr<ExportView> view) { promise->set_value(std::move(view)); });
  }
  const std::string id = answers[0].get()->record.id;
  for (std::size_t i = 1; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i].get()->record.id, id);
  }
}

TEST_F(CoordinatorTest, AFullQueueShedsLoadAtOnceAndSaysSo) {
  Start({.artifact_root = {}, .queue_capacity = 2});
  // Holds the coordinator's thread while the queue fills.
  std::promise<void> entered;
  std::promise<void> release;
  coordinator_->Get("exports", [&, released = release.get_future().share()](const absl::StatusOr<ExportView>&) {
    entered.set_value();
    released.wait();
  });
  entered.get_future().wait();
  std::atomic<int> overloaded{0};
  std::atomic<int> answered{0};
  for (int i = 0; i < 10; ++i) {
    coordinator_->Get("x", [&](const absl::StatusOr<ExportView>& view) {
      ++(ReasonOf(view.status()) == Reason::kServerOverloaded ? overloaded : answered);
    });
  }
  EXPECT_EQ(overloaded, 8);
  release.set_value();
  coordinator_->Stop();
  EXPECT_EQ(answered, 2);
}

TEST_F(CoordinatorTest, AStoppedCoordinatorTurnsCallersAway) {
  coordinator_->Stop();
  EXPECT_EQ(ReasonOf(Create().status()), Reason::kServerUnreachable);
}

TEST_F(CoordinatorTest, AnAbandonedCallIsAnsweredAtOnce) {
  std::promise<absl::StatusOr<SynchronizeAnswer>> promise;
  const Coordinator::Ticket ticket = coordinator_->NewTicket();
  coordinator_->Synchronize(
      ticket, {.worker = "w", .incarnation = "1", .version = {}, .free_slots = 1},
      [&promise](absl::StatusOr<SynchronizeAnswer> answer) { promise.set_value(std::move(answer)); });
  coordinator_->Abandon(ticket);
  EXPECT_EQ(ReasonOf(promise.get_future().get().status()), Reason::kCancelled);
}

TEST_F(CoordinatorTest, AnIdleCallWaitsAndIsAnsweredWhenWorkComes) {
  std::promise<absl::StatusOr<SynchronizeAnswer>> promise;
  std::future<absl::StatusOr<SynchronizeAnswer>> answer = promise.get_future();
  coordinator_->Synchronize(coordinator_->NewTicket(),
                            {.worker = "w", .incarnation = "1", .version = {}, .free_slots = 1},
                            [&promise](absl::StatusOr<SynchronizeAnswer> said) { promise.set_value(std::move(said)); });
  EXPECT_EQ(answer.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  const std::string id = Create()->record.id;
  const absl::StatusOr<SynchronizeAnswer> said = answer.get();
  ASSERT_THAT(said->assignments, SizeIs(1));
  EXPECT_EQ(said->assignments[0].lease.export_id, id);
  EXPECT_EQ(said->assignments[0].output, "/artifacts/" + id);
}

TEST_F(CoordinatorTest, IdsGrowWithTime) {
  const std::string first = Create()->record.id;
  std::this_thread::sleep_for(std::chrono::milliseconds(2));  // the id's time is in milliseconds
  EXPECT_LT(first, Create()->record.id);
}

}  // namespace
}  // namespace slipway::server
