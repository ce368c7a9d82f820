#include "client/commands/interruptible.h"

#include "client/exit.h"
#include "client/interrupts.h"

namespace slipway {

ExitStatus RunInterruptibly(const std::function<absl::Status(const std::stop_token& stop)>& command,
                            const Console& console) {
  const Interrupts interrupts;
  const absl::Status status = command(interrupts.token());
  const ExitStatus exit_status = Finish(status, console);
  return interrupts.interrupted() && !status.ok() ? ExitStatus::kInterrupted : exit_status;
}

}  // namespace slipway
