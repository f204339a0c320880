// The far end of the benchmark's HTTP row: answers every request with the same body, keeps connections open, one thread.
//
//   http_server PORT BYTES
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;

using Request = http::request<http::empty_body>;
using Response = http::response<http::span_body<const char>>;

// One connection; lives as long as an operation of its own is pending.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(asio::ip::tcp::socket socket, const std::string& body)
      : stream_(std::move(socket)), body_(body) {
    beast::error_code ignored;
    stream_.socket().set_option(asio::ip::tcp::no_delay(true), ignored);
  }

  void read() {
    request_ = {};
    http::async_read(stream_, buffer_, request_,
                     [self = shared_from_this()](const beast::error_code& error, size_t) {
                       if (!error) {
                         self->answer();
                       }
                     });
  }

 private:
  void answer() {
    response_ = Response{http::status::ok, request_.version()};
    response_.body() = {body_.data(), body_.size()};
    response_.keep_alive(request_.keep_alive());
    response_.prepare_payload();
    http::async_write(stream_, response_,
                      [self = shared_from_this()](const beast::error_code& error, size_t) {
                        if (!error && self->response_.keep_alive()) {
                          self->read();
                        }
                      });
  }

  beast::tcp_stream stream_;
  const std::string& body_;
  beast::flat_buffer buffer_;
  Request request_;
  Response response_;
};

void accept(asio::ip::tcp::acceptor& acceptor, const std::string& body) {
  acceptor.async_accept([&](const beast::error_code& error, asio::ip::tcp::socket socket) {
    if (!error) {
      std::make_shared<Connection>(std::move(socket), body)->read();
    }
    accept(acceptor, body);
  });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "http_server PORT BYTES\n");
    return 2;
  }
  const std::string body(std::strtoul(argv[2], nullptr, 10), 'x');
  asio::io_context loop(1);
  asio::ip::tcp::acceptor acceptor(
      loop, {asio::ip::tcp::v4(), static_cast<uint16_t>(std::strtoul(argv[1], nullptr, 10))});
  accept(acceptor, body);
  loop.run();
}
