// The control socket over real Unix sockets: requests and answers, traces, clients that dawdle, who may ask, and the blocking
// client at the other end. The loop is stepped by the test, but for the blocking client's sake a thread runs it.
#include "control/control_server.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cstdlib>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "control/control_client.h"
#include "control/limits.h"
#include "tests/control/local_client.h"

namespace sallyport {
namespace {

using namespace std::chrono_literals;

class ControlServerTest : public testing::Test {
 protected:
  ControlServerTest()
      : socket_(std::move(*LocalSocket::open(folder_.path() + "/control.sock", "socket", 0ms))),
        server_(std::make_unique<ControlServer>(context_, socket_, service())) {}

  ControlService service() {
    return {[this](const Json& request) { return answer(request); },
            [this](const Json& request,
                   TraceSink sink) -> std::expected<ControlService::Stop, ControlFailure> {
              if (request.contains("refuse")) {
                return control_fail("no such peer");
              }
              sink_ = sink;
              ++begun_;
              return [this] { ++stopped_; };
            }};
  }

  ControlResult answer(const Json& request) {
    requests_.push_back(request);
    if (fail_all_) {
      return control_fail("3 errors", {"a.toml:1: x", "a.toml:2: y"});
    }
    if (const auto known = results_.find(request["do"]); known != results_.end()) {
      return known->second;
    }
    if (request["do"] == "fail") {
      return control_fail("3 errors", {"a.toml:1: x", "a.toml:2: y"});
    }
    if (request["do"] == "typed") {
      return Json(request.at("confirm_s").get<int>());
    }
    if (request["do"] == "long") {
      return Json(std::string(4 << 20, 'x'));
    }
    return Json{{"asked", request["do"]}};
  }

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
  LocalSocket socket_;
  std::vector<Json> requests_;
  std::map<std::string, Json> results_;
  bool fail_all_ = false;
  std::optional<TraceSink> sink_;
  int begun_ = 0, stopped_ = 0;
  std::unique_ptr<ControlServer> server_;
};

TEST_F(ControlServerTest, AnswersEachLineInOrder) {
  Client client(socket_.path());
  EXPECT_EQ(ask(client, "{\"do\":\"show\",\"what\":\"rules\"}\n"),
            "{\"ok\":true,\"result\":{\"asked\":\"show\"}}\n");
  ASSERT_EQ(requests_.size(), 1u);
  EXPECT_EQ(requests_[0]["what"], "rules");
  EXPECT_EQ(
      ask(client, "{\"do\":\"a\"}\n\n  \r\n{\"do\":\"b\"}\n"),
      "{\"ok\":true,\"result\":{\"asked\":\"a\"}}\n{\"ok\":true,\"result\":{\"asked\":\"b\"}}\n");
  EXPECT_FALSE(client.ended);
}

TEST_F(ControlServerTest, TakesARequestByteByByte) {
  Client client(socket_.path());
  const std::string request = "{\"do\":\"status\"}\n";
  for (size_t i = 0; i + 1 < request.size(); ++i) {
    ASSERT_EQ(ask(client, request.substr(i, 1)), "");
  }
  EXPECT_EQ(ask(client, "\n"), "{\"ok\":true,\"result\":{\"asked\":\"status\"}}\n");
}

TEST_F(ControlServerTest, TellsWhatFailedWithItsDetails) {
  Client client(socket_.path());
  EXPECT_EQ(
      ask(client, "{\"do\":\"fail\"}\n"),
      "{\"ok\":false,\"error\":\"3 errors\",\"details\":[\"a.toml:1: x\",\"a.toml:2: y\"]}\n");
  EXPECT_EQ(ask(client, "{\"do\":\"a\"}\n"), "{\"ok\":true,\"result\":{\"asked\":\"a\"}}\n");
}

TEST_F(ControlServerTest, NonsenseIsAnsweredAndTheConnectionGoesOn) {
  Client client(socket_.path());
  const std::string deep =
      "{\"do\":\"x\",\"y\":" + std::string(30'000, '[') + std::string(30'000, ']') + "}";
  for (const std::string& nonsense :
       {std::string("hello"), std::string("[]"), std::string("{}"), std::string("{\"do\":1}"),
        std::string("{\"do\":\"x\"} {"), std::string("\"do\""), std::string("{\"do\":\"\xff\"}"),
        deep}) {
    const Json answer = Json::parse(ask(client, nonsense + "\n"));
    EXPECT_EQ(answer["ok"], false) << nonsense.substr(0, 40);
    EXPECT_NE(answer["error"].get<std::string>().find("one JSON object"), std::string::npos);
  }
  EXPECT_TRUE(requests_.empty());
  for (const char* ill_typed : {"{\"do\":\"typed\"}\n", "{\"do\":\"typed\",\"confirm_s\":\"x\"}\n",
                                "{\"do\":\"trace\",\"count\":\"x\"}\n"}) {
    EXPECT_EQ(Json::parse(ask(client, ill_typed))["ok"], false) << ill_typed;
  }
  EXPECT_EQ(begun_, 0);
  EXPECT_EQ(ask(client, "{\"do\":\"typed\",\"confirm_s\":7}\n"), "{\"ok\":true,\"result\":7}\n");
}

TEST_F(ControlServerTest, EndsWithALineThatNeverEnds) {
  Client client(socket_.path());
  std::string answer;
  for (int i = 0; i < 100 && !client.ended; ++i) {
    const std::string more(1000, 'a');
    send(client.fd(), more.data(), more.size(), MSG_NOSIGNAL);
    settle();
    answer += client.hear();
  }
  EXPECT_EQ(Json::parse(answer)["ok"], false);
  EXPECT_TRUE(client.ended);
  EXPECT_TRUE(requests_.empty());
}

TEST_F(ControlServerTest, AnswersAClientThatHasShutDownWriting) {
  Client client(socket_.path());
  client.say("{\"do\":\"a\"}\n");
  shutdown(client.fd(), SHUT_WR);
  settle();
  EXPECT_EQ(client.hear(), "{\"ok\":true,\"result\":{\"asked\":\"a\"}}\n");
}

TEST_F(ControlServerTest, AClientThatDoesNotReadHoldsUpNobody) {
  Client sulking(socket_.path());
  sulking.say("{\"do\":\"long\"}\n{\"do\":\"a\"}\n");
  settle();
  EXPECT_EQ(requests_.size(), 1u);  // the second waits until the first answer is read
  Client dribbling(socket_.path());
  dribbling.say("{\"do\":");
  Client other(socket_.path());
  EXPECT_EQ(ask(other, "{\"do\":\"b\"}\n"), "{\"ok\":true,\"result\":{\"asked\":\"b\"}}\n");
  std::string heard;
  for (int i = 0; i < 10'000 && !heard.ends_with("\"a\"}}\n"); ++i) {
    heard += sulking.hear();
    settle();
  }
  EXPECT_TRUE(heard.ends_with("xxx\"}\n{\"ok\":true,\"result\":{\"asked\":\"a\"}}\n"));
}

TEST_F(ControlServerTest, TheQuietestGivesWay) {
  std::vector<std::unique_ptr<Client>> clients;
  for (size_t i = 0; i < kControlConnectionsMax; ++i) {
    clients.push_back(std::make_unique<Client>(socket_.path()));
    settle();
  }
  ask(*clients[0], "{\"do\":\"a\"}\n");
  Client late(socket_.path());
  EXPECT_NE(ask(late, "{\"do\":\"a\"}\n"), "");
  EXPECT_EQ(server_->connections(), kControlConnectionsMax);
  clients[0]->hear();
  clients[1]->hear();
  EXPECT_FALSE(clients[0]->ended);
  EXPECT_TRUE(clients[1]->ended);
}

// -- Traces

TEST_F(ControlServerTest, TracesUntilTheCount) {
  Client client(socket_.path());
  EXPECT_EQ(ask(client, "{\"do\":\"trace\",\"count\":2}\n"), "");
  ASSERT_TRUE(sink_);
  EXPECT_TRUE(sink_->event({{"n", 1}}));
  settle();
  EXPECT_EQ(client.hear(), "{\"event\":{\"n\":1}}\n");
  EXPECT_EQ(stopped_, 0);
  EXPECT_FALSE(sink_->event({{"n", 2}}));
  EXPECT_FALSE(sink_->event({{"n", 3}}));
  EXPECT_EQ(stopped_, 1);
  settle();
  EXPECT_EQ(client.hear(),
            "{\"event\":{\"n\":2}}\n{\"ok\":true,\"result\":{\"events\":2,\"lost\":0}}\n");
  EXPECT_EQ(ask(client, "{\"do\":\"a\"}\n"), "{\"ok\":true,\"result\":{\"asked\":\"a\"}}\n");
}

TEST_F(ControlServerTest, TheNextRequestEndsATrace) {
  Client client(socket_.path());
  ask(client, "{\"do\":\"trace\"}\n");
  EXPECT_TRUE(sink_->event({{"n", 1}}));
  EXPECT_EQ(ask(client, "{\"do\":\"a\"}\n"),
            "{\"event\":{\"n\":1}}\n{\"ok\":true,\"result\":{\"events\":1,\"lost\":0}}\n"
            "{\"ok\":true,\"result\":{\"asked\":\"a\"}}\n");
  EXPECT_EQ(stopped_, 1);
  EXPECT_FALSE(sink_->event({}));
}

TEST_F(ControlServerTest, ATraceEndsWithItsClient) {
  {
    Client client(socket_.path());
    ask(client, "{\"do\":\"trace\"}\n");
    EXPECT_TRUE(sink_->event({}));
  }
  settle();
  EXPECT_EQ(stopped_, 1);
  EXPECT_FALSE(sink_->event({}));
  sink_->end();
  EXPECT_EQ(server_->connections(), 0u);
}

TEST_F(ControlServerTest, ATraceEndsWithItsServer) {
  Client client(socket_.path());
  ask(client, "{\"do\":\"trace\"}\n");
  server_.reset();
  EXPECT_EQ(stopped_, 1);
  EXPECT_FALSE(sink_->event({}));
  settle();
  client.hear();
  EXPECT_TRUE(client.ended);
}

TEST_F(ControlServerTest, TheServiceMayRefuseOrEndATrace) {
  Client client(socket_.path());
  EXPECT_EQ(ask(client, "{\"do\":\"trace\",\"refuse\":1}\n"),
            "{\"ok\":false,\"error\":\"no such peer\"}\n");
  ask(client, "{\"do\":\"trace\"}\n");
  sink_->end();
  settle();
  EXPECT_EQ(client.hear(), "{\"ok\":true,\"result\":{\"events\":0,\"lost\":0}}\n");
  EXPECT_EQ(stopped_, 1);
}

TEST_F(ControlServerTest, ASlowReaderLosesEventsAndIsToldHowMany) {
  Client client(socket_.path());
  ask(client, "{\"do\":\"trace\"}\n");
  constexpr uint64_t kEvents = 10'000;
  const Json event{{"text", std::string(1000, 'x')}};
  for (uint64_t i = 0; i < kEvents; ++i) {
    ASSERT_TRUE(sink_->event(event));
    settle();
  }
  sink_->end();
  std::string heard;
  for (int i = 0; i < 10'000 && heard.find("\"ok\"") == std::string::npos; ++i) {
    settle();
    heard += client.hear();
  }
  uint64_t told = 0;
  for (size_t at = 0; (at = heard.find("{\"event\"", at)) != std::string::npos; ++at) {
    ++told;
  }
  const Json end = Json::parse(heard.substr(heard.find("{\"ok\"")));
  EXPECT_EQ(end["result"]["events"], told);
  EXPECT_GT(end["result"]["lost"].get<uint64_t>(), 0u);
  EXPECT_EQ(told + end["result"]["lost"].get<uint64_t>(), kEvents);
}

// -- Who may, and where

TEST(ControlAccess, RootAndTheDaemonsUserMay) {
  EXPECT_TRUE(may_control(0, 0));
  EXPECT_TRUE(may_control(0, 1000));
  EXPECT_TRUE(may_control(1000, 1000));
  EXPECT_FALSE(may_control(1000, 0));
  EXPECT_FALSE(may_control(1001, 1000));
}

TEST_F(ControlServerTest, AnotherUserIsTurnedAwayEvenIfTheFileLetsHim) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "only root can be another user";
  }
  ASSERT_EQ(chmod(folder_.path().c_str(), 0755), 0);
  ASSERT_EQ(chmod(socket_.path().c_str(), 0666), 0);
  ASSERT_EQ(seteuid(65534), 0);
  Client stranger(socket_.path());
  ASSERT_EQ(seteuid(0), 0);
  ASSERT_TRUE(stranger.connected());
  settle();
  const Json answer = Json::parse(stranger.hear());
  EXPECT_EQ(answer["ok"], false);
  stranger.hear();
  EXPECT_TRUE(stranger.ended);
}

TEST(ControlPath, IsInTheRuntimeDirectory) {
  unsetenv("RUNTIME_DIRECTORY");
  EXPECT_EQ(control_path(), "/run/sallyport/control.sock");
  setenv("RUNTIME_DIRECTORY", "/run/a:/run/b", 1);
  EXPECT_EQ(control_path(), "/run/a/control.sock");
  unsetenv("RUNTIME_DIRECTORY");
}

TEST(ControlSocket, ReplacesAStaleOneAndRefusesALiveOne) {
  const Folder folder;
  const std::string path = folder.path() + "/run/control.sock";
  const auto first = open_control_socket(path);
  ASSERT_TRUE(first) << first.error().text;
  struct stat file {};
  ASSERT_EQ(stat(path.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 07777, 0600u);
  const auto second = LocalSocket::open(path, "control socket", 0ms);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().text.find(path), std::string::npos);

  const std::string stale = folder.path() + "/stale.sock";
  {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    const auto address = local_address(stale);
    ASSERT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)), 0);
    close(fd);
  }
  EXPECT_TRUE(LocalSocket::open(stale, "control socket", 0ms));
}

// -- The client

class ControlClientTest : public ControlServerTest {
 protected:
  ControlClientTest() : loop_([this] { context_.run(); }) {}
  ~ControlClientTest() override {
    context_.stop();
    loop_.join();
  }
  std::thread loop_;
};

TEST_F(ControlClientTest, AsksAndIsAnswered) {
  auto client = ControlClient::connect(socket_.path());
  ASSERT_TRUE(client) << client.error().text;
  const auto answer = client->ask({{"do", "a"}});
  ASSERT_TRUE(answer);
  EXPECT_EQ((*answer)["asked"], "a");
  EXPECT_EQ(client->ask({{"do", "long"}})->get<std::string>().size(), size_t{4} << 20);
  const auto failed = client->ask({{"do", "fail"}});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().error, "3 errors");
  EXPECT_EQ(failed.error().details.size(), 2u);
}

TEST_F(ControlClientTest, FollowsATrace) {
  auto client = ControlClient::connect(socket_.path());
  ASSERT_TRUE(client);
  std::thread feeder([this] {
    for (bool taken = true; taken;) {
      std::promise<bool> said;
      boost::asio::post(context_, [&] { said.set_value(!sink_ || sink_->event({{"n", 1}})); });
      taken = said.get_future().get();
    }
  });
  int events = 0;
  const auto result = client->follow({{"do", "trace"}, {"count", 5}}, [&](const Json& event) {
    events += event["n"].get<int>();
    return true;
  });
  feeder.join();
  ASSERT_TRUE(result);
  EXPECT_EQ((*result)["events"], 5);
  EXPECT_EQ(events, 5);
}

// What the subcommands print, and their exit status.
struct Printed {
  int status;
  std::string out, err;
};

Printed printed(const std::function<int()>& command) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const int status = command();
  return {status, testing::internal::GetCapturedStdout(), testing::internal::GetCapturedStderr()};
}

TEST_F(ControlClientTest, SubcommandsPrintWhatTheyAreTold) {
  const std::string path = socket_.path();
  results_ = {{"show", Json::parse(R"([{"reason":"no_peer","packets":3}])")},
              {"reload", Json::parse(R"({"changes":["set lan added: 1 prefix"],"confirm_s":60})")},
              {"diff", Json::array()},
              {"confirm", Json()},
              {"status", Json::parse(R"({"config":"a.toml"})")}};
  Printed got = printed([&] { return run_show(path, "drops", {}, false); });
  EXPECT_EQ(got.status, 0);
  EXPECT_EQ(got.out, "reason   packets\nno_peer        3\n");
  got = printed([&] { return run_show(path, "drops", {}, true); });
  EXPECT_EQ(Json::parse(got.out), results_["show"]);
  got = printed([&] { return run_show(path, "", {}, false); });
  EXPECT_EQ(got.out, "config: a.toml\n");
  got = printed([&] { return run_reload(path, 60); });
  EXPECT_EQ(
      got.out,
      "set lan added: 1 prefix\non trial: undone in 60 seconds unless you run sallyport confirm\n");
  EXPECT_EQ(requests_.back()["confirm_s"], 60);
  got = printed([&] { return run_diff(path, "relative.toml"); });
  EXPECT_EQ(got.out, "nothing would change\n");
  EXPECT_TRUE(requests_.back()["config"].get<std::string>().starts_with("/"));
  EXPECT_EQ(printed([&] { return run_confirm(path); }).status, 0);
}

TEST_F(ControlClientTest, SubcommandsTellWhatFailed) {
  const std::string path = socket_.path();
  fail_all_ = true;
  const Printed got = printed([&] { return run_reload(path, std::nullopt); });
  EXPECT_EQ(got.status, 1);
  EXPECT_EQ(got.out, "");
  EXPECT_EQ(got.err, "a.toml:1: x\na.toml:2: y\nsallyport: 3 errors\n");
  EXPECT_EQ(printed([&] { return run_confirm(path + ".none"); }).status, 1);
}

TEST_F(ControlClientTest, AnAnswerOfAnotherVersionIsAnErrorAndNoCrash) {
  results_ = {{"reload", Json::parse("[1]")}, {"diff", Json::parse(R"([{"a":1}])")}};
  for (const auto& command :
       {std::function<int()>([&] { return run_reload(socket_.path(), 1); }),
        std::function<int()>([&] { return run_diff(socket_.path(), "/x"); })}) {
    const Printed got = printed(command);
    EXPECT_EQ(got.status, 1);
    EXPECT_NE(got.err.find("another version"), std::string::npos) << got.err;
  }
}

TEST_F(ControlClientTest, ExplainSendsThePacketAndPrintsTheSteps) {
  results_ = {
      {"explain",
       Json::parse(R"({"packet":"p","steps":[{"stage":"policy","text":"t"}],"verdict":"v"})")}};
  PacketQueryWords words;
  words.from = "10.0.0.5";
  words.to = "198.51.100.7";
  words.protocol = "tcp";
  words.destination_port = "443";
  words.mark = "0x10";
  Printed got = printed([&] { return run_explain(socket_.path(), words, "", false); });
  EXPECT_EQ(got.out, "p\n  policy  t\nverdict: v\n");
  const auto query = read_query(requests_.back());
  ASSERT_TRUE(query) << query.error().text;
  EXPECT_EQ(to_text(*query->from), "10.0.0.5/32");
  EXPECT_EQ(query->protocol, 6);
  EXPECT_EQ(query->destination_port, 443);
  EXPECT_EQ(query->mark, 16u);
  EXPECT_FALSE(query->source_port);
  const size_t asked = requests_.size();
  for (const auto& [from, sport] : {std::pair("10.0.0.0/8", ""), std::pair("10.0.0.5", "70000"),
                                    std::pair("fd00::1", ""), std::pair("", "")}) {
    words.from = from;
    words.source_port = sport;
    got = printed([&] { return run_explain(socket_.path(), words, "", false); });
    EXPECT_EQ(got.status, 1);
    EXPECT_EQ(std::count(got.err.begin(), got.err.end(), '\n'), 1) << got.err;
  }
  EXPECT_EQ(requests_.size(), asked);
}

TEST(ControlClientAlone, SaysThatNobodyAnswers) {
  const Folder folder;
  const auto client = ControlClient::connect(folder.path() + "/none.sock");
  ASSERT_FALSE(client);
  EXPECT_NE(client.error().text.find("none.sock"), std::string::npos);
  EXPECT_NE(client.error().text.find("is it running"), std::string::npos);
}

}  // namespace
}  // namespace sallyport
