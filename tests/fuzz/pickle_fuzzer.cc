// Any bytes as a pickle: an error or a document that can be walked, never a crash, a hang or a flood of memory.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tests/support/memory_source.h"
#include "worker/engine/checkpoint/arguments.h"
#include "worker/engine/checkpoint/pickle.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slipway;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto document = engine::ParsePickle(test::WindowOn(bytes), {.file = "fuzz", .allow_persistent_ids = true});
  if (document.ok()) {
    (void)engine::PickleToJson(*document, document->root());
    (void)engine::ReadCommonState(*document, document->root());
  }
  return 0;
}
