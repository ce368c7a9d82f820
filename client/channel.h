// From an address and credentials to a connection that works.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace slipway {

// How to reach and convince a server. File names are those of PEM files, and of a file with one token.
struct ServerOptions {
  std::string address = {};  // "HOST:PORT", "[::1]:PORT", "unix:PATH"; empty: local mode
  std::string tls_ca = {};   // any TLS file switches TLS on
  std::string tls_certificate = {};
  std::string tls_key = {};
  std::string token_file = {};
};

// How long a server may take to answer a first connection.
inline constexpr std::chrono::seconds kConnectTimeout{5};

// gRPC's spelling of an address: "dns:///HOST:PORT", "unix:/ABSOLUTE/PATH". INVALID_ARGUMENT, saying what is expected.
absl::StatusOr<std::string> GrpcTarget(std::string_view address);

// A channel and the token that goes with every call. Thread-safe.
class Connection {
 public:
  Connection(std::shared_ptr<grpc::Channel> channel, std::string address, std::string token);

  [[nodiscard]] const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  [[nodiscard]] const std::string& address() const { return address_; }
  // Adds the token to a call that has not begun.
  void Authorize(grpc::ClientContext& context) const;
  // Waits until the server answers: SERVER_UNREACHABLE naming the address.
  [[nodiscard]] absl::Status WaitUntilConnected(std::chrono::milliseconds timeout) const;

 private:
  const std::shared_ptr<grpc::Channel> channel_;
  const std::string address_;
  const std::string token_;
};

// Makes a channel; does not wait for the server. INVALID_ARGUMENT for a malformed address, an unreadable file, a key
// without its certificate, or a token that would travel in clear over a network.
absl::StatusOr<std::shared_ptr<const Connection>> OpenConnection(const ServerOptions& options);

// OpenConnection and WaitUntilConnected.
absl::StatusOr<std::shared_ptr<const Connection>> Connect(const ServerOptions& options);

}  // namespace slipway
