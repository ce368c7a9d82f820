// A gRPC server of fake services on a Unix socket in a temporary directory.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include "client/channel.h"

namespace slipway {

class FakeServer {
 public:
  explicit FakeServer(grpc::Service& service) {
    std::string name = testing::TempDir() + "/fake-XXXXXX";
    directory_ = mkdtemp(name.data());
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + directory_ + "/socket", grpc::InsecureServerCredentials());
    builder.RegisterService(&service);
    server_ = builder.BuildAndStart();
  }
  ~FakeServer() {
    server_->Shutdown();
    std::filesystem::remove_all(directory_);
  }
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  [[nodiscard]] std::shared_ptr<const slipway::Connection> Dial() const {
    return Connect({.address = "unix:" + directory_ + "/socket"}).value();
  }
  [[nodiscard]] const std::string& directory() const { return directory_; }

 private:
  std::string directory_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace slipway
