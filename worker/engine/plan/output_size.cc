#include "worker/engine/plan/output_size.h"

#include "common/checked_math.h"
#include "common/error.h"

namespace slipway::engine {

absl::Status SetBytes(const std::string& blamed, OutputTensor& tensor) {
  const auto elements = CheckedVolume(tensor.shape);
  const auto bytes = elements ? CheckedMultiply(*elements, InfoOf(tensor.dtype).bytes) : std::nullopt;
  if (!bytes) {
    return Error(Reason::kLimitExceeded, "has more than 2^63 bytes", {.tensor = blamed});
  }
  tensor.bytes = *bytes;
  return absl::OkStatus();
}

}  // namespace slipway::engine
