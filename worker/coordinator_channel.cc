#include "worker/coordinator_channel.h"

#include <chrono>

#include <grpc/grpc.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

namespace slipway::worker {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// The server must permit pings this often.
constexpr milliseconds kKeepaliveInterval = seconds(30);
constexpr milliseconds kKeepaliveTimeout = seconds(10);
constexpr milliseconds kMaximumReconnectBackoff = seconds(1);
constexpr int kMaximumMessageBytes = 128 << 20;  // tasks for every slot, each with its export's recipe

int Milliseconds(milliseconds duration) { return static_cast<int>(duration.count()); }

}  // namespace

std::shared_ptr<grpc::Channel> OpenCoordinatorChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, Milliseconds(kKeepaliveInterval));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Milliseconds(kKeepaliveTimeout));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, Milliseconds(kMaximumReconnectBackoff));
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);     // the agent retries
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // for web browsing, not for this
  arguments.SetMaxReceiveMessageSize(kMaximumMessageBytes);
  auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  channel->GetState(/*try_to_connect=*/true);
  return channel;
}

void Reconnect(grpc::Channel& channel) {
  grpc::experimental::ChannelResetConnectionBackoff(&channel);
  channel.GetState(/*try_to_connect=*/true);
}

}  // namespace slipway::worker
