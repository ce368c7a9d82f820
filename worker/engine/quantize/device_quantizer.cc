#include "worker/engine/quantize/device_quantizer.h"

#include <charconv>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "common/error.h"
#include "worker/engine/device/cuda_devices.h"
#include "worker/engine/quantize/cpu_quantizer.h"
#include "worker/engine/quantize/cuda/cuda_quantizer.h"

namespace slipway::engine {
namespace {

constexpr std::string_view kCuda = "cuda";

// The number behind "cuda:", or 0 for "cuda" and "auto".
int IndexOf(std::string_view device) {
  int index = 0;
  if (device.size() > kCuda.size() && device.starts_with(kCuda)) {
    const std::string_view number = device.substr(kCuda.size() + 1);
    std::from_chars(number.data(), number.data() + number.size(), index);
  }
  return index;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Quantizer>> MakeDeviceQuantizer(const std::string& device,
                                                               std::optional<std::int64_t> gpu_memory_budget) {
  const bool automatic = device.empty() || device == "auto";
  if (device == "cpu" || (automatic && CudaDevices().empty())) {
    return MakeCpuQuantizer();
  }
  const int index = IndexOf(device);
  const std::int64_t budget = gpu_memory_budget.value_or(FreeCudaMemory(index) / 2);
  absl::StatusOr<std::unique_ptr<Quantizer>> quantizer = MakeCudaQuantizer(index, budget);
  if (quantizer.ok() && *quantizer != nullptr) {
    return quantizer;
  }
  if (automatic) {
    return MakeCpuQuantizer();
  }
  return quantizer.ok()
             ? Error(Reason::kDeviceFailed, fmt::format("--device {}: this program was built without CUDA", device))
             : quantizer.status();
}

}  // namespace slipway::engine
