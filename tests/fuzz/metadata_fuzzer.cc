// Any bytes as the index of a distributed checkpoint.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tests/support/memory_source.h"
#include "worker/engine/checkpoint/dist_index.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipway;
  const auto index = engine::DistIndex::Read(test::WindowOn({reinterpret_cast<const char*>(data), size}), "fuzz");
  if (index.ok()) {
    for (const engine::DistEntry& entry : (*index)->entries()) {
      (void)(*index)->Blocks(entry);
    }
  }
  return 0;
}
