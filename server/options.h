// What slipway-server is told: flags, and the YAML file that --config names. A flag wins over the file.
#pragma once

#include <string>
#include <vector>

#include <sys/types.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/logging.h"
#include "server/coordinator.h"
#include "server/outputs.h"

namespace slipway::server {

struct ServerOptions {
  std::string listen;     // HOST:PORT or unix:PATH
  std::string data;       // directory of the store
  std::string http = {};  // HOST:PORT; empty: no HTTP
  pid_t parent = 0;       // ends with this process; 0: with none
  OutputRoots roots = {};
  CoordinatorOptions coordinator = {};
  LogOptions log = {.program = "slipway-server"};
};

// Takes over what the YAML text says:
//
//   publish_roots: [/exports]        checkpoint_roots: [/checkpoints]
//   log: {level: info, format: json}
//   scheduling: {lease_seconds: 15, stuck_seconds: 120, maximum_faults: 3, maximum_losses: 5, idle_call_seconds: 20}
//
// INVALID_ARGUMENT names a key that is unknown or has a wrong value.
absl::Status ApplyConfig(const std::string& yaml, ServerOptions& options);

// Makes paths absolute and checks that they can be used.
absl::Status CompleteOptions(ServerOptions& options);

}  // namespace slipway::server
