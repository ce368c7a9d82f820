#include "tests/server/services/service_fixture.h"

#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "common/digest.h"

namespace slipway::server {
namespace {

constexpr char kModelFile[] = "model.safetensors";
constexpr int kShards = 2;
constexpr std::int64_t kShardBytes = 1000;

// 3 MiB and a bit that no chunk of the download divides.
std::string ModelBytes() {
  std::string bytes(3'145'799, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(i * 2654435761U >> 24U);
  }
  return bytes;
}

void WriteArtifact(const std::string& directory, const std::string& export_name) {
  std::filesystem::create_directories(directory);
  const std::string model = ModelBytes();
  const nlohmann::json manifest = {{"format", "slipway-artifact"},
                                   {"export", export_name},
                                   {"digest_algorithm", "sha256"},
                                   {"files",
                                    {{{"path", kModelFile}, {"size", model.size()}, {"digest", Sha256(model)}},
                                     {{"path", "config.json"}, {"size", 2}, {"digest", Sha256("{}")}}}},
                                   {"tensors", {{{"name", "t"}, {"files", "nested"}}}}};
  std::ofstream(directory + "/" + kModelFile, std::ios::binary) << model;
  std::ofstream(directory + "/config.json") << "{}";
  std::ofstream(directory + "/manifest.json") << manifest.dump();
}

}  // namespace

void FakeWorker::Succeed(const v1::Assignment& assignment, v1::TaskReport& report) {
  switch (assignment.lease().kind()) {
    case v1::TASK_KIND_PLAN:
    case v1::TASK_KIND_VALIDATE:
      report.mutable_plan()->set_plan_hash("abcdef");
      report.mutable_plan()->set_plan_json("{\"tensors\": []}");
      for (int i = 0; i < kShards; ++i) {
        report.mutable_plan()->add_shard_bytes(kShardBytes);
      }
      break;
    case v1::TASK_KIND_SHARD:
      report.mutable_shard()->set_file("shard-" + std::to_string(assignment.lease().shard()));
      report.mutable_shard()->set_size(kShardBytes);
      break;
    case v1::TASK_KIND_PUBLISH:
      WriteArtifact(assignment.output(), assignment.lease().export_name());
      report.mutable_publish()->set_path(assignment.output());
      break;
    case v1::TASK_KIND_INSPECT:
      report.set_inspection_json("{\"checkpoint\": \"" + assignment.checkpoint() + "\"}");
      break;
    default:
      break;
  }
}

void FakeWorker::Run() {
  std::map<std::string, std::pair<v1::Assignment, v1::TaskReport>> tasks;  // by lease
  while (!stopped_) {
    v1::SynchronizeRequest request;
    request.set_worker(name_);
    request.set_incarnation("incarnation of " + name_);
    request.set_free_slots(tasks.empty() ? 1 : 0);
    for (auto& [key, task] : tasks) {
      auto& [assignment, report] = task;
      report.set_heartbeat(report.heartbeat() + 1);
      if (report.outcome_case() == v1::TaskReport::OUTCOME_NOT_SET) {
        on_task_(assignment, report);
      }
      *request.add_tasks() = report;
    }
    grpc::ClientContext context;
    {
      const std::lock_guard lock(mutex_);
      context_ = &context;
    }
    if (stopped_) {
      context.TryCancel();
    }
    v1::SynchronizeResponse response;
    const grpc::Status status = stub_->Synchronize(&context, request, &response);
    {
      const std::lock_guard lock(mutex_);
      context_ = nullptr;
    }
    if (!status.ok()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));  // the server may be starting
      continue;
    }
    for (const v1::Lease& lease : response.acknowledged()) {
      tasks.erase(lease.SerializeAsString());
    }
    for (const v1::Lease& lease : response.revoked()) {
      revoked_ += static_cast<int>(tasks.erase(lease.SerializeAsString()));
    }
    for (const v1::Assignment& assignment : response.assignments()) {
      v1::TaskReport report;
      *report.mutable_lease() = assignment.lease();
      tasks.emplace(assignment.lease().SerializeAsString(), std::pair(assignment, report));
      ++assigned_;
    }
    if (tasks.empty() || !response.assignments().empty()) {
      continue;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // a task goes on: the next heartbeat
  }
}

void ServiceTest::StartServer() {
  options_.listen = "unix:" + directory_.path() + "/socket";
  options_.data = directory_.path() + "/data";
  options_.roots.artifacts = Artifacts();
  ASSERT_TRUE(CompleteOptions(options_).ok());
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options_, SystemClock());
  ASSERT_TRUE(server.ok()) << Describe(server.status());
  server_ = *std::move(server);
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 10);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 50);
  channel_ = grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(), arguments);
  exports_ = v1::ExportService::NewStub(channel_);
  artifacts_ = v1::ArtifactService::NewStub(channel_);
  checkpoints_ = v1::CheckpointService::NewStub(channel_);
}

void ServiceTest::StopServer() { server_.reset(); }

v1::CreateExportRequest ServiceTest::Request(const std::string& request_id) const {
  v1::CreateExportRequest request;
  request.mutable_spec()->set_checkpoint("/checkpoints/llama");
  request.set_request_id(request_id);
  return request;
}

absl::Status ServiceTest::CreateStatus(const v1::CreateExportRequest& request, v1::Export* response) {
  v1::Export ignored;
  return StatusOf([&](grpc::ClientContext& context) {
    return exports_->CreateExport(&context, request, response != nullptr ? response : &ignored);
  });
}

v1::Export ServiceTest::Create(const v1::CreateExportRequest& request) {
  v1::Export created;
  const absl::Status status = CreateStatus(request, &created);
  EXPECT_TRUE(status.ok()) << Describe(status);
  return created;
}

v1::Export ServiceTest::Get(const std::string& name) {
  v1::GetExportRequest request;
  request.set_name(name);
  v1::Export found;
  const absl::Status status =
      StatusOf([&](grpc::ClientContext& context) { return exports_->GetExport(&context, request, &found); });
  EXPECT_TRUE(status.ok()) << Describe(status);
  return found;
}

std::vector<v1::ExportEvent> ServiceTest::WatchToTheEnd(const std::string& name, std::int64_t from_sequence) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  v1::WatchExportRequest request;
  request.set_name(name);
  request.set_from_sequence(from_sequence);
  const auto stream = exports_->WatchExport(&context, request);
  std::vector<v1::ExportEvent> events;
  v1::WatchExportResponse response;
  while (stream->Read(&response)) {
    if (response.has_event()) {
      events.push_back(response.event());
    }
  }
  const grpc::Status status = stream->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  return events;
}

void ServiceTest::AwaitState(const std::string& name, v1::ExportState state) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  v1::WatchExportRequest request;
  request.set_name(name);
  const auto stream = exports_->WatchExport(&context, request);
  v1::WatchExportResponse response;
  while (stream->Read(&response)) {
    if ((response.has_snapshot() && response.snapshot().state() == state) ||
        (response.has_event() && response.event().state() == state)) {
      context.TryCancel();
      (void)stream->Finish();
      return;
    }
  }
  FAIL() << "the watch ended before " << v1::ExportState_Name(state);
}

}  // namespace slipway::server
