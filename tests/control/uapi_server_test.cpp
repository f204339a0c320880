// The UAPI server over real Unix sockets: requests in pieces, several a connection, clients that dawdle,
// and the socket file's life. The loop is stepped by the test; nothing sleeps.
#include "control/uapi_server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/control/local_client.h"

namespace sallyport {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

const std::string kKey(64, 'a');

class UapiServerTest : public testing::Test {
 protected:
  UapiServerTest()
      : socket_(std::move(*UapiSocket::open("wgtest", folder_.path()))),
        server_(context_, socket_,
                UapiService{[this](const SetRequest& request) -> Result<void> {
                              sets_.push_back(request);
                              if (refuse_ != 0) {
                                return fail("refused", refuse_);
                              }
                              return {};
                            },
                            [this] { return get_answer_; },
                            [] { return std::string("{}\nerrno=0\n\n"); }}) {}

  // Runs handlers until there is nothing more to do at once.
  void settle() {
    while (context_.poll() > 0) {
    }
  }
  std::string ask(Client& client, const std::string& text) {
    client.say(text);
    settle();
    return client.hear();
  }

  Folder folder_;
  boost::asio::io_context context_;
  UapiSocket socket_;
  std::vector<SetRequest> sets_;
  int refuse_ = 0;
  std::string get_answer_ = "errno=0\n\n";
  UapiServer server_;
};

TEST_F(UapiServerTest, AnswersGetSetAndStatusOnOneConnection) {
  Client client(socket_.path());
  EXPECT_EQ(ask(client, "get=1\n\n"), "errno=0\n\n");
  EXPECT_EQ(ask(client, "set=1\nlisten_port=1\n\n"), "errno=0\n\n");
  EXPECT_EQ(ask(client, "sallyport_status=1\n\n"), "{}\nerrno=0\n\n");
  EXPECT_EQ(ask(client, "set=1\n\n"), "errno=0\n\n");
  ASSERT_EQ(sets_.size(), 2u);
  EXPECT_EQ(sets_[0].listen_port, 1);
  EXPECT_FALSE(client.ended);
}

TEST_F(UapiServerTest, TakesSeveralRequestsInOnePiece) {
  Client client(socket_.path());
  EXPECT_EQ(ask(client, "get=1\n\nset=1\nlisten_port=x\n\nget=1\n\n"),
            "errno=0\n\nerrno=-22\n\nerrno=0\n\n");
}

TEST_F(UapiServerTest, TakesARequestByteByByte) {
  Client client(socket_.path());
  const std::string request = "set=1\nprivate_key=" + kKey + "\nlisten_port=7\n\n";
  for (size_t i = 0; i + 1 < request.size(); ++i) {
    ASSERT_EQ(ask(client, request.substr(i, 1)), "");
  }
  EXPECT_EQ(ask(client, "\n"), "errno=0\n\n");
  ASSERT_EQ(sets_.size(), 1u);
  EXPECT_EQ(sets_[0].listen_port, 7);
}

TEST_F(UapiServerTest, AnErrorAnywhereChangesNothingAndTheConnectionGoesOn) {
  Client client(socket_.path());
  EXPECT_EQ(ask(client, "set=1\nlisten_port=1\npublic_key=" + kKey + "\nbad=1\n\n"),
            "errno=-22\n\n");
  EXPECT_EQ(ask(client, "set=1\nnoequals\nlisten_port=1\n\n"), "errno=-71\n\n");
  EXPECT_TRUE(sets_.empty());
  EXPECT_EQ(ask(client, "get=1\n\n"), "errno=0\n\n");
}

TEST_F(UapiServerTest, TellsWhyASetFailed) {
  refuse_ = EADDRINUSE;
  Client client(socket_.path());
  EXPECT_EQ(ask(client, "set=1\nlisten_port=1\n\n"), "errno=-98\n\n");
}

TEST_F(UapiServerTest, EndsWithWhomItDoesNotUnderstand) {
  for (const char* nonsense :
       {"hello\n", "get=2\n\n", "set\n", "get=1\nlisten_port=1\n\n", "GET / HTTP/1.1\n\n"}) {
    Client client(socket_.path());
    EXPECT_EQ(ask(client, nonsense), "errno=22\n\n") << nonsense;
    EXPECT_TRUE(client.ended) << nonsense;
  }
}

TEST_F(UapiServerTest, EndsWithALineThatNeverEnds) {
  Client client(socket_.path());
  client.say("set=1\nprivate_key=");
  settle();
  std::string answer;
  for (int i = 0; i < 10 && !client.ended; ++i) {
    const std::string more(1000, 'a');
    send(client.fd(), more.data(), more.size(), MSG_NOSIGNAL);
    settle();
    answer += client.hear();
  }
  EXPECT_EQ(answer, "errno=-7\n\n");
  EXPECT_TRUE(client.ended);
  EXPECT_TRUE(sets_.empty());
}

TEST_F(UapiServerTest, TakesManyPeersInOneRequest) {
  constexpr size_t kPeers = 20'000;
  std::string request = "set=1\nreplace_peers=true\n";
  for (size_t i = 0; i < kPeers; ++i) {
    char key[65];
    std::snprintf(key, sizeof(key), "%064zx", i + 1);
    request += std::string("public_key=") + key + "\nreplace_allowed_ips=true\nallowed_ip=10." +
               std::to_string(i >> 16) + "." + std::to_string(i >> 8 & 255) + "." +
               std::to_string(i & 255) + "/32\n";
  }
  request += "\n";
  Client client(socket_.path());
  for (size_t sent = 0; sent < request.size();) {
    const ssize_t count = send(client.fd(), request.data() + sent, request.size() - sent,
                               MSG_NOSIGNAL | MSG_DONTWAIT);
    sent += count > 0 ? static_cast<size_t>(count) : 0;
    settle();
  }
  settle();
  EXPECT_EQ(client.hear(), "errno=0\n\n");
  ASSERT_EQ(sets_.size(), 1u);
  EXPECT_EQ(sets_[0].change.peers.size(), kPeers);
}

TEST_F(UapiServerTest, AClientThatDoesNotReadHoldsUpNobody) {
  get_answer_ = std::string(4 << 20, 'x') + "\nerrno=0\n\n";
  Client sulking(socket_.path());
  sulking.say("get=1\n\nget=1\n\n");
  settle();
  Client dribbling(socket_.path());
  dribbling.say("set=1\nlisten_po");
  settle();
  get_answer_ = "errno=0\n\n";
  Client other(socket_.path());
  EXPECT_EQ(ask(other, "get=1\n\n"), "errno=0\n\n");

  // And when it reads after all, it gets both answers whole.
  std::string heard;
  for (int i = 0; i < 10'000 && heard.size() < (4u << 20) + 19; ++i) {
    heard += sulking.hear();
    settle();
  }
  heard += sulking.hear();
  EXPECT_EQ(heard.size(), (4u << 20) + 1 + 9 + 9);
  EXPECT_TRUE(heard.ends_with("x\nerrno=0\n\nerrno=0\n\n"));
}

TEST_F(UapiServerTest, TheQuietestGivesWay) {
  std::vector<std::unique_ptr<Client>> clients;
  for (size_t i = 0; i < kUapiConnectionsMax; ++i) {
    clients.push_back(std::make_unique<Client>(socket_.path()));
    settle();
  }
  EXPECT_EQ(server_.connections(), kUapiConnectionsMax);
  EXPECT_EQ(ask(*clients[0], "get=1\n\n"), "errno=0\n\n");  // now the second is the quietest
  Client late(socket_.path());
  EXPECT_EQ(ask(late, "get=1\n\n"), "errno=0\n\n");
  EXPECT_EQ(server_.connections(), kUapiConnectionsMax);
  clients[0]->hear();
  clients[1]->hear();
  EXPECT_FALSE(clients[0]->ended);
  EXPECT_TRUE(clients[1]->ended);
}

TEST_F(UapiServerTest, ForgetsClientsThatGo) {
  {
    Client client(socket_.path());
    client.say("set=1\nlisten_port=1\n");  // never finished
    settle();
    EXPECT_EQ(server_.connections(), 1u);
  }
  settle();
  EXPECT_EQ(server_.connections(), 0u);
  EXPECT_TRUE(sets_.empty());
}

TEST_F(UapiServerTest, AnswersAClientThatHasShutDownWriting) {
  Client client(socket_.path());
  client.say("get=1\n\n");
  shutdown(client.fd(), SHUT_WR);
  settle();
  EXPECT_EQ(client.hear(), "errno=0\n\n");
}

// -- The socket file

TEST(UapiSocketTest, IsPrivateAndRemovedAtTheEnd) {
  const Folder folder;
  const std::string directory = folder.path() + "/wireguard";
  const std::string path = uapi_path("wg0", directory);
  {
    const auto socket = UapiSocket::open("wg0", directory);
    ASSERT_TRUE(socket) << socket.error().text;
    EXPECT_EQ(socket->path(), path);
    struct stat file {};
    ASSERT_EQ(lstat(path.c_str(), &file), 0);
    EXPECT_TRUE(S_ISSOCK(file.st_mode));
    EXPECT_EQ(file.st_mode & 07777, 0600u);
    ASSERT_EQ(stat(directory.c_str(), &file), 0);
    EXPECT_EQ(file.st_mode & 07777, 0755u);
    EXPECT_TRUE(socket->still_ours());
    EXPECT_EQ(std::distance(fs::directory_iterator(directory), fs::directory_iterator()), 1);
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST(UapiSocketTest, ReplacesAStaleFile) {
  const Folder folder;
  const std::string path = uapi_path("wg0", folder.path());
  {
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    close(fd);
  }
  ASSERT_TRUE(fs::exists(path));
  const auto socket = UapiSocket::open("wg0", folder.path());
  ASSERT_TRUE(socket) << socket.error().text;
  EXPECT_TRUE(Client(path).connected());
}

TEST(UapiSocketTest, LeavesALiveOneAlone) {
  const Folder folder;
  const auto first = UapiSocket::open("wg0", folder.path());
  ASSERT_TRUE(first);
  const auto second = UapiSocket::open("wg0", folder.path(), 0ms);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EADDRINUSE);
  EXPECT_NE(second.error().text.find("wg0.sock"), std::string::npos);
  EXPECT_TRUE(Client(first->path()).connected());
}

TEST(UapiSocketTest, DoesNotRemoveWhatSomebodyElseMade) {
  const Folder folder;
  const std::string path = uapi_path("wg0", folder.path());
  {
    const auto socket = UapiSocket::open("wg0", folder.path());
    ASSERT_TRUE(socket);
    fs::rename(path, path + ".old");  // keeps the inode from being used again
    std::ofstream(path) << "another's";
    EXPECT_FALSE(socket->still_ours());
  }
  EXPECT_TRUE(fs::exists(path));
}

TEST(UapiSocketTest, AdoptsAListeningSocketOnly) {
  const Folder folder;
  auto made = UapiSocket::open("wg0", folder.path());
  ASSERT_TRUE(made);
  const auto adopted = UapiSocket::adopt(dup(made->fd()), "wg0", folder.path());
  ASSERT_TRUE(adopted) << adopted.error().text;
  EXPECT_EQ(adopted->path(), made->path());
  EXPECT_TRUE(adopted->still_ours());
  const auto unseen = UapiSocket::adopt(dup(made->fd()), "wg1", folder.path());
  ASSERT_TRUE(unseen);
  EXPECT_EQ(unseen->path(), "");
  const int plain = socket(AF_UNIX, SOCK_STREAM, 0);
  EXPECT_FALSE(UapiSocket::adopt(plain, "wg0", folder.path()));
  close(plain);
  EXPECT_FALSE(UapiSocket::adopt(9999, "wg0", folder.path()));
}

TEST(UapiSocketTest, RefusesAPathTooLong) {
  const Folder folder;
  const auto socket = UapiSocket::open(std::string(120, 'x'), folder.path());
  ASSERT_FALSE(socket);
  EXPECT_EQ(socket.error().code, ENAMETOOLONG);
}

}  // namespace
}  // namespace sallyport
