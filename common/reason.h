// The closed list of error reasons, and the one table that says what each of them means everywhere: status code,
// exit status, whether a retry can help, whose fault it is, what to do. proto/slipway/v1/errors.proto has the same
// list; a test holds the two together.
#pragma once

#include <span>
#include <string_view>

#include "absl/status/status.h"

namespace slipway {

enum class Reason {
  kUnspecified = 0,
  kInvalidArgument = 1,
  kOptionUnsupported = 2,
  kNotFound = 3,
  kRequestIdReused = 4,
  kExportNotFinished = 5,
  kCheckpointNotFound = 6,
  kCheckpointUnsupported = 7,
  kCheckpointCorrupt = 8,
  kCheckpointChanged = 9,
  kCheckpointUnreadable = 10,
  kPickleForbiddenGlobal = 11,
  kLimitExceeded = 12,
  kPathOutsideRoot = 13,
  kArchitectureUnsupported = 14,
  kArchitectureAmbiguous = 15,
  kTensorMissing = 16,
  kTensorUnknown = 17,
  kTensorDuplicated = 18,
  kTensorShapeMismatch = 19,
  kConfigurationInvalid = 20,
  kMemoryBudgetTooSmall = 21,
  kOutputExists = 22,
  kOutputUnwritable = 23,
  kOutputDiskFull = 24,
  kArtifactCorrupt = 25,
  kPlanMismatch = 26,
  kLeaseLost = 27,
  kWorkerLost = 28,
  kWorkerStuck = 29,
  kCancelled = 30,
  kServerUnreachable = 31,
  kServerOverloaded = 32,
  kStoreFailed = 33,
  kInternal = 34,
  kDeviceFailed = 35,
};

// Exit status of the programs (design, section 4).
enum class ExitStatus : int {
  kDone = 0,
  kFailed = 1,
  kUsage = 2,
  kRefused = 3,
  kUnreachable = 4,
  kInterrupted = 130,
};

// Whose fault an attempt's failure is: an export's fault ends the export at once (trying again cannot help); a
// worker's fault is tried again, elsewhere if possible, up to the limit of attempts.
enum class Fault { kExport, kWorker };

struct ReasonInfo {
  Reason reason;
  std::string_view name;  // "TENSOR_MISSING": what people and programs see
  absl::StatusCode code;
  ExitStatus exit_status;
  Fault fault;
  std::string_view advice;  // what to do next, one sentence
};

// All reasons, in the order of their numbers. Static storage.
std::span<const ReasonInfo> Reasons();

// The row of `reason`; kInternal's for a value that is not on the list.
const ReasonInfo& InfoOf(Reason reason);

// The reason of that name, or kUnspecified.
Reason ReasonFromName(std::string_view name);

}  // namespace slipway
