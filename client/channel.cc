#include "client/channel.h"

#include <charconv>
#include <filesystem>
#include <utility>

#include <fmt/format.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include "common/error.h"
#include "common/file_system.h"

namespace slipway {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";
constexpr std::int64_t kMaximumCredentialFile = 1 << 20;
// sockaddr_un's limit, without the terminating zero.
constexpr std::size_t kMaximumSocketPath = 107;
// The plan of a large model as JSON comes in one message.
constexpr int kMaximumMessageBytes = 512 << 20;
// A watcher of a server whose host died notices after this; below five minutes servers count pings as abuse.
constexpr int kKeepaliveMilliseconds = 320'000;

absl::Status BadAddress(std::string_view address, std::string_view what) {
  return Error(Reason::kInvalidArgument,
               fmt::format("server address '{}' {}; expected HOST:PORT or unix:PATH", address, what));
}

bool IsUnix(std::string_view address) { return address.starts_with(kUnixPrefix); }

absl::StatusOr<std::string> UnixTarget(std::string_view address) {
  std::string_view path = address.substr(kUnixPrefix.size());
  if (path.starts_with("//")) {
    path.remove_prefix(2);
  }
  if (path.empty()) {
    return BadAddress(address, "has no path");
  }
  std::error_code error;
  const std::string absolute = std::filesystem::absolute(path, error).string();
  if (error || absolute.size() > kMaximumSocketPath) {
    return BadAddress(address, fmt::format("has a path of more than {} bytes", kMaximumSocketPath));
  }
  return fmt::format("unix:{}", absolute);
}

absl::StatusOr<std::string> ReadCredential(std::string_view option, const std::string& path) {
  if (path.empty()) {
    return std::string();
  }
  absl::StatusOr<std::string> content = PosixFileSystem().ReadSmallFile(path, kMaximumCredentialFile);
  if (!content.ok()) {
    return Error(Reason::kInvalidArgument, fmt::format("{}: {}", option, std::string(content.status().message())),
                 {.file = path});
  }
  return content;
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(const ServerOptions& options) {
  if (options.tls_certificate.empty() != options.tls_key.empty()) {
    return Error(Reason::kInvalidArgument, "--tls-cert and --tls-key go together");
  }
  if (options.tls_ca.empty() && options.tls_certificate.empty()) {
    return grpc::InsecureChannelCredentials();
  }
  grpc::SslCredentialsOptions files;
  SLIPWAY_ASSIGN_OR_RETURN(files.pem_root_certs, ReadCredential("--tls-ca", options.tls_ca));
  SLIPWAY_ASSIGN_OR_RETURN(files.pem_cert_chain, ReadCredential("--tls-cert", options.tls_certificate));
  SLIPWAY_ASSIGN_OR_RETURN(files.pem_private_key, ReadCredential("--tls-key", options.tls_key));
  return grpc::SslCredentials(files);
}

absl::StatusOr<std::string> ReadToken(const ServerOptions& options) {
  SLIPWAY_ASSIGN_OR_RETURN(std::string token, ReadCredential("--token-file", options.token_file));
  token.erase(token.find_last_not_of(" \t\r\n") + 1);
  for (const char letter : token) {
    if (letter < 0x21 || letter > 0x7E) {
      return Error(Reason::kInvalidArgument, "--token-file must hold one token of printable characters",
                   {.file = options.token_file});
    }
  }
  const bool encrypted = !options.tls_ca.empty() || !options.tls_certificate.empty();
  if (!token.empty() && !encrypted && !IsUnix(options.address)) {
    return Error(Reason::kInvalidArgument, "--token-file needs --tls-ca: a token does not travel in clear");
  }
  return token;
}

}  // namespace

absl::StatusOr<std::string> GrpcTarget(std::string_view address) {
  if (IsUnix(address)) {
    return UnixTarget(address);
  }
  const std::size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) {
    return BadAddress(address, "has no port");
  }
  const std::string_view host = address.substr(0, colon);
  const std::string_view port = address.substr(colon + 1);
  int number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (error != std::errc() || end != port.data() + port.size() || number < 1 || number > 65535) {
    return BadAddress(address, "has no port from 1 to 65535");
  }
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (host.empty() || host.find_first_of("/ \t") != std::string_view::npos) {
    return BadAddress(address, "has no host name");
  }
  if (!bracketed && host.find(':') != std::string_view::npos) {
    return BadAddress(address, "has an IPv6 host without brackets");
  }
  return fmt::format("dns:///{}", address);
}

Connection::Connection(std::shared_ptr<grpc::Channel> channel, std::string address, std::string token)
    : channel_(std::move(channel)), address_(std::move(address)), token_(std::move(token)) {}

void Connection::Authorize(grpc::ClientContext& context) const {
  if (!token_.empty()) {
    context.AddMetadata("authorization", "Bearer " + token_);
  }
}

absl::Status Connection::WaitUntilConnected(std::chrono::milliseconds timeout) const {
  if (channel_->WaitForConnected(std::chrono::system_clock::now() + timeout)) {
    return absl::OkStatus();
  }
  return Error(Reason::kServerUnreachable,
               fmt::format("no server answers at {} within {} ms", address_, timeout.count()));
}

absl::StatusOr<std::shared_ptr<const Connection>> OpenConnection(const ServerOptions& options) {
  SLIPWAY_ASSIGN_OR_RETURN(const std::string target, GrpcTarget(options.address));
  SLIPWAY_ASSIGN_OR_RETURN(const auto credentials, MakeCredentials(options));
  SLIPWAY_ASSIGN_OR_RETURN(std::string token, ReadToken(options));
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaximumMessageBytes);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMilliseconds);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2'000);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return std::make_shared<const Connection>(grpc::CreateCustomChannel(target, credentials, arguments), options.address,
                                            std::move(token));
}

absl::StatusOr<std::shared_ptr<const Connection>> Connect(const ServerOptions& options) {
  SLIPWAY_ASSIGN_OR_RETURN(auto connection, OpenConnection(options));
  SLIPWAY_RETURN_IF_ERROR(connection->WaitUntilConnected(kConnectTimeout));
  return connection;
}

}  // namespace slipway
