// A small HTTP/1.1 server for metrics and probes: GET only, one thread, a bounded number of connections.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace slipway::server {

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

class HttpServer {
 public:
  // Called on the server's thread with the path of a GET; may block for moments.
  using Handler = std::function<HttpResponse(const std::string& path)>;

  // Listens on HOST:PORT; port 0 takes a free one.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& address, Handler handler);
  // Closes all connections and ends the thread.
  ~HttpServer();

  [[nodiscard]] int port() const;

 private:
  struct State;
  explicit HttpServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace slipway::server
