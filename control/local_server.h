// LocalServer: clients of a LocalSocket, served side by side on one thread.
//
// Who speaks what is the session's business: derive from LocalServer::Session and say what to do with bytes
// that came and when an answer is out. Everything is asynchronous: a client that dribbles or never reads its
// answer holds up nobody else. At the connection limit the one that has been quiet longest gives way; an
// answer that nobody reads for a while is given up with its client, and so is a silence where the limits say so.
//
// Costs: kLocalReadBytes a connection, and the answer it is being given.
// Thread rules: everything on the thread that runs the io_context.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sallyport {

struct LocalServerLimits {
  size_t connections = 1;
  std::chrono::milliseconds unread{};  // an answer nobody reads
  std::chrono::milliseconds silent{};  // a client that says nothing; 0: it may
};

class LocalServer {
 public:
  using Connection = boost::asio::local::stream_protocol::socket;

  class Session;
  using MakeSession = std::function<std::shared_ptr<Session>(Connection connection)>;

  // `fd` is duplicated. Accepts at once.
  LocalServer(boost::asio::io_context& context, int fd, LocalServerLimits limits, MakeSession make);
  ~LocalServer();  // ends every session
  LocalServer(const LocalServer&) = delete;
  LocalServer& operator=(const LocalServer&) = delete;

  size_t connections() const { return sessions_.size(); }

 private:
  using Sessions = std::list<std::weak_ptr<Session>>;

  void accept();
  void add(Connection connection);
  void touch(Sessions::iterator place);  // was active just now: to the end of the list
  void remove(Sessions::iterator place);

  const LocalServerLimits limits_;
  MakeSession make_;
  boost::asio::local::stream_protocol::acceptor acceptor_;
  boost::asio::steady_timer retry_;
  Sessions sessions_;  // longest quiet first
};

// One connection. Lives as long as something is under way on it.
class LocalServer::Session : public std::enable_shared_from_this<Session> {
 public:
  explicit Session(Connection connection);
  virtual ~Session();  // wipes what came in and what went out: it may be keys
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Also when the server ends before us: a handler still queued finds nothing to do.
  void end();

 protected:
  virtual void started() { read(); }
  virtual void heard(std::string_view bytes) = 0;  // valid until the next read()
  virtual void wrote() = 0;                        // all of the answer is out
  virtual void ended() {}

  // At most one read and one write at a time, side by side if need be. With `forever` silence is no offence.
  void read(bool forever = false);
  void write(std::string answer);
  bool alive() const { return server_ != nullptr; }
  Connection& connection() { return connection_; }

 private:
  friend class LocalServer;
  void start(LocalServer& server, Sessions::iterator place);
  void write_rest();
  void end_after(boost::asio::steady_timer& timer, std::chrono::milliseconds patience);

  LocalServer* server_ = nullptr;
  Sessions::iterator place_;
  Connection connection_;
  boost::asio::steady_timer unread_, silent_;
  std::vector<char> input_;
  std::string answer_;
  size_t written_ = 0;
};

}  // namespace sallyport
