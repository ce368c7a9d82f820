// Places where the crash tests kill the process, by name. Nothing is compiled in unless SLIPWAY_TEST_HOOKS is on.
#pragma once

#ifdef SLIPWAY_TEST_HOOKS

#include <string_view>

namespace slipway {

// Kills the process (SIGKILL) when the environment variable SLIPWAY_KILL_AT is `name`, or "name:n" and this is the
// n-th pass through that name (from 1). Thread-safe.
void KillPoint(std::string_view name);

}  // namespace slipway

#define SLIPWAY_KILL_POINT(name) ::slipway::KillPoint(name)

#else

#define SLIPWAY_KILL_POINT(name) static_cast<void>(0)

#endif
