#include "common/kill_point.h"

#ifdef SLIPWAY_TEST_HOOKS

#include <csignal>
#include <cstdlib>

#include <atomic>
#include <charconv>
#include <string>

namespace slipway {
namespace {

// What SLIPWAY_KILL_AT says, read once, and how many passes are left. A test hook: the one counter of the process.
struct Target {
  std::string name;
  std::atomic<int> passes_left{0};

  Target() {
    const char* variable = std::getenv("SLIPWAY_KILL_AT");  // NOLINT(concurrency-mt-unsafe): nobody sets it
    const std::string_view value = variable == nullptr ? "" : variable;
    const std::size_t colon = value.find(':');
    name = value.substr(0, colon);
    int passes = 1;
    if (colon != std::string_view::npos) {
      std::from_chars(value.data() + colon + 1, value.data() + value.size(), passes);
    }
    passes_left = passes;
  }
};

}  // namespace

void KillPoint(std::string_view name) {
  static Target target;
  if (!target.name.empty() && target.name == name && target.passes_left.fetch_sub(1) == 1) {
    std::raise(SIGKILL);
  }
}

}  // namespace slipway

#endif
