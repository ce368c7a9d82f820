// For programs that another one starts for itself: they end when it ends, however it ends.
#pragma once

#include <sys/types.h>

namespace slipway {

// Has the kernel send `signal` to this process when the thread that started it ends. False if `parent`, the process
// that started this one, has ended already: asking for the parent's number here would not tell, after a late start.
[[nodiscard]] bool EndWithParent(pid_t parent, int signal);

}  // namespace slipway
