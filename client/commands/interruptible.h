// The frame of commands that take their time and can be interrupted.
#pragma once

#include <functional>
#include <stop_token>

#include "absl/status/status.h"
#include "client/console.h"
#include "common/reason.h"

namespace slipway {

// Runs `command` with a token that SIGINT and SIGTERM trigger, prints its failure, and returns the exit status:
// kInterrupted where it failed and was interrupted. Call it before any other thread is started.
ExitStatus RunInterruptibly(const std::function<absl::Status(const std::stop_token& stop)>& command,
                            const Console& console);

}  // namespace slipway
