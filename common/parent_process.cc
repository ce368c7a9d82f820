#include "common/parent_process.h"

#include <sys/prctl.h>
#include <unistd.h>

namespace slipway {

bool EndWithParent(pid_t parent, int signal) { return prctl(PR_SET_PDEATHSIG, signal) == 0 && getppid() == parent; }

}  // namespace slipway
