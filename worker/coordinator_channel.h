// The connection to the coordinator.
#pragma once

#include <memory>
#include <string>

#include <grpcpp/channel.h>

namespace slipway::worker {

// A channel to HOST:PORT or unix:PATH that starts to connect at once. Dead peers are found by keepalive. Reconnecting
// has no patience of its own: see Reconnect.
std::shared_ptr<grpc::Channel> OpenCoordinatorChannel(const std::string& address);

// Lets a channel that waits before it connects again (gRPC: 100 ms at least, then ever longer) try now. The caller does
// the waiting, so that a coordinator that is still starting is found within milliseconds.
void Reconnect(grpc::Channel& channel);

}  // namespace slipway::worker
