#include "control/local_server.h"

#include <unistd.h>

#include <tuple>
#include <utility>

#include "control/limits.h"
#include "control/uapi.h"
#include "crypto/secret.h"

namespace sallyport {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

void stop(asio::steady_timer& timer) {
  timer.expires_at(asio::steady_timer::time_point::max());
}

}  // namespace

// -- One connection

LocalServer::Session::Session(Connection connection)
    : connection_(std::move(connection)),
      unread_(connection_.get_executor()),
      silent_(connection_.get_executor()),
      input_(kLocalReadBytes) {}

LocalServer::Session::~Session() {
  crypto::secure_zero(input_.data(), input_.size());
  wipe(answer_);
}

void LocalServer::Session::start(LocalServer& server, Sessions::iterator place) {
  server_ = &server;
  place_ = place;
  started();
}

void LocalServer::Session::end() {
  if (server_ == nullptr) {
    return;
  }
  std::exchange(server_, nullptr)->remove(place_);
  error_code ignored;
  std::ignore = unread_.cancel(ignored);
  std::ignore = silent_.cancel(ignored);
  std::ignore = connection_.close(ignored);
  ended();
}

// A handler of a timer that was stopped may be queued already: so the time counts, not the handler.
void LocalServer::Session::end_after(asio::steady_timer& timer,
                                     std::chrono::milliseconds patience) {
  timer.expires_after(patience);
  timer.async_wait([weak = weak_from_this(), &timer](error_code error) {
    const auto self = weak.lock();
    if (self != nullptr && !error && timer.expiry() <= std::chrono::steady_clock::now()) {
      self->end();
    }
  });
}

void LocalServer::Session::read(bool forever) {
  if (!forever && server_->limits_.silent.count() != 0) {
    end_after(silent_, server_->limits_.silent);
  }
  connection_.async_read_some(asio::buffer(input_),
                              [self = shared_from_this()](error_code error, size_t bytes) {
                                if (error || !self->alive()) {
                                  self->end();
                                  return;
                                }
                                stop(self->silent_);
                                self->server_->touch(self->place_);
                                self->heard({self->input_.data(), bytes});
                              });
}

void LocalServer::Session::write(std::string answer) {
  stop(silent_);  // it is our turn to speak
  answer_ = std::move(answer);
  written_ = 0;
  write_rest();
}

void LocalServer::Session::write_rest() {
  end_after(unread_, server_->limits_.unread);
  connection_.async_write_some(asio::buffer(answer_.data() + written_, answer_.size() - written_),
                               [self = shared_from_this()](error_code error, size_t bytes) {
                                 if (error || !self->alive()) {
                                   self->end();
                                   return;
                                 }
                                 self->server_->touch(self->place_);
                                 self->written_ += bytes;
                                 if (self->written_ < self->answer_.size()) {
                                   self->write_rest();
                                   return;
                                 }
                                 stop(self->unread_);
                                 wipe(self->answer_);
                                 self->answer_.shrink_to_fit();
                                 self->wrote();
                               });
}

// -- The server

LocalServer::LocalServer(asio::io_context& context, int fd, LocalServerLimits limits,
                         MakeSession make)
    : limits_(limits), make_(std::move(make)), acceptor_(context), retry_(context) {
  acceptor_.assign(asio::local::stream_protocol(), dup(fd));
  accept();
}

LocalServer::~LocalServer() {
  while (!sessions_.empty()) {
    if (const auto session = sessions_.front().lock()) {
      session->end();
    } else {
      sessions_.pop_front();
    }
  }
}

void LocalServer::accept() {
  acceptor_.async_accept([this](error_code error, Connection connection) {
    if (error == asio::error::operation_aborted) {
      return;
    }
    if (error) {  // out of descriptors, most likely: trying at once would only spin
      retry_.expires_after(std::chrono::milliseconds(100));
      retry_.async_wait([this](error_code cancelled) {
        if (!cancelled) {
          accept();
        }
      });
      return;
    }
    add(std::move(connection));
    accept();
  });
}

void LocalServer::add(Connection connection) {
  if (sessions_.size() >= limits_.connections) {
    if (const auto quietest = sessions_.front().lock()) {
      quietest->end();
    }
  }
  const auto session = make_(std::move(connection));
  session->start(*this, sessions_.insert(sessions_.end(), session));
}

void LocalServer::touch(Sessions::iterator place) {
  sessions_.splice(sessions_.end(), sessions_, place);
}

void LocalServer::remove(Sessions::iterator place) {
  sessions_.erase(place);
}

}  // namespace sallyport
