// A coordinator for tests: a real gRPC server on a Unix socket that hands out what a test offers and remembers what the
// worker says. It can be stopped and started again, as a coordinator can.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include "slipway/v1/worker.grpc.pb.h"

namespace slipway::worker {

class FakeCoordinator final : public v1::WorkerService::CallbackService {
 public:
  using Request = v1::SynchronizeRequest;

  FakeCoordinator() {
    std::string pattern = (std::filesystem::temp_directory_path() / "slipway-agent-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
  }
  ~FakeCoordinator() override {
    Stop();
    std::filesystem::remove_all(directory_);
  }

  [[nodiscard]] std::string address() const { return "unix:" + directory_ + "/socket"; }

  void Start() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address(), grpc::InsecureServerCredentials());
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  void Stop() {
    if (server_) {
      server_->Shutdown(std::chrono::system_clock::now());
      server_.reset();
    }
  }

  void Offer(const v1::Assignment& assignment) {
    const std::lock_guard lock(mutex_);
    offers_.push_back(assignment);
    if (hanging_ != nullptr) {
      std::exchange(hanging_, nullptr)->Answer(MakeResponse(hanging_request_));
    }
  }
  void Revoke(const v1::Lease& lease) {
    const std::lock_guard lock(mutex_);
    revoked_.push_back(lease);
  }
  void SetAcknowledging(bool acknowledging) {
    const std::lock_guard lock(mutex_);
    acknowledging_ = acknowledging;
  }

  // The first request that fits and came after the one that was returned last. Nullopt after a long time.
  std::optional<Request> WaitFor(const std::function<bool(const Request&)>& fits) {
    std::unique_lock lock(mutex_);
    std::optional<Request> found;
    arrived_.wait_for(lock, kPatience, [&] {
      while (position_ < requests_.size() && !found) {
        if (const Request& request = requests_[position_++]; fits(request)) {
          found = request;
        }
      }
      return found.has_value();
    });
    return found;
  }

  grpc::ServerUnaryReactor* Synchronize(grpc::CallbackServerContext* /*context*/, const Request* request,
                                        v1::SynchronizeResponse* response) override {
    auto* call = new Call(*this, response);  // deletes itself when gRPC is done with it
    const std::lock_guard lock(mutex_);
    requests_.push_back(*request);
    arrived_.notify_all();
    if (request->tasks().empty() && !request->draining() && offers_.empty()) {
      hanging_ = call;
      hanging_request_ = *request;
    } else {
      call->Answer(MakeResponse(*request));
    }
    return call;
  }

 private:
  static constexpr std::chrono::seconds kPatience{20};

  class Call final : public grpc::ServerUnaryReactor {
   public:
    Call(FakeCoordinator& coordinator, v1::SynchronizeResponse* response)
        : coordinator_(coordinator), response_(response) {}
    void Answer(const v1::SynchronizeResponse& response) {
      *response_ = response;
      Finish(grpc::Status::OK);
    }
    void OnCancel() override {
      const std::lock_guard lock(coordinator_.mutex_);
      if (coordinator_.hanging_ == this) {
        coordinator_.hanging_ = nullptr;
        Finish(grpc::Status::CANCELLED);
      }
    }
    void OnDone() override { delete this; }

   private:
    FakeCoordinator& coordinator_;
    v1::SynchronizeResponse* response_;
  };

  // Under mutex_. Asks to be called again in an hour: what comes sooner did not wait for a timer.
  v1::SynchronizeResponse MakeResponse(const Request& request) {
    v1::SynchronizeResponse response;
    response.mutable_next_call()->set_seconds(3600);
    for (int i = 0; i < request.free_slots() && !offers_.empty(); ++i) {
      *response.add_assignments() = offers_.front();
      offers_.pop_front();
    }
    for (const v1::TaskReport& report : request.tasks()) {
      if (acknowledging_ && report.outcome_case() != v1::TaskReport::OUTCOME_NOT_SET) {
        *response.add_acknowledged() = report.lease();
      }
    }
    response.mutable_revoked()->Add(revoked_.begin(), revoked_.end());
    return response;
  }

  std::string directory_;
  std::unique_ptr<grpc::Server> server_;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<v1::Assignment> offers_;
  std::vector<v1::Lease> revoked_;
  bool acknowledging_ = true;
  std::vector<Request> requests_;
  std::size_t position_ = 0;
  Call* hanging_ = nullptr;
  Request hanging_request_;
};

}  // namespace slipway::worker
