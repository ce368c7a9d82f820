// The quantizer of the device that a worker was given.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "worker/engine/quantize/quantizer.h"

namespace slipway::engine {

// `device`: "cpu", "cuda" (the first), "cuda:N", or "auto": a GPU where there is one, else the processor; the bytes are
// the same. `gpu_memory_budget`: what it takes of the device at most; absent: half of what is free. DEVICE_FAILED for a
// GPU that was named and is not there or has too little memory; "auto" then takes the processor. May take a second, as
// the driver starts.
absl::StatusOr<std::unique_ptr<Quantizer>> MakeDeviceQuantizer(const std::string& device,
                                                               std::optional<std::int64_t> gpu_memory_budget);

}  // namespace slipway::engine
