#include "server/http/http_server.h"

#include <chrono>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "common/error.h"

namespace slipway::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using Tcp = asio::ip::tcp;

constexpr int kMaximumConnections = 64;
constexpr std::size_t kMaximumRequest = std::size_t{16} << 10;
constexpr std::chrono::seconds kConnectionTimeout{10};

// One request, one answer, then the connection is closed. Keeps itself alive through its handlers.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Tcp::socket socket, const HttpServer::Handler& handler, int& open)
      : stream_(std::move(socket)), handler_(handler), open_(open) {
    ++open_;
    parser_.body_limit(kMaximumRequest);
    parser_.header_limit(kMaximumRequest);
  }
  ~Connection() { --open_; }

  void Start() {
    stream_.expires_after(kConnectionTimeout);
    http::async_read(stream_, buffer_, parser_, [self = shared_from_this()](beast::error_code error, std::size_t) {
      if (!error) {
        self->Answer();
      }
    });
  }

 private:
  void Answer() {
    const auto& request = parser_.get();
    HttpResponse answer{.status = 405, .body = "only GET\n"};
    if (request.method() == http::verb::get) {
      const std::string target(request.target());
      answer = handler_(target.substr(0, target.find('?')));
    }
    response_.result(static_cast<unsigned>(answer.status));
    response_.set(http::field::content_type, answer.content_type);
    response_.set(http::field::connection, "close");
    response_.body() = std::move(answer.body);
    response_.prepare_payload();
    http::async_write(stream_, response_, [self = shared_from_this()](beast::error_code, std::size_t) {
      beast::error_code ignored;
      self->stream_.socket().shutdown(Tcp::socket::shutdown_send, ignored);
    });
  }

  beast::tcp_stream stream_;
  const HttpServer::Handler& handler_;
  int& open_;
  beast::flat_buffer buffer_;
  http::request_parser<http::string_body> parser_;
  http::response<http::string_body> response_;
};

}  // namespace

struct HttpServer::State {
  explicit State(Handler the_handler) : handler(std::move(the_handler)) {}

  void Accept() {
    acceptor.async_accept([this](beast::error_code error, Tcp::socket socket) {
      if (!acceptor.is_open()) {
        return;
      }
      if (!error && open < kMaximumConnections) {
        std::make_shared<Connection>(std::move(socket), handler, open)->Start();
      }
      Accept();
    });
  }

  Handler handler;
  int open = 0;  // of the thread; before what counts in it
  asio::io_context context{1};
  Tcp::acceptor acceptor{context};
  std::thread thread;
};

HttpServer::HttpServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

HttpServer::~HttpServer() {
  state_->context.stop();
  state_->thread.join();
}

int HttpServer::port() const { return state_->acceptor.local_endpoint().port(); }

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& address, Handler handler) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos) {
    return Error(Reason::kInvalidArgument, "--http must be HOST:PORT.");
  }
  auto state = std::make_unique<State>(std::move(handler));
  beast::error_code error;
  Tcp::resolver resolver(state->context);
  const auto endpoints = resolver.resolve(address.substr(0, colon), address.substr(colon + 1), error);
  if (!error && !endpoints.empty()) {
    const Tcp::endpoint endpoint = *endpoints.begin();
    state->acceptor.open(endpoint.protocol(), error);
    if (!error) {
      state->acceptor.set_option(asio::socket_base::reuse_address(true), error);
      state->acceptor.bind(endpoint, error);
    }
    if (!error) {
      state->acceptor.listen(asio::socket_base::max_listen_connections, error);
    }
  }
  if (error || !state->acceptor.is_open()) {
    return Error(Reason::kInvalidArgument, fmt::format("Cannot listen on --http {}: {}.", address, error.message()));
  }
  state->Accept();
  state->thread = std::thread([raw = state.get()] { raw->context.run(); });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

}  // namespace slipway::server
