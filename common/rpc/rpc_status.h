// absl::Status with a reason <-> what travels: the ErrorDetail message, and grpc::Status with a serialized ErrorDetail
// in the trailing metadata "slipway-error-bin". All functions are thread-safe and keep no state.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "common/error.h"
#include "slipway/v1/errors.pb.h"

namespace slipway {

inline constexpr char kErrorMetadataKey[] = "slipway-error-bin";

// Longest text of one part of an error on the wire: all parts together must stay below gRPC's limit for metadata (8
// KiB).
inline constexpr std::size_t kMaximumErrorMessageBytes = 3072;
inline constexpr std::size_t kMaximumErrorNameBytes = 1024;

// Over-long and non-UTF-8 texts are shortened and repaired: names come from checkpoints. `status` must not be OK.
v1::ErrorDetail ToErrorDetail(const absl::Status& status);

// Never OK: a reason that this version does not know becomes INTERNAL.
absl::Status FromErrorDetail(const v1::ErrorDetail& detail);

// What a service answers with: adds the trailing metadata to `context`; call at most once a call, before it finishes.
grpc::Status ToGrpcStatus(const absl::Status& status, grpc::ServerContextBase& context);

// What a finished call means to its caller. Without an ErrorDetail (the transport failed, or no Slipway answered) the
// reason is derived from the code: UNAVAILABLE and DEADLINE_EXCEEDED mean SERVER_UNREACHABLE.
absl::Status FromGrpcStatus(const grpc::Status& status, const grpc::ClientContext& context);

}  // namespace slipway
