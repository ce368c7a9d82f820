#include "server/server.h"

#include <chrono>
#include <utility>

#include <fmt/format.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server_builder.h>
#include <spdlog/spdlog.h>

#include "common/error.h"
#include "server/http/pages.h"
#include "server/outputs.h"
#include "server/services/names.h"
#include "server/store/sqlite_store.h"

namespace slipway::server {
namespace {

constexpr int kFileThreads = 4;
constexpr std::size_t kFileQueue = 256;
constexpr std::size_t kJanitorQueue = 1 << 20;
constexpr int kMaximumRequestBytes = 64 << 20;  // a plan of a very large model as JSON
// That plan too, and tasks for each slot of a worker with the longest recipe.
constexpr int kMaximumAnswerBytes = 128 << 20;
constexpr std::chrono::seconds kDrain{5};  // for calls in progress when the server stops

constexpr int kKeepAliveMilliseconds = 30'000;
constexpr int kMinimumPingMilliseconds = 10'000;

bool IsUnixAddress(const std::string& address) { return address.starts_with("unix:"); }

// Dead peers are noticed within a minute; workers and clients may ping between calls.
void SetKeepAlive(grpc::ServerBuilder& builder) {
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepAliveMilliseconds);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinimumPingMilliseconds);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
}

// Of an export that ends without an artifact. One may be in place all the same: published by a worker whose report
// never came.
void RemoveLeftovers(const std::string& id, const std::string& output) {
  const bool published = ExportOfArtifact(output) == ExportName(id);
  if (const absl::Status removed = published ? RemoveArtifact(output) : RemoveStaging(output); !removed.ok()) {
    spdlog::warn("cannot remove what is left of {}: {}", output, Describe(removed));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options, const Clock& clock) {
  std::unique_ptr<Server> server(new Server(options));
  SLIPWAY_RETURN_IF_ERROR(server->StartCoordinator(clock));
  SLIPWAY_RETURN_IF_ERROR(server->StartRpc());
  SLIPWAY_RETURN_IF_ERROR(server->StartHttp());
  return server;
}

Server::~Server() { Stop(); }

absl::Status Server::StartCoordinator(const Clock& clock) {
  SLIPWAY_ASSIGN_OR_RETURN(data_lock_, PosixFileSystem().TryLock(options_.data + "/lock", /*exclusive=*/true));
  SLIPWAY_ASSIGN_OR_RETURN(std::unique_ptr<Store> store, OpenSqliteStore(options_.data + "/slipway.db"));
  janitor_ = std::make_unique<TaskPool>(1, kJanitorQueue);
  const auto clean_up = [janitor = janitor_.get()](const ExportRecord& record, const std::function<void()>& done) {
    const bool taken = janitor->Submit([id = record.id, output = record.output, done] {
      RemoveLeftovers(id, output);
      done();
    });
    if (!taken) {
      done();
    }
  };
  SLIPWAY_ASSIGN_OR_RETURN(coordinator_,
                           Coordinator::Start(options_.coordinator, std::move(store), clean_up, clock, metrics_));
  return absl::OkStatus();
}

absl::Status Server::StartRpc() {
  files_ = std::make_unique<TaskPool>(kFileThreads, kFileQueue);
  export_service_ = std::make_unique<ExportServiceImpl>(*coordinator_, *files_, options_.roots, metrics_);
  worker_service_ = std::make_unique<WorkerServiceImpl>(*coordinator_, metrics_);
  checkpoint_service_ = std::make_unique<CheckpointServiceImpl>(*coordinator_, options_.roots, metrics_);
  artifact_service_ = std::make_unique<ArtifactServiceImpl>(*coordinator_, *files_, metrics_);

  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(options_.listen, grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(kMaximumRequestBytes);
  builder.SetMaxSendMessageSize(kMaximumAnswerBytes);
  SetKeepAlive(builder);
  for (grpc::Service* service : std::initializer_list<grpc::Service*>{
           export_service_.get(), worker_service_.get(), checkpoint_service_.get(), artifact_service_.get()}) {
    builder.RegisterService(service);
  }
  rpc_ = builder.BuildAndStart();
  if (!rpc_ || (port == 0 && !IsUnixAddress(options_.listen))) {
    return Error(Reason::kInvalidArgument, fmt::format("Cannot listen on --listen {}.", options_.listen));
  }
  address_ = IsUnixAddress(options_.listen)
                 ? options_.listen
                 : fmt::format("{}:{}", options_.listen.substr(0, options_.listen.rfind(':')), port);
  return absl::OkStatus();
}

absl::Status Server::StartHttp() {
  if (options_.http.empty()) {
    return absl::OkStatus();
  }
  SLIPWAY_ASSIGN_OR_RETURN(http_, HttpServer::Start(options_.http, [this](const std::string& path) {
                             return ServePage(path, *coordinator_, metrics_, draining_);
                           }));
  return absl::OkStatus();
}

void Server::Stop() {
  draining_ = true;
  if (rpc_) {
    if (auto* health = rpc_->GetHealthCheckService()) {
      health->SetServingStatus(false);
    }
  }
  // Waiting calls are answered by the coordinator's end: workers and watchers are told to call again.
  if (coordinator_) {
    coordinator_->Stop();
  }
  if (rpc_) {
    rpc_->Shutdown(std::chrono::system_clock::now() + kDrain);
    rpc_.reset();
  }
  http_.reset();
  files_.reset();
  janitor_.reset();
}

}  // namespace slipway::server
