#include "common/reason.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace slipway {
namespace {

using absl::StatusCode;
using enum ExitStatus;

constexpr std::array kReasons = std::to_array<ReasonInfo>({
    {Reason::kUnspecified, "ERROR_REASON_UNSPECIFIED", StatusCode::kUnknown, kFailed, Fault::kWorker, "Report this."},
    {Reason::kInvalidArgument, "INVALID_ARGUMENT", StatusCode::kInvalidArgument, kUsage, Fault::kExport,
     "Correct the named option or field."},
    {Reason::kOptionUnsupported, "OPTION_UNSUPPORTED", StatusCode::kUnimplemented, kRefused, Fault::kExport,
     "`slipway formats` lists what can be combined."},
    {Reason::kNotFound, "NOT_FOUND", StatusCode::kNotFound, kFailed, Fault::kExport,
     "`slipway list` shows the exports there are."},
    {Reason::kRequestIdReused, "REQUEST_ID_REUSED", StatusCode::kAlreadyExists, kUsage, Fault::kExport,
     "Use a new request_id for a different request."},
    {Reason::kExportNotFinished, "EXPORT_NOT_FINISHED", StatusCode::kFailedPrecondition, kFailed, Fault::kExport,
     "Wait for the export (`slipway watch`) or cancel it first."},
    {Reason::kCheckpointNotFound, "CHECKPOINT_NOT_FOUND", StatusCode::kNotFound, kRefused, Fault::kExport,
     "Check the path, as the workers see it, and --iteration."},
    {Reason::kCheckpointUnsupported, "CHECKPOINT_UNSUPPORTED", StatusCode::kUnimplemented, kRefused, Fault::kExport,
     "`slipway inspect` says what was recognized."},
    {Reason::kCheckpointCorrupt, "CHECKPOINT_CORRUPT", StatusCode::kDataLoss, kRefused, Fault::kExport,
     "Compare the checkpoint with its origin; the save may be incomplete."},
    {Reason::kCheckpointChanged, "CHECKPOINT_CHANGED", StatusCode::kAborted, kFailed, Fault::kExport,
     "Export again once nothing writes to the checkpoint."},
    {Reason::kCheckpointUnreadable, "CHECKPOINT_UNREADABLE", StatusCode::kPermissionDenied, kRefused, Fault::kWorker,
     "Check permissions and the health of the storage."},
    {Reason::kPickleForbiddenGlobal, "PICKLE_FORBIDDEN_GLOBAL", StatusCode::kInvalidArgument, kRefused, Fault::kExport,
     "The file names code; nothing was run. Do not trust its origin."},
    {Reason::kLimitExceeded, "LIMIT_EXCEEDED", StatusCode::kInvalidArgument, kRefused, Fault::kExport,
     "The file asks for more than any real checkpoint needs."},
    {Reason::kPathOutsideRoot, "PATH_OUTSIDE_ROOT", StatusCode::kInvalidArgument, kRefused, Fault::kExport,
     "Use paths below the configured roots, without '..' or links that leave them."},
    {Reason::kArchitectureUnsupported, "ARCHITECTURE_UNSUPPORTED", StatusCode::kUnimplemented, kRefused, Fault::kExport,
     "`slipway formats` lists the architectures."},
    {Reason::kArchitectureAmbiguous, "ARCHITECTURE_AMBIGUOUS", StatusCode::kFailedPrecondition, kRefused,
     Fault::kExport, "Name the class with --architecture."},
    {Reason::kTensorMissing, "TENSOR_MISSING", StatusCode::kDataLoss, kRefused, Fault::kExport,
     "The checkpoint is incomplete, or of another architecture."},
    {Reason::kTensorUnknown, "TENSOR_UNKNOWN", StatusCode::kFailedPrecondition, kRefused, Fault::kExport,
     "The checkpoint holds more than the architecture knows; nothing is dropped silently."},
    {Reason::kTensorDuplicated, "TENSOR_DUPLICATED", StatusCode::kDataLoss, kRefused, Fault::kExport,
     "One tensor is stored under two names or in two places."},
    {Reason::kTensorShapeMismatch, "TENSOR_SHAPE_MISMATCH", StatusCode::kFailedPrecondition, kRefused, Fault::kExport,
     "The tensors contradict the model configuration."},
    {Reason::kConfigurationInvalid, "CONFIGURATION_INVALID", StatusCode::kFailedPrecondition, kRefused, Fault::kExport,
     "Give the model's Hugging Face directory with --hf-config."},
    {Reason::kMemoryBudgetTooSmall, "MEMORY_BUDGET_TOO_SMALL", StatusCode::kFailedPrecondition, kRefused,
     Fault::kExport, "Raise --memory-budget to the stated size."},
    {Reason::kOutputExists, "OUTPUT_EXISTS", StatusCode::kAlreadyExists, kRefused, Fault::kExport,
     "Choose another output, or --overwrite."},
    {Reason::kOutputUnwritable, "OUTPUT_UNWRITABLE", StatusCode::kPermissionDenied, kFailed, Fault::kExport,
     "Check permissions of the output's directory."},
    {Reason::kOutputDiskFull, "OUTPUT_DISK_FULL", StatusCode::kResourceExhausted, kFailed, Fault::kExport,
     "Free space in the output's file system."},
    {Reason::kArtifactCorrupt, "ARTIFACT_CORRUPT", StatusCode::kDataLoss, kFailed, Fault::kExport,
     "Download or export it again."},
    {Reason::kPlanMismatch, "PLAN_MISMATCH", StatusCode::kAborted, kFailed, Fault::kWorker,
     "All workers must run the same version and see the same checkpoint."},
    {Reason::kLeaseLost, "LEASE_LOST", StatusCode::kAborted, kFailed, Fault::kWorker,
     "Nothing to do: another attempt has the work."},
    {Reason::kWorkerLost, "WORKER_LOST", StatusCode::kUnavailable, kFailed, Fault::kWorker,
     "Look at the worker's log."},
    {Reason::kWorkerStuck, "WORKER_STUCK", StatusCode::kDeadlineExceeded, kFailed, Fault::kWorker,
     "Look at the worker's storage."},
    {Reason::kCancelled, "CANCELLED", StatusCode::kCancelled, kFailed, Fault::kExport,
     "Submit it again if that was not meant."},
    {Reason::kServerUnreachable, "SERVER_UNREACHABLE", StatusCode::kUnavailable, kUnreachable, Fault::kWorker,
     "Check the address and that slipway-server runs."},
    {Reason::kServerOverloaded, "SERVER_OVERLOADED", StatusCode::kResourceExhausted, kFailed, Fault::kWorker,
     "Try again in a few seconds."},
    {Reason::kStoreFailed, "STORE_FAILED", StatusCode::kUnavailable, kFailed, Fault::kWorker,
     "Check the disk under the server's --data."},
    {Reason::kInternal, "INTERNAL", StatusCode::kInternal, kFailed, Fault::kWorker, "Report this with the message."},
    {Reason::kDeviceFailed, "DEVICE_FAILED", StatusCode::kUnavailable, kFailed, Fault::kWorker,
     "Look at the worker's GPU (`nvidia-smi`), or compute on the CPU with --device cpu."},
});

constexpr bool NumberedInOrder() {
  for (std::size_t i = 0; i < kReasons.size(); ++i) {
    if (static_cast<std::size_t>(kReasons[i].reason) != i) {
      return false;
    }
  }
  return true;
}
static_assert(NumberedInOrder());

}  // namespace

std::span<const ReasonInfo> Reasons() { return kReasons; }

const ReasonInfo& InfoOf(Reason reason) {
  const auto index = static_cast<std::size_t>(reason);
  return kReasons[index < kReasons.size() ? index : static_cast<std::size_t>(Reason::kInternal)];
}

Reason ReasonFromName(std::string_view name) {
  const auto* row = std::ranges::find(kReasons, name, &ReasonInfo::name);
  return row == kReasons.end() ? Reason::kUnspecified : row->reason;
}

}  // namespace slipway
