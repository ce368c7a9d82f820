#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include <unistd.h>

#include "client/application.h"
#include "client/exit.h"
#include "common/error.h"

int main(int argc, char** argv) {
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
