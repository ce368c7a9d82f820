#include "common/rpc/rpc_status.h"

#include <optional>
#include <string>
#include <string_view>

#include "common/utf8.h"

namespace slipway {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// `text` as valid UTF-8 of at most `maximum` bytes.
std::string Wireable(std::string_view text, std::size_t maximum) {
  std::string result;
  while (!text.empty()) {
    const std::size_t length = Utf8SequenceLength(text);
    const std::string_view piece = length == 0 ? kReplacement : text.substr(0, length);
    if (result.size() + piece.size() > maximum) {
      break;
    }
    result += piece;
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return result;
}

Reason ReasonOfCode(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return Reason::kServerUnreachable;
    case grpc::StatusCode::CANCELLED:
      return Reason::kCancelled;
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return Reason::kServerOverloaded;
    case grpc::StatusCode::INVALID_ARGUMENT:
      return Reason::kInvalidArgument;
    case grpc::StatusCode::NOT_FOUND:
      return Reason::kNotFound;
    default:
      return Reason::kInternal;
  }
}

}  // namespace

v1::ErrorDetail ToErrorDetail(const absl::Status& status) {
  const Where where = WhereOf(status);
  v1::ErrorDetail detail;
  detail.set_reason(static_cast<v1::ErrorReason>(ReasonOf(status)));
  detail.set_message(Wireable(std::string(status.message()), kMaximumErrorMessageBytes));
  detail.set_tensor(Wireable(where.tensor, kMaximumErrorNameBytes));
  detail.set_file(Wireable(where.file, kMaximumErrorNameBytes));
  if (where.offset) {
    detail.set_offset(*where.offset);
  }
  return detail;
}

absl::Status FromErrorDetail(const v1::ErrorDetail& detail) {
  const bool known = detail.reason() != v1::ERROR_REASON_UNSPECIFIED && v1::ErrorReason_IsValid(detail.reason());
  return Error(known ? static_cast<Reason>(detail.reason()) : Reason::kInternal, detail.message(),
               Where{.tensor = detail.tensor(),
                     .file = detail.file(),
                     .offset = detail.has_offset() ? std::optional(detail.offset()) : std::nullopt});
}

grpc::Status ToGrpcStatus(const absl::Status& status, grpc::ServerContextBase& context) {
  if (status.ok()) {
    return grpc::Status::OK;
  }
  const v1::ErrorDetail detail = ToErrorDetail(status);
  context.AddTrailingMetadata(kErrorMetadataKey, detail.SerializeAsString());
  // absl::StatusCode and grpc::StatusCode share the canonical numbers.
  return {static_cast<grpc::StatusCode>(status.code()), detail.message()};
}

absl::Status FromGrpcStatus(const grpc::Status& status, const grpc::ClientContext& context) {
  if (status.ok()) {
    return absl::OkStatus();
  }
  const auto& metadata = context.GetServerTrailingMetadata();
  const auto found = metadata.find(kErrorMetadataKey);
  v1::ErrorDetail detail;
  if (found != metadata.end() && detail.ParseFromArray(found->second.data(), static_cast<int>(found->second.size()))) {
    return FromErrorDetail(detail);
  }
  return Error(ReasonOfCode(status.error_code()), status.error_message());
}

}  // namespace slipway
