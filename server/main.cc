// slipway-server: the coordinator.
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iterator>

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <CLI/CLI.hpp>

#include "common/error.h"
#include "common/parent_process.h"
#include "server/server.h"

namespace slipway::server {
namespace {

// Flags that are not options of the server itself.
struct Flags {
  std::string config;
  std::string log_level;
};

void AddFlags(CLI::App& app, ServerOptions& options, Flags& flags) {
  app.set_version_flag("--version", std::string("slipway-server ") + SLIPWAY_VERSION);
  app.add_option("--listen", options.listen, "HOST:PORT (port 0 takes a free one) or unix:PATH")->required();
  app.add_option("--data", options.data, "directory of the store; one server at a time")->required();
  app.add_option("--artifacts", options.roots.artifacts, "directory that artifacts are published under")->required();
  app.add_option("--http", options.http, "HOST:PORT for /metrics, /healthz and /readyz");
  app.add_option("--config", flags.config, "YAML file; server/options.h documents its keys")->check(CLI::ExistingFile);
  app.add_option("--log-level", flags.log_level, "debug, info, warning, error or off");
  app.add_option("--exit-with-parent", options.parent, "end when process PID, which started this one, ends")
      ->type_name("PID");
}

// Signals are blocked before there are threads, so that only sigwait below takes them.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return signals;
}

absl::Status ReadConfig(const std::string& path, ServerOptions& options) {
  if (path.empty()) {
    return absl::OkStatus();
  }
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return AddWhere(ApplyConfig(text, options), Where{.file = path});
}

absl::Status Serve(ServerOptions& options, const Flags& flags) {
  const sigset_t signals = BlockSignals();
  if (options.parent != 0 && !EndWithParent(options.parent, SIGTERM)) {
    return absl::OkStatus();
  }
  SLIPWAY_RETURN_IF_ERROR(ReadConfig(flags.config, options));
  if (!flags.log_level.empty()) {
    options.log.level = flags.log_level;
  }
  SLIPWAY_RETURN_IF_ERROR(SetUpLogging(options.log));
  SLIPWAY_RETURN_IF_ERROR(CompleteOptions(options));
  SLIPWAY_ASSIGN_OR_RETURN(const std::unique_ptr<Server> server, Server::Start(options, SystemClock()));
  spdlog::info("ready: listening on {}{}, store in {}, artifacts in {}", server->address(),
               options.http.empty() ? "" : fmt::format(", HTTP on port {}", server->http_port()), options.data,
               options.roots.artifacts);
  int signal = 0;
  sigwait(&signals, &signal);
  spdlog::info("stopping: {}", signal == SIGTERM ? "SIGTERM" : "SIGINT");
  server->Stop();
  return absl::OkStatus();
}

}  // namespace
}  // namespace slipway::server

int main(int argc, char** argv) {
  CLI::App app("slipway-server: accepts exports, keeps them, and shares them out among slipway-worker processes.");
  slipway::server::ServerOptions options;
  slipway::server::Flags flags;
  slipway::server::AddFlags(app, options, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool asked = error.get_exit_code() == 0;
    app.exit(error);
    return asked ? 0 : static_cast<int>(slipway::ExitStatus::kUsage);
  }
  if (const absl::Status status = slipway::server::Serve(options, flags); !status.ok()) {
    fmt::print(stderr, "slipway-server: {}\n", slipway::Describe(status));
    return static_cast<int>(slipway::InfoOf(slipway::ReasonOf(status)).exit_status);
  }
  return 0;
}
