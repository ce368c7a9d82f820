#include "worker/engine/device/device.h"

#include <iterator>
#include <utility>

#include "worker/engine/device/cuda_devices.h"

namespace slipway::engine {

std::vector<Device> UsableDevices() {
  std::vector<Device> devices{{.name = "cpu", .capability = "cpu", .model = "", .memory_bytes = 0}};
  std::vector<Device> cuda = CudaDevices();
  devices.insert(devices.end(), std::make_move_iterator(cuda.begin()), std::make_move_iterator(cuda.end()));
  return devices;
}

}  // namespace slipway::engine
