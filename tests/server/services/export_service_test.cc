#include <filesystem>
#include <functional>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/server/services/service_fixture.h"

namespace slipway::server {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class ExportServiceTest : public ServiceTest {
 protected:
  static void NeverEnds(const v1::Assignment& /*assignment*/, v1::TaskReport& /*report*/) {}

  v1::Export Cancel(const std::string& name) {
    v1::CancelExportRequest request;
    request.set_name(name);
    v1::Export cancelled;
    const absl::Status status =
        StatusOf([&](grpc::ClientContext& context) { return exports_->CancelExport(&context, request, &cancelled); });
    EXPECT_TRUE(status.ok()) << Describe(status);
    return cancelled;
  }

  absl::Status Delete(const std::string& name, bool keep_artifact = false) {
    v1::DeleteExportRequest request;
    request.set_name(name);
    request.set_keep_artifact(keep_artifact);
    v1::DeleteExportResponse response;
    return StatusOf([&](grpc::ClientContext& context) { return exports_->DeleteExport(&context, request, &response); });
  }

  absl::Status List(const v1::ListExportsRequest& request, v1::ListExportsResponse& response) {
    return StatusOf([&](grpc::ClientContext& context) { return exports_->ListExports(&context, request, &response); });
  }
};

TEST_F(ExportServiceTest, AnExportRunsToTheEndAndIsFoundWhereItSays) {
  const FakeWorker worker(channel_, "w");
  const v1::Export created = Create(Request());
  EXPECT_THAT(created.name(), testing::MatchesRegex("exports/[0-9a-f]{16}"));
  WatchToTheEnd(created.name());
  const v1::Export ended = Get(created.name());
  EXPECT_EQ(ended.state(), v1::EXPORT_STATE_SUCCEEDED);
  EXPECT_EQ(ended.artifact_path(), Artifacts() + "/" + created.name().substr(8));
  EXPECT_TRUE(std::filesystem::exists(ended.artifact_path() + "/manifest.json"));
  EXPECT_EQ(ended.progress().bytes_done(), 2000);
  EXPECT_EQ(ended.progress().shards_done(), 2);
  EXPECT_EQ(ended.plan().plan_hash(), "abcdef");
  EXPECT_THAT(ended.plan().plan_json(), IsEmpty());
  EXPECT_THAT(ended.attempts(), SizeIs(4));
  EXPECT_FALSE(ended.has_error());
  EXPECT_TRUE(ended.has_end_time());
}

TEST_F(ExportServiceTest, TheSameRequestIdIsTheSameExportAlsoAfterARestart) {
  const v1::Export first = Create(Request("id-1"));
  EXPECT_EQ(Create(Request("id-1")).name(), first.name());
  RestartServer();
  EXPECT_EQ(Create(Request("id-1")).name(), first.name());
  EXPECT_NE(Create(Request("id-2")).name(), first.name());
}

TEST_F(ExportServiceTest, ARequestIdWithAnotherRequestIsRefused) {
  Create(Request("id-1"));
  v1::CreateExportRequest other = Request("id-1");
  other.mutable_spec()->set_dtype("fp32");
  EXPECT_EQ(ReasonOf(CreateStatus(other)), Reason::kRequestIdReused);
}

TEST_F(ExportServiceTest, AnAcknowledgedExportSurvivesARestartAndEnds) {
  const std::string name = Create(Request()).name();
  RestartServer();
  const FakeWorker worker(channel_, "w");
  WatchToTheEnd(name);
  EXPECT_EQ(Get(name).state(), v1::EXPORT_STATE_SUCCEEDED);
}

TEST_F(ExportServiceTest, AWorkerKeepsItsLeaseOverARestartOfTheServer) {
  std::atomic<bool> finish{false};
  const FakeWorker worker(channel_, "w", [&](const v1::Assignment& assignment, v1::TaskReport& report) {
    if (finish) {
      FakeWorker::Succeed(assignment, report);
    }
  });
  const std::string name = Create(Request()).name();
  AwaitState(name, v1::EXPORT_STATE_PLANNING);
  RestartServer();
  finish = true;
  WatchToTheEnd(name);
  const v1::Export ended = Get(name);
  EXPECT_EQ(ended.state(), v1::EXPORT_STATE_SUCCEEDED);
  EXPECT_THAT(ended.attempts(), SizeIs(4)) << "nothing was done twice";
}

TEST_F(ExportServiceTest, AllViolationsOfARequestComeAtOnce) {
  v1::CreateExportRequest request;
  request.mutable_spec()->set_checkpoint("relative");
  request.mutable_spec()->set_dtype("int3");
  request.mutable_spec()->set_digest("md5");
  request.set_priority(101);
  const absl::Status status = CreateStatus(request);
  EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("spec.checkpoint"), HasSubstr("spec.dtype"),
                                                   HasSubstr("spec.digest"), HasSubstr("priority")));
}

TEST_F(ExportServiceTest, WhatThisVersionCannotWriteIsUnsupportedNotMalformed) {
  v1::CreateExportRequest request = Request();
  request.mutable_spec()->set_quantization("int4-gptq");
  EXPECT_EQ(ReasonOf(CreateStatus(request)), Reason::kOptionUnsupported);
}

TEST_F(ExportServiceTest, WordsThatNameNothingAndRepetitionsAreMalformed) {
  v1::CreateExportRequest request = Request();
  request.mutable_spec()->set_quantization("nonsense");
  EXPECT_EQ(ReasonOf(CreateStatus(request)), Reason::kInvalidArgument);
  request = Request();
  request.mutable_spec()->add_targets("huggingface");
  request.mutable_spec()->add_targets("huggingface");
  EXPECT_EQ(ReasonOf(CreateStatus(request)), Reason::kInvalidArgument);
}

TEST_F(ExportServiceTest, QuantizationOptionsOfNonsenseAreRefusedByTheirField) {
  struct Case {
    const char* field;
    std::function<void(v1::ExportSpec&)> change;
  };
  for (const Case& refused : std::vector<Case>{
           {"spec.kv_cache", [](v1::ExportSpec& spec) { spec.set_kv_cache("int8"); }},
           {"spec.config_form", [](v1::ExportSpec& spec) { spec.set_config_form("gguf"); }},
           {"spec.scale_search", [](v1::ExportSpec& spec) { spec.set_scale_search("best"); }},
           {"spec.recipe", [](v1::ExportSpec& spec) { spec.set_recipe(std::string(1048577, '#')); }},
           {"spec.recipe", [](v1::ExportSpec& spec) { spec.set_recipe(std::string("a\0b", 3)); }},
           {"spec.ranges", [](v1::ExportSpec& spec) { spec.set_ranges("relative"); }},
           {"spec.recipe does not go with",
            [](v1::ExportSpec& spec) {
              spec.set_recipe("rules: []");
              spec.set_quantization("none");
            }},
       }) {
    v1::CreateExportRequest request = Request();
    refused.change(*request.mutable_spec());
    const absl::Status status = CreateStatus(request);
    EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument) << refused.field;
    EXPECT_TRUE(std::string(status.message()).starts_with(refused.field)) << status;
  }
}

TEST_F(ExportServiceTest, RanksThatNoTargetHasAreRefusedByTheirField) {
  struct Case {
    const char* field;
    std::function<void(v1::ExportSpec&)> change;
  };
  for (const Case& refused : std::vector<Case>{
           {"spec.tensor_parallel", [](v1::ExportSpec& spec) { spec.set_tensor_parallel(2); }},
           {"spec.pipeline_parallel", [](v1::ExportSpec& spec) { spec.set_pipeline_parallel(2); }},
           {"spec.expert_parallel", [](v1::ExportSpec& spec) { spec.set_expert_parallel(2); }},
           {"spec.tensor_parallel", [](v1::ExportSpec& spec) { spec.set_tensor_parallel(-1); }},
           {"spec.tensor_parallel", [](v1::ExportSpec& spec) { spec.set_tensor_parallel(1025); }},
           {"spec.tensorrt_llm_version", [](v1::ExportSpec& spec) { spec.set_tensorrt_llm_version("1.0"); }},
           {"spec.tensorrt_llm_version", [](v1::ExportSpec& spec) { spec.set_tensorrt_llm_version("one"); }},
       }) {
    v1::CreateExportRequest request = Request();
    refused.change(*request.mutable_spec());
    const absl::Status status = CreateStatus(request);
    EXPECT_EQ(ReasonOf(status), Reason::kInvalidArgument) << refused.field;
    EXPECT_TRUE(std::string(status.message()).starts_with(refused.field)) << status;
  }
  v1::CreateExportRequest request = Request();
  request.mutable_spec()->set_tensor_parallel(1);
  EXPECT_TRUE(CreateStatus(request).ok()) << "one rank asks for nothing";
}

TEST_F(ExportServiceTest, ARecipeReachesEveryTaskAlsoAfterARestartAndListsLeaveItOut) {
  v1::CreateExportRequest request = Request();
  request.mutable_spec()->set_recipe("rules: [{modules: ['*'], format: fp8}]\n" + std::string(1000000, '#'));
  request.mutable_spec()->set_kv_cache("none");
  request.mutable_spec()->set_config_form("auto");
  request.mutable_spec()->set_scale_search("amax");
  request.mutable_spec()->set_ranges("/ranges.safetensors");
  const v1::Export created = Create(request);
  RestartServer();
  const std::string expected = request.spec().SerializeAsString();
  std::atomic<int> tasks{0};
  std::atomic<int> alike{0};
  const FakeWorker worker(channel_, "w", [&](const v1::Assignment& assignment, v1::TaskReport& report) {
    ++tasks;
    alike += assignment.spec().SerializeAsString() == expected ? 1 : 0;
    FakeWorker::Succeed(assignment, report);
  });
  WatchToTheEnd(created.name());
  EXPECT_EQ(tasks, 4);
  EXPECT_EQ(alike, 4);
  EXPECT_EQ(Get(created.name()).spec().SerializeAsString(), expected);
  v1::ListExportsResponse page;
  ASSERT_TRUE(List({}, page).ok());
  ASSERT_THAT(page.exports(), SizeIs(1));
  EXPECT_THAT(page.exports(0).spec().recipe(), IsEmpty());
  EXPECT_EQ(page.exports(0).spec().ranges(), "/ranges.safetensors");
}

TEST_F(ExportServiceTest, LongRecipesMakePagesShorterAndNoneIsLost) {
  v1::CreateExportRequest request = Request();
  request.mutable_spec()->set_recipe(std::string(1000000, '#'));
  std::set<std::string> expected;
  for (int i = 0; i < 20; ++i) {
    expected.insert(Create(request).name());
  }
  std::set<std::string> seen;
  int pages = 0;
  v1::ListExportsRequest list;
  list.set_page_size(1000);
  do {
    v1::ListExportsResponse page;
    ASSERT_TRUE(List(list, page).ok());
    for (const v1::Export& item : page.exports()) {
      seen.insert(item.name());
    }
    list.set_page_token(page.next_page_token());
    ++pages;
  } while (!list.page_token().empty());
  EXPECT_EQ(seen, expected);
  EXPECT_EQ(pages, 2) << "16 MiB of specs a page";
}

TEST_F(ExportServiceTest, PublishingOutsideOfTheRootsIsRefused) {
  v1::CreateExportRequest request = Request();
  request.mutable_spec()->set_publish("/tmp/somewhere");
  EXPECT_EQ(ReasonOf(CreateStatus(request)), Reason::kPathOutsideRoot);
  request.mutable_spec()->set_publish(Artifacts() + "/../x");
  EXPECT_EQ(ReasonOf(CreateStatus(request)), Reason::kPathOutsideRoot);
}

TEST_F(ExportServiceTest, TwoLiveExportsNeverShareAnOutput) {
  v1::CreateExportRequest request = Request();
  request.mutable_spec()->set_publish(Artifacts() + "/model");
  Create(request);
  EXPECT_EQ(ReasonOf(CreateStatus(request)), Reason::kOutputExists);
}

TEST_F(ExportServiceTest, UnknownAndMalformedNamesAreToldApart) {
  const auto get = [this](const std::string& name) {
    v1::GetExportRequest request;
    request.set_name(name);
    v1::Export found;
    return ReasonOf(
        StatusOf([&](grpc::ClientContext& context) { return exports_->GetExport(&context, request, &found); }));
  };
  EXPECT_EQ(get("exports/0000000000000000"), Reason::kNotFound);
  for (const char* name : {"", "exports/", "exports/../x", "jobs/1", "exports/A", "exports/1/2"}) {
    EXPECT_EQ(get(name), Reason::kInvalidArgument) << name;
  }
}

TEST_F(ExportServiceTest, PagesStayWholeWhileExportsArrive) {
  std::set<std::string> expected;
  for (int i = 0; i < 7; ++i) {
    expected.insert(Create(Request()).name());
  }
  std::vector<std::string> seen;
  v1::ListExportsRequest request;
  request.set_page_size(3);
  do {
    v1::ListExportsResponse page;
    ASSERT_TRUE(List(request, page).ok());
    EXPECT_LE(page.exports_size(), 3);
    for (const v1::Export& item : page.exports()) {
      seen.push_back(item.name());
    }
    Create(Request());  // newer than everything that is still to come
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_THAT(seen, SizeIs(7));
  EXPECT_EQ(std::set<std::string>(seen.begin(), seen.end()), expected);
}

TEST_F(ExportServiceTest, ListsAreFilteredAndTokensAreBoundToTheirFilter) {
  v1::CreateExportRequest other = Request();
  other.mutable_spec()->set_checkpoint("/checkpoints/other");
  const std::string name = Create(other).name();
  Create(Request());
  const std::string cancelled = Create(other).name();
  Cancel(cancelled);
  AwaitState(cancelled, v1::EXPORT_STATE_CANCELLED);

  v1::ListExportsRequest request;
  request.set_filter("state=QUEUED AND checkpoint=/checkpoints/other");
  v1::ListExportsResponse page;
  ASSERT_TRUE(List(request, page).ok());
  ASSERT_THAT(page.exports(), SizeIs(1));
  EXPECT_EQ(page.exports(0).name(), name);
  EXPECT_THAT(page.next_page_token(), IsEmpty());

  request.set_page_size(1);
  request.set_filter("");
  ASSERT_TRUE(List(request, page).ok());
  request.set_page_token(page.next_page_token());
  request.set_filter("state=QUEUED");
  EXPECT_EQ(ReasonOf(List(request, page)), Reason::kInvalidArgument);
}

TEST_F(ExportServiceTest, ListsRefuseWhatTheyDoNotUnderstand) {
  v1::ListExportsResponse page;
  v1::ListExportsRequest request;
  request.set_page_size(-1);
  EXPECT_EQ(ReasonOf(List(request, page)), Reason::kInvalidArgument);
  for (const char* filter : {"state=DONE", "owner=me", "state=QUEUED OR state=FAILED", "checkpoint="}) {
    request.Clear();
    request.set_filter(filter);
    EXPECT_EQ(ReasonOf(List(request, page)), Reason::kInvalidArgument) << filter;
  }
}

TEST_F(ExportServiceTest, AnExportThatCannotSucceedSaysWhy) {
  const FakeWorker worker(channel_, "w", [](const v1::Assignment&, v1::TaskReport& report) {
    report.mutable_error()->set_reason(v1::ERROR_REASON_TENSOR_UNKNOWN);
    report.mutable_error()->set_message("what is this");
    report.mutable_error()->set_tensor("decoder.mystery");
  });
  const std::string name = Create(Request()).name();
  const std::vector<v1::ExportEvent> events = WatchToTheEnd(name);
  EXPECT_EQ(events.back().kind(), "failed");
  EXPECT_EQ(events.back().error().tensor(), "decoder.mystery");
  const v1::Export ended = Get(name);
  EXPECT_EQ(ended.state(), v1::EXPORT_STATE_FAILED);
  EXPECT_EQ(ended.error().reason(), v1::ERROR_REASON_TENSOR_UNKNOWN);
  ASSERT_THAT(ended.attempts(), SizeIs(1));
  EXPECT_TRUE(ended.attempts(0).export_fault());
}

TEST_F(ExportServiceTest, CancellingRevokesTheWorkAndLeavesNothing) {
  const FakeWorker worker(channel_, "w", NeverEnds);
  const v1::Export created = Create(Request());
  AwaitState(created.name(), v1::EXPORT_STATE_PLANNING);
  const std::string id = created.name().substr(8);
  directory_.Write("artifacts/." + id + ".slipway-0123456789abcdef/shard", "half");
  Cancel(created.name());
  const std::vector<v1::ExportEvent> events = WatchToTheEnd(created.name());
  EXPECT_EQ(events.back().kind(), "cancelled");
  EXPECT_EQ(Get(created.name()).state(), v1::EXPORT_STATE_CANCELLED);
  EXPECT_EQ(worker.revoked(), 1);
  EXPECT_TRUE(std::filesystem::is_empty(Artifacts()));
}

TEST_F(ExportServiceTest, AnArtifactWhosePublicationWasNeverReportedGoesWithItsCancelledExport) {
  const FakeWorker worker(channel_, "w", [](const v1::Assignment& assignment, v1::TaskReport& report) {
    FakeWorker::Succeed(assignment, report);
    if (report.has_publish()) {
      report.clear_publish();  // done, but never said
    }
  });
  const std::string name = Create(Request()).name();
  AwaitState(name, v1::EXPORT_STATE_PUBLISHING);
  const std::string output = Artifacts() + "/" + name.substr(8);
  while (!std::filesystem::exists(output + "/manifest.json")) {
    std::this_thread::yield();
  }
  Cancel(name);
  EXPECT_EQ(WatchToTheEnd(name).back().kind(), "cancelled");
  EXPECT_TRUE(std::filesystem::is_empty(Artifacts()));
}

TEST_F(ExportServiceTest, CancellingWhatHasEndedChangesNothing) {
  const FakeWorker worker(channel_, "w");
  const std::string name = Create(Request()).name();
  WatchToTheEnd(name);
  EXPECT_EQ(Cancel(name).state(), v1::EXPORT_STATE_SUCCEEDED);
}

TEST_F(ExportServiceTest, DeletingRemovesTheArtifactUnlessItIsKept) {
  const FakeWorker worker(channel_, "w");
  const std::string removed = Create(Request()).name();
  const std::string kept = Create(Request()).name();
  WatchToTheEnd(removed);
  WatchToTheEnd(kept);
  const std::string removed_path = Get(removed).artifact_path();
  const std::string kept_path = Get(kept).artifact_path();
  EXPECT_TRUE(Delete(removed).ok());
  EXPECT_TRUE(Delete(kept, /*keep_artifact=*/true).ok());
  EXPECT_FALSE(std::filesystem::exists(removed_path));
  EXPECT_TRUE(std::filesystem::exists(kept_path));
  EXPECT_EQ(ReasonOf(Delete(removed)), Reason::kNotFound);
}

TEST_F(ExportServiceTest, WhatStillRunsIsNotDeleted) {
  const std::string name = Create(Request()).name();
  EXPECT_EQ(ReasonOf(Delete(name)), Reason::kExportNotFinished);
  EXPECT_EQ(Get(name).state(), v1::EXPORT_STATE_QUEUED);
}

TEST_F(ExportServiceTest, ValidateOnlyReturnsThePlanAndStoresNothing) {
  const FakeWorker worker(channel_, "w");
  v1::CreateExportRequest request = Request();
  request.set_validate_only(true);
  const v1::Export validated = Create(request);
  EXPECT_THAT(validated.name(), IsEmpty());
  EXPECT_EQ(validated.plan().plan_hash(), "abcdef");
  EXPECT_EQ(validated.plan().plan_json(), "{\"tensors\": []}");
  v1::ListExportsResponse page;
  ASSERT_TRUE(List({}, page).ok());
  EXPECT_THAT(page.exports(), IsEmpty());
}

TEST_F(ExportServiceTest, TheQueueSaysHowManyComeFirst) {
  const std::string first = Create(Request()).name();
  const std::string second = Create(Request()).name();
  v1::CreateExportRequest urgent = Request();
  urgent.set_priority(1);
  Create(urgent);
  EXPECT_EQ(Get(first).queue_position(), 1);
  EXPECT_EQ(Get(second).queue_position(), 2);
}

}  // namespace
}  // namespace slipway::server
