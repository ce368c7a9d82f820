#include "common/error.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace slipway {
namespace {

constexpr std::string_view kPayloadUrl = "slipway/error";

void SetPayload(absl::Status& status, Reason reason, const Where& where) {
  nlohmann::json payload{{"reason", std::string(InfoOf(reason).name)}};
  if (!where.tensor.empty()) {
    payload["tensor"] = where.tensor;
  }
  if (!where.file.empty()) {
    payload["file"] = where.file;
  }
  if (where.offset) {
    payload["offset"] = *where.offset;
  }
  // Names come from checkpoints and may hold any bytes: replace what is not UTF-8.
  status.SetPayload(absl::string_view(kPayloadUrl.data(), kPayloadUrl.size()),
                    absl::Cord(payload.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
}

nlohmann::json PayloadOf(const absl::Status& status) {
  const auto payload = status.GetPayload(absl::string_view(kPayloadUrl.data(), kPayloadUrl.size()));
  return payload ? nlohmann::json::parse(std::string(*payload), nullptr, /*allow_exceptions=*/false) : nlohmann::json();
}

Reason ReasonOfErrno(int error_number, FileRole role) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return role == FileRole::kCheckpoint ? Reason::kCheckpointUnreadable : Reason::kOutputDiskFull;
    case ENOENT:
    case ENOTDIR:
      return role == FileRole::kCheckpoint ? Reason::kCheckpointNotFound
             : role == FileRole::kOutput   ? Reason::kOutputUnwritable
                                           : Reason::kNotFound;
    case EEXIST:
    case ENOTEMPTY:
      return role == FileRole::kOutput ? Reason::kOutputExists : Reason::kInternal;
    case EXDEV:
    case ELOOP:
      return Reason::kPathOutsideRoot;
    default:
      return role == FileRole::kCheckpoint ? Reason::kCheckpointUnreadable
             : role == FileRole::kOutput   ? Reason::kOutputUnwritable
                                           : Reason::kInternal;
  }
}

}  // namespace

absl::Status Error(Reason reason, std::string_view message, const Where& where) {
  // Debian builds Abseil with a string_view of its own.
  absl::Status status(InfoOf(reason).code, absl::string_view(message.data(), message.size()));
  SetPayload(status, reason, where);
  return status;
}

absl::Status AddWhere(absl::Status status, const Where& where) {
  if (status.ok()) {
    return status;
  }
  Where merged = WhereOf(status);
  if (merged.tensor.empty()) {
    merged.tensor = where.tensor;
  }
  if (merged.file.empty()) {
    merged.file = where.file;
  }
  if (!merged.offset) {
    merged.offset = where.offset;
  }
  SetPayload(status, ReasonOf(status), merged);
  return status;
}

Reason ReasonOf(const absl::Status& status) {
  if (status.ok()) {
    return Reason::kUnspecified;
  }
  const nlohmann::json payload = PayloadOf(status);
  return payload.is_object() ? ReasonFromName(payload.value("reason", "")) : Reason::kInternal;
}

Where WhereOf(const absl::Status& status) {
  const nlohmann::json payload = PayloadOf(status);
  if (!payload.is_object()) {
    return {};
  }
  Where where{payload.value("tensor", ""), payload.value("file", ""), std::nullopt};
  if (payload.contains("offset")) {
    where.offset = payload["offset"].get<std::int64_t>();
  }
  return where;
}

std::string Describe(const absl::Status& status) {
  if (status.ok()) {
    return "OK";
  }
  std::string text = fmt::format("{}: {}", InfoOf(ReasonOf(status)).name, std::string(status.message()));
  const Where where = WhereOf(status);
  if (!where.tensor.empty()) {
    text += fmt::format(" [tensor {}]", where.tensor);
  }
  if (!where.file.empty()) {
    text += fmt::format(" [file {}]", where.file);
  }
  if (where.offset) {
    text += fmt::format(" [offset {}]", *where.offset);
  }
  return text;
}

absl::Status ErrnoError(int error_number, std::string_view call, std::string_view file, FileRole role) {
  return Error(
      ReasonOfErrno(error_number, role),
      fmt::format("{} failed: {}", call, std::strerror(error_number)),  // NOLINT(concurrency-mt-unsafe): glibc's is
      Where{.file = std::string(file)});
}

}  // namespace slipway
