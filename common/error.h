// Errors: absl::Status with a reason of the closed list and the tensor, file and offset concerned, carried as a
// payload.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/reason.h"

namespace slipway {

// Where something went wrong; each part may be absent.
struct Where {
  std::string tensor = {};
  std::string file = {};
  std::optional<std::int64_t> offset = {};
};

// A status with InfoOf(reason).code, the message, and the payload that ReasonOf and WhereOf read.
[[nodiscard]] absl::Status Error(Reason reason, std::string_view message, const Where& where = {});

// The same error with the parts of `where` that it lacks filled in; an OK status stays OK.
[[nodiscard]] absl::Status AddWhere(absl::Status status, const Where& where);

// kInternal for an error that Error() did not make; kUnspecified for OK.
[[nodiscard]] Reason ReasonOf(const absl::Status& status);
[[nodiscard]] Where WhereOf(const absl::Status& status);

// "REASON: message [tensor T] [file F] [offset N]" for people; "OK" for OK.
[[nodiscard]] std::string Describe(const absl::Status& status);

// An error for a failed system call: maps errno to a reason by `role` (reading a checkpoint or writing an output),
// names the call.
enum class FileRole { kCheckpoint, kOutput, kOther };
[[nodiscard]] absl::Status ErrnoError(int error_number, std::string_view call, std::string_view file, FileRole role);

}  // namespace slipway

// Returns the error of a Status expression from the enclosing function.
#define SLIPWAY_RETURN_IF_ERROR(expression)                                   \
  do {                                                                        \
    if (absl::Status slipway_status_ = (expression); !slipway_status_.ok()) { \
      return slipway_status_;                                                 \
    }                                                                         \
  } while (false)

#define SLIPWAY_CONCATENATE_INNER(a, b) a##b
#define SLIPWAY_CONCATENATE(a, b) SLIPWAY_CONCATENATE_INNER(a, b)

// Declares or assigns `target` from a StatusOr expression, or returns its error.
#define SLIPWAY_ASSIGN_OR_RETURN(target, expression) \
  SLIPWAY_ASSIGN_OR_RETURN_INNER(SLIPWAY_CONCATENATE(slipway_status_or_, __LINE__), target, expression)
#define SLIPWAY_ASSIGN_OR_RETURN_INNER(holder, target, expression) \
  auto holder = (expression);                                      \
  if (!holder.ok()) {                                              \
    return std::move(holder).status();                             \
  }                                                                \
  target = std::move(holder).value()
