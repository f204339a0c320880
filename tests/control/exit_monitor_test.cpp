// Exits watched through a real tunnel: two engines with memory ports, and a far end that answers the targets a test says.
#include "control/exit_monitor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <functional>
#include <memory>
#include <set>
#include <sstream>

#include "dataplane/net/checksum.h"
#include "dataplane/wireguard/message.h"
#include "tests/control/built_engine.h"
#include "tun/memory_port.h"

namespace sallyport::test {
namespace {

using testing::HasSubstr;
using Bytes = std::vector<uint8_t>;

// One engine and the ports of its tunnel.
struct End {
  End() : engine(EngineOptions{}) {
    engine.set_plain_ports(ports(plain, 1));
    engine.set_outer_ports(ports(outer, 2));
    engine.set_mtu(1420);
  }
  static std::vector<std::unique_ptr<Port>> ports(std::vector<MemoryPort*>& list, int count) {
    std::vector<std::unique_ptr<Port>> made;
    for (int i = 0; i < count; ++i) {
      auto port = std::make_unique<MemoryPort>("memory");
      list.push_back(port.get());
      made.push_back(std::move(port));
    }
    return made;
  }
  void step() {
    while (engine.step_worker(0) || engine.step_handshaker()) {
    }
  }
  void send_to(End& other, const Endpoint& from) {
    for (MemoryPort* port : outer) {
      for (const MemoryPort::Frame& frame : port->sent()) {
        for (const Bytes& datagram : frame.segments()) {
          const bool data =
              wireguard::classify(datagram.data(), datagram.size()) == wireguard::MessageKind::data;
          other.outer[data ? 0 : 1]->inject(datagram, from);
        }
      }
    }
  }

  std::vector<MemoryPort*> plain, outer;
  PolicyAssets assets;  // outlives the engine's policy
  Engine engine;
};

KeyBytes key_of(uint8_t byte) {
  KeyBytes key;
  key.fill(byte);
  return key;
}

wireguard::PublicKey public_key(uint8_t byte) {
  wireguard::Identity identity;
  identity.set_private_key(key_of(byte).data());
  return identity.public_key;
}

constexpr uint8_t kNear = 0x48, kFar = 0x50;

// "one" and "two" are watched by probes, "three" by handshakes, "four" not at all.
std::string text(const std::string& probe = "interval = \"50ms\", timeout = \"500ms\"") {
  return "[tunnel.wg0]\nprivate_key = \"" + base64_of(key_of(kNear)) +
         "\"\naddress = \"10.9.0.1/24\"\n[[tunnel.wg0.peer]]\nname = \"far\"\npublic_key = \"" +
         base64_of(public_key(kFar)) +
         "\"\nendpoint = \"192.0.2.2:51820\"\nallowed_ips = \"10.9.0.0/24\"\n"
         "[exit.one]\npeer = \"far\"\nprobe = { target = \"10.9.0.2\", " +
         probe + " }\n[exit.two]\npeer = \"far\"\nprobe = { target = \"10.9.0.3\", " + probe +
         " }\n[exit.three]\npeer = \"far\"\n[exit.four]\npeer = \"far\"\n"
         "[exit.g]\ngroup = [\"one\", \"two\"]\n[exit.h]\ngroup = [\"g\"]\n"
         "[exit.k]\ngroup = [\"three\"]\n[exit.always]\ngroup = [\"one\", \"host\"]\n"
         "[[rule]]\npriority = 1\nexit = \"g\"\n";
}

class ExitMonitorTest : public testing::Test {
 protected:
  ExitMonitorTest() : former_log_(spdlog::default_logger()) {
    auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(log_);
    sink->set_pattern("%v");
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", sink));
    TunnelChange change;
    change.private_key = key_of(kFar);
    PeerChange& peer = change.peers.emplace_back();
    peer.public_key = public_key(kNear);
    peer.allowed_ips.push_back({*parse_prefix("10.9.0.1/32"), false, false});
    EXPECT_TRUE(far_.engine.apply(change).has_value());
    far_.engine.set_up(true);
    config_ = config_of(text());
    const auto near = build_tunnel(config_, config_.tunnels[0], no_addresses);
    EXPECT_TRUE(near && near_.engine.apply(*near).has_value());
    near_.engine.set_up(true);
  }
  ~ExitMonitorTest() override { spdlog::set_default_logger(former_log_); }

  // Builds the policy anew and lets the monitor follow it, as a reload does.
  void follow(const std::string& file) {
    config_ = config_of(file);
    auto built = build_policy(config_, {{"wg0", 0}}, near_.engine, near_.assets);
    ASSERT_TRUE(built.has_value());
    names_ = std::move(built->names);
    monitor_.follow(config_, built->policy.get(), names_, built->probed);
    near_.engine.set_policy(std::move(built->policy));
  }

  // What comes out at the far end: echo requests for targets that answer.
  void answer() {
    for (MemoryPort::Frame& frame : far_.plain[0]->sent()) {
      Bytes packet = std::move(frame.bytes);
      if (packet.size() < 28 || packet[9] != 1 || packet[20] != 8 ||
          !answering_.contains(to_text(IpAddress::v4(packet.data() + 16)))) {
        continue;
      }
      std::swap_ranges(packet.begin() + 12, packet.begin() + 16, packet.begin() + 16);
      packet[20] = 0;
      packet[22] = packet[23] = 0;
      checksum_store(packet.data() + 22, checksum_add(0, packet.data() + 20, packet.size() - 20));
      far_.plain[0]->inject(std::move(packet));
    }
  }
  // Lets everything go on until it is so, or half a minute has passed.
  bool until(const std::function<bool()>& so) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!so()) {
      if (std::chrono::steady_clock::now() > end) {
        return false;
      }
      turn();
    }
    return true;
  }
  void turn() {
    Endpoint near_at = *parse_endpoint("192.0.2.1:51820"),
             far_at = *parse_endpoint("192.0.2.2:51820");
    near_.step();
    near_.send_to(far_, near_at);
    far_.step();
    answer();
    far_.step();
    far_.send_to(near_, far_at);
    near_.step();
    context_.restart();
    context_.run_one_for(std::chrono::milliseconds(2));
  }
  bool alive(const std::string& exit) const {
    const auto at = std::ranges::find(names_.exits, exit);
    EXPECT_NE(at, names_.exits.end()) << exit;
    return near_.engine.policy()->alive[static_cast<size_t>(at - names_.exits.begin())].load();
  }
  bool is_up(const std::string& exit) const {
    const auto state = monitor_.state(exit);
    return state.has_value() && state->alive;
  }
  std::string take_log() {
    std::string said = log_.str();
    log_.str("");
    return said;
  }

  std::ostringstream log_;
  std::shared_ptr<spdlog::logger> former_log_;
  std::set<std::string> answering_;
  config::Config config_;
  PolicyNames names_;
  End far_, near_;
  boost::asio::io_context context_;
  ExitMonitor monitor_{context_, near_.engine};
};

TEST_F(ExitMonitorTest, UnknownIsNotAliveAndNotSaid) {
  follow(text());
  EXPECT_FALSE(alive("one"));
  EXPECT_FALSE(alive("g"));
  EXPECT_FALSE(alive("h"));
  EXPECT_TRUE(alive("four")) << "nobody chooses it by being alive";
  EXPECT_TRUE(alive("host"));
  EXPECT_TRUE(alive("always")) << "a member that never fails";
  EXPECT_FALSE(monitor_.state("four").has_value());
  EXPECT_FALSE(monitor_.state("g").has_value());
  ASSERT_TRUE(monitor_.state("one").has_value());
  EXPECT_EQ(monitor_.state("one")->probes, 0u);
  EXPECT_EQ(take_log(), "");
}

TEST_F(ExitMonitorTest, AliveFollowsAnswersAndSilenceAndGroupsTheirMembers) {
  answering_ = {"10.9.0.2"};
  follow(text());
  ASSERT_TRUE(until([&] { return alive("one"); }));
  EXPECT_TRUE(alive("g") && alive("h"));
  ASSERT_TRUE(monitor_.state("one").has_value());
  EXPECT_GT(monitor_.state("one")->round_trip, 0);
  EXPECT_THAT(monitor_.state("one")->why, HasSubstr("probe to 10.9.0.2 answered"));
  EXPECT_THAT(take_log(), HasSubstr("exit one is up: probe to 10.9.0.2 answered"));
  ASSERT_TRUE(until([&] { return monitor_.state("two")->loss == 1; }));
  EXPECT_FALSE(alive("two"));
  answering_ = {"10.9.0.3"};
  ASSERT_TRUE(until([&] { return alive("two") && !alive("one"); }));
  EXPECT_TRUE(alive("g") && alive("h")) << "by its other member";
  EXPECT_THAT(take_log(), HasSubstr("exit one is down: "));
  answering_.clear();
  ASSERT_TRUE(until([&] { return !alive("two"); }));
  EXPECT_FALSE(alive("g") || alive("h"));
  EXPECT_TRUE(alive("always"));
  EXPECT_TRUE(alive("three")) << "the session itself works";
}

TEST_F(ExitMonitorTest, WithoutATargetAHandshakeIsAskedForAndBelieved) {
  follow(text());
  EXPECT_FALSE(alive("three") || alive("k"));
  ASSERT_TRUE(until([&] { return alive("three"); }));
  EXPECT_TRUE(alive("k"));
  EXPECT_THAT(monitor_.state("three")->why, HasSubstr("handshake "));
}

TEST_F(ExitMonitorTest, WhatIsKnownSurvivesAReloadAndIsNotSaidAgain) {
  answering_ = {"10.9.0.2"};
  follow(text());
  ASSERT_TRUE(until([&] { return is_up("one") && is_up("three"); }));
  ASSERT_TRUE(until([&] { return take_log().find("exit two is down: ") != std::string::npos; }));
  const Policy* before = near_.engine.policy();
  follow(text());
  EXPECT_NE(near_.engine.policy(), before);
  EXPECT_TRUE(alive("one") && alive("three") && alive("g") && alive("h") && alive("k"));
  EXPECT_FALSE(alive("two"));
  EXPECT_EQ(take_log(), "");
  answering_ = {"10.9.0.2", "10.9.0.3"};
  ASSERT_TRUE(until([&] { return alive("two"); })) << "by the new policy's own probes";
  EXPECT_TRUE(alive("one"));
}

TEST_F(ExitMonitorTest, AnotherProbeBeginsAnew) {
  answering_ = {"10.9.0.2"};
  follow(text());
  ASSERT_TRUE(until([&] { return alive("one"); }));
  follow(text("interval = \"60ms\", timeout = \"500ms\""));
  EXPECT_FALSE(alive("one"));
  EXPECT_EQ(monitor_.state("one")->probes, 0u);
  ASSERT_TRUE(until([&] { return alive("one"); }));
}

TEST_F(ExitMonitorTest, WithoutAPolicyNothingIsWatched) {
  follow(text());
  monitor_.follow({}, nullptr, names_, {});
  near_.engine.set_policy(nullptr);
  EXPECT_FALSE(monitor_.state("one").has_value());
  context_.restart();
  EXPECT_EQ(context_.run_for(std::chrono::milliseconds(50)), 1u) << "the timer that was cancelled";
}

}  // namespace
}  // namespace sallyport::test
