#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include <sys/resource.h>
#include <unistd.h>

#include "client/application.h"
#include "client/exit.h"
#include "common/error.h"

namespace {

// Downloads hold every file of an artifact open; the usual soft limit of 1024 is for programs that use select().
void RaiseOpenFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

}  // namespace

int main(int argc, char** argv) {
  RaiseOpenFileLimit();
  slipway::Console console{.out = std::cout,
                           .err = std::cerr,
                           .out_terminal = slipway::DescribeTerminal(STDOUT_FILENO),
                           .err_terminal = slipway::DescribeTerminal(STDERR_FILENO)};
  try {
    const slipway::ExitStatus status =
        slipway::RunApplication(std::vector<std::string>(argv + 1, argv + argc), console);
    if (!std::cout.flush()) {
      return static_cast<int>(slipway::ExitStatus::kFailed);
    }
    return static_cast<int>(status);
  } catch (const std::exception& exception) {
    return static_cast<int>(slipway::Finish(slipway::Error(slipway::Reason::kInternal, exception.what()), console));
  }
}
