// The UAPI grammar as a table of truths, the text of get, and the signs of errno.
#include "control/uapi.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "control/limits.h"

namespace sallyport {
namespace {

const std::string kKeyA(64, 'a');
const std::string kKeyB = "00112233445566778899aabbccddeeffFFEEDDCCBBAA99887766554433221100";
const std::string kZero(64, '0');
const std::string kPeer = "public_key=" + kKeyA + "\n";

int errno_of(const std::string& lines) {
  const auto request = parse_set(lines);
  return request ? 0 : request.error().code;
}

struct Truth {
  const char* what;
  std::string lines;
  int error;
};

class Grammar : public testing::TestWithParam<Truth> {};

TEST_P(Grammar, IsAsStated) {
  const auto request = parse_set(GetParam().lines);
  EXPECT_EQ(request ? 0 : request.error().code, GetParam().error)
      << GetParam().what << ": " << (request ? "accepted" : request.error().text);
  if (!request) {
    EXPECT_FALSE(request.error().text.empty());
  }
}

const Truth kDevice[] = {
    {"nothing at all", "", 0},
    {"only the end", "\n", 0},
    {"a private key", "private_key=" + kKeyB + "\n", 0},
    {"no private key", "private_key=" + kZero + "\n", 0},
    {"a key too short", "private_key=" + std::string(63, 'a') + "\n", EINVAL},
    {"a key too long", "private_key=" + std::string(65, 'a') + "\n", EINVAL},
    {"a key twice too long", "private_key=" + std::string(128, 'a') + "\n", EINVAL},
    {"no hex", "private_key=" + std::string(63, 'a') + "g\n", EINVAL},
    {"a key in base64", "private_key=YAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n", EINVAL},
    {"an empty key", "private_key=\n", EINVAL},
    {"any port", "listen_port=0\n", 0},
    {"the last port", "listen_port=65535\n", 0},
    {"beyond the last port", "listen_port=65536\n", EINVAL},
    {"a negative port", "listen_port=-1\n", EINVAL},
    {"a signed port", "listen_port=+1\n", EINVAL},
    {"an empty port", "listen_port=\n", EINVAL},
    {"a blank before", "listen_port= 1\n", EINVAL},
    {"a blank behind", "listen_port=1 \n", EINVAL},
    {"a carriage return", "listen_port=1\r\n", EINVAL},
    {"a hexadecimal port", "listen_port=0x10\n", EINVAL},
    {"a port with a leading zero", "listen_port=051820\n", 0},
    {"no mark", "fwmark=0\n", 0},
    {"every mark", "fwmark=4294967295\n", 0},
    {"beyond every mark", "fwmark=4294967296\n", EINVAL},
    {"a hexadecimal mark", "fwmark=0x1\n", EINVAL},
    {"replacing peers", "replace_peers=true\n", 0},
    {"not replacing peers", "replace_peers=false\n", EINVAL},
    {"replacing peers loudly", "replace_peers=TRUE\n", EINVAL},
    {"an unknown key", "mtu=1420\n", EINVAL},
    {"a read-only key", "rx_bytes=1\n", EINVAL},
    {"a key with a capital", "Listen_port=1\n", EINVAL},
    {"no key", "=1\n", EINVAL},
    {"no equals sign", "listen_port\n", EPROTO},
    {"a duplicate key", "listen_port=1\nlisten_port=2\n", 0},
    {"a peer's key before any peer", "allowed_ip=10.0.0.0/8\n", EINVAL},
    {"a version before any peer", "protocol_version=1\n", EINVAL},
    {"a zero byte", std::string("listen_port=1\0\n", 15), EINVAL},
    {"no newline at the end", "listen_port=1", 0},
};
INSTANTIATE_TEST_SUITE_P(Device, Grammar, testing::ValuesIn(kDevice));

const Truth kPeers[] = {
    {"a peer", kPeer, 0},
    {"a peer of all zero", "public_key=" + kZero + "\n", 0},
    {"a peer whose key is none", "public_key=" + std::string(64, 'z') + "\n", EINVAL},
    {"a device key after a peer", kPeer + "listen_port=1\n", EINVAL},
    {"a private key after a peer", kPeer + "private_key=" + kKeyB + "\n", EINVAL},
    {"removal", kPeer + "remove=true\n", 0},
    {"no removal", kPeer + "remove=false\n", EINVAL},
    {"update only", kPeer + "update_only=true\n", 0},
    {"not update only", kPeer + "update_only=\n", EINVAL},
    {"a preshared key", kPeer + "preshared_key=" + kKeyB + "\n", 0},
    {"half a preshared key", kPeer + "preshared_key=" + kKeyB.substr(32) + "\n", EINVAL},
    {"an endpoint", kPeer + "endpoint=192.0.2.1:51820\n", 0},
    {"a v6 endpoint", kPeer + "endpoint=[2001:db8::1]:51820\n", 0},
    {"a scoped endpoint", kPeer + "endpoint=[fe80::1%1]:51820\n", 0},
    {"a v6 endpoint without brackets", kPeer + "endpoint=2001:db8::1:51820\n", EINVAL},
    {"a v4 endpoint in brackets", kPeer + "endpoint=[192.0.2.1]:51820\n", EINVAL},
    {"an endpoint without a port", kPeer + "endpoint=192.0.2.1\n", EINVAL},
    {"a port too large", kPeer + "endpoint=192.0.2.1:65536\n", EINVAL},
    {"a name", kPeer + "endpoint=example.org:51820\n", EINVAL},
    {"no endpoint", kPeer + "endpoint=\n", EINVAL},
    {"an interval", kPeer + "persistent_keepalive_interval=25\n", 0},
    {"no interval", kPeer + "persistent_keepalive_interval=0\n", 0},
    {"the longest interval", kPeer + "persistent_keepalive_interval=65535\n", 0},
    {"longer than that", kPeer + "persistent_keepalive_interval=65536\n", EINVAL},
    {"an interval in words", kPeer + "persistent_keepalive_interval=off\n", EINVAL},
    {"replacing allowed IPs", kPeer + "replace_allowed_ips=true\n", 0},
    {"not replacing them", kPeer + "replace_allowed_ips=1\n", EINVAL},
    {"an allowed IP", kPeer + "allowed_ip=10.0.0.0/8\n", 0},
    {"all of them", kPeer + "allowed_ip=0.0.0.0/0\nallowed_ip=::/0\n", 0},
    {"one taken away", kPeer + "allowed_ip=-10.0.0.0/8\n", 0},
    {"two dashes", kPeer + "allowed_ip=--10.0.0.0/8\n", EINVAL},
    {"a prefix too long", kPeer + "allowed_ip=10.0.0.0/33\n", EINVAL},
    {"a v6 prefix too long", kPeer + "allowed_ip=::/129\n", EINVAL},
    {"no prefix length", kPeer + "allowed_ip=10.0.0.0/\n", EINVAL},
    {"an empty allowed IP", kPeer + "allowed_ip=\n", EINVAL},
    {"version 1", kPeer + "protocol_version=1\n", 0},
    {"version 2", kPeer + "protocol_version=2\n", EINVAL},
    {"no version", kPeer + "protocol_version=\n", EINVAL},
    {"an unknown key", kPeer + "color=blue\n", EINVAL},
    {"a read-only key", kPeer + "last_handshake_time_sec=1\n", EINVAL},
    {"something for a peer removed", kPeer + "remove=true\nendpoint=192.0.2.1:1\n", 0},
};
INSTANTIATE_TEST_SUITE_P(Peer, Grammar, testing::ValuesIn(kPeers));

TEST(Uapi, ReadsEverythingIntoTheChange) {
  const auto request =
      parse_set("private_key=" + kKeyB + "\nlisten_port=51820\nfwmark=51820\nreplace_peers=true\n" +
                kPeer + "update_only=true\npreshared_key=" + kKeyB +
                "\nendpoint=192.0.2.1:7\npersistent_keepalive_interval=25\n"
                "replace_allowed_ips=true\nallowed_ip=10.1.2.3/8\n"
                "allowed_ip=-fd00::/8\nprotocol_version=1\npublic_key=" +
                kKeyB + "\nremove=true\n");
  ASSERT_TRUE(request) << request.error().text;
  EXPECT_EQ(request->listen_port, 51820);
  EXPECT_EQ(request->change.fwmark, 51820u);
  EXPECT_TRUE(request->change.replace_peers);
  ASSERT_TRUE(request->change.private_key);
  EXPECT_EQ((*request->change.private_key)[1], 0x11);
  EXPECT_EQ((*request->change.private_key)[16], 0xff);
  ASSERT_EQ(request->change.peers.size(), 2u);
  const PeerChange& peer = request->change.peers[0];
  EXPECT_EQ(peer.public_key[31], 0xaa);
  EXPECT_TRUE(peer.update_only && peer.replace_allowed_ips && !peer.remove);
  EXPECT_EQ(peer.persistent_keepalive, 25);
  EXPECT_EQ(to_text(*peer.endpoint), "192.0.2.1:7");
  ASSERT_TRUE(peer.preshared_key);
  ASSERT_EQ(peer.allowed_ips.size(), 2u);
  EXPECT_EQ(to_text(peer.allowed_ips[0].prefix), "10.0.0.0/8");
  EXPECT_FALSE(peer.allowed_ips[0].remove);
  EXPECT_EQ(to_text(peer.allowed_ips[1].prefix), "fd00::/8");
  EXPECT_TRUE(peer.allowed_ips[1].remove);
  EXPECT_TRUE(request->change.peers[1].remove);
}

TEST(Uapi, AbsentMeansLeaveAsItIs) {
  const auto request = parse_set(kPeer);
  ASSERT_TRUE(request);
  EXPECT_FALSE(request->listen_port || request->change.private_key || request->change.fwmark);
  EXPECT_FALSE(request->change.replace_peers);
  const PeerChange& peer = request->change.peers.at(0);
  EXPECT_FALSE(peer.endpoint || peer.preshared_key || peer.persistent_keepalive);
}

TEST(Uapi, LastOfDuplicatesWins) {
  const auto request = parse_set("listen_port=1\nlisten_port=2\n");
  ASSERT_TRUE(request);
  EXPECT_EQ(request->listen_port, 2);
}

TEST(Uapi, ReplacingForgetsTheLinesBeforeIt) {
  const auto request =
      parse_set(kPeer + "allowed_ip=10.0.0.0/8\nreplace_allowed_ips=true\nallowed_ip=::/0\n");
  ASSERT_TRUE(request);
  ASSERT_EQ(request->change.peers[0].allowed_ips.size(), 1u);
  EXPECT_EQ(to_text(request->change.peers[0].allowed_ips[0].prefix), "::/0");
}

TEST(Uapi, TheSamePeerMayComeTwice) {
  const auto request = parse_set(kPeer + "remove=true\n" + kPeer + "allowed_ip=::/0\n");
  ASSERT_TRUE(request);
  ASSERT_EQ(request->change.peers.size(), 2u);
  EXPECT_TRUE(request->change.peers[0].remove);
  EXPECT_FALSE(request->change.peers[1].remove);
}

TEST(Uapi, ABadLineAtTheEndLeavesNothing) {
  SetParser parser;
  parser.line("listen_port=1");
  parser.line("replace_peers=true");
  parser.line("public_key=" + kKeyA);
  parser.line("nonsense=1");
  parser.line("listen_port=2");  // read, and of no effect
  EXPECT_FALSE(parser.finish());
  const auto next = parser.finish();  // the parser is as new
  ASSERT_TRUE(next);
  EXPECT_FALSE(next->listen_port || next->change.replace_peers);
  EXPECT_TRUE(next->change.peers.empty());
}

TEST(Uapi, ErrorsNeverShowKeys) {
  const std::string almost = "c0ffee" + std::string(57, '7');
  for (const std::string& line : {"private_key=" + almost, kPeer + "preshared_key=" + almost}) {
    const auto request = parse_set(line);
    ASSERT_FALSE(request);
    EXPECT_EQ(request.error().text.find("c0ffee"), std::string::npos);
  }
}

TEST(Uapi, ScopesMayBeNames) {
  const auto request = parse_set(kPeer + "endpoint=[fe80::1%lo]:1\n");
  ASSERT_TRUE(request) << request.error().text;
  EXPECT_NE(request->change.peers[0].endpoint->scope, 0u);
  EXPECT_EQ(errno_of(kPeer + "endpoint=[fe80::1%nosuchlink]:1\n"), EINVAL);
}

TEST(Uapi, TooManyAllowedIpsAreRefused) {
  SetParser parser;
  parser.line("public_key=" + kKeyA);
  for (size_t i = 0; i <= kUapiAllowedIpLinesMax; ++i) {
    parser.line("allowed_ip=::/0");
  }
  const auto request = parser.finish();
  ASSERT_FALSE(request);
  EXPECT_EQ(request.error().code, E2BIG);
}

// -- get

TunnelState some_state() {
  TunnelState state;
  state.private_key.fill(0x11);
  state.fwmark = 51820;
  PeerState peer;
  peer.public_key.fill(0xab);
  peer.preshared_key.fill(0xcd);
  peer.endpoint = *parse_endpoint("[2001:db8::1]:7");
  peer.allowed_ips = {*parse_prefix("10.0.0.0/8"), *parse_prefix("::/0")};
  peer.persistent_keepalive = 25;
  peer.last_handshake = 1'700'000'000 * kSecond + 5;
  peer.rx_bytes = 3;
  peer.tx_bytes = UINT64_MAX;
  state.peers.push_back(peer);
  state.peers.emplace_back();
  return state;
}

TEST(UapiGet, IsWhatWgReads) {
  std::string key;
  for (int i = 0; i < 32; ++i) {
    key += "11";
  }
  const auto repeated = [](const char* byte) {
    std::string text;
    for (int i = 0; i < 32; ++i) {
      text += byte;
    }
    return text;
  };
  EXPECT_EQ(format_get(some_state(), 4711),
            "private_key=" + repeated("11") +
                "\nlisten_port=4711\nfwmark=51820\n"
                "public_key=" +
                repeated("ab") + "\npreshared_key=" + repeated("cd") +
                "\nprotocol_version=1\nendpoint=[2001:db8::1]:7\n"
                "last_handshake_time_sec=1700000000\nlast_handshake_time_nsec=5\n"
                "tx_bytes=18446744073709551615\nrx_bytes=3\npersistent_keepalive_interval=25\n"
                "allowed_ip=10.0.0.0/8\nallowed_ip=::/0\n"
                "public_key=" +
                kZero + "\npreshared_key=" + kZero +
                "\nprotocol_version=1\nlast_handshake_time_sec=0\nlast_handshake_time_nsec=0\n"
                "tx_bytes=0\nrx_bytes=0\npersistent_keepalive_interval=0\n"
                "errno=0\n\n");
}

TEST(UapiGet, AnEmptyTunnelHasNothingToSay) {
  EXPECT_EQ(format_get(TunnelState{}, 0), "errno=0\n\n");
}

// What get says of peers, set understands: the counters aside, it is the same grammar.
TEST(UapiGet, CanBeReadBack) {
  std::string lines = format_get(some_state(), 4711);
  std::string kept;
  for (size_t begin = 0; begin < lines.size();) {
    const size_t end = lines.find('\n', begin);
    const std::string line = lines.substr(begin, end - begin);
    if (line.find("_bytes") == std::string::npos && !line.starts_with("last_") &&
        !line.starts_with("errno") && !line.empty()) {
      kept += line + "\n";
    }
    begin = end + 1;
  }
  const auto request = parse_set(kept);
  ASSERT_TRUE(request) << request.error().text;
  EXPECT_EQ(request->change.peers.size(), 2u);
  EXPECT_EQ(request->change.private_key, some_state().private_key);
  EXPECT_EQ(request->change.peers[0].preshared_key, some_state().peers[0].preshared_key);
}

TEST(UapiErrno, IsNegativeOnSetAndPositiveOnGet) {
  EXPECT_EQ(format_set_errno(EINVAL), "errno=-22\n\n");
  EXPECT_EQ(format_get_errno(EINVAL), "errno=22\n\n");
  EXPECT_EQ(format_set_errno(0), "errno=0\n\n");
  EXPECT_EQ(format_get_errno(0), "errno=0\n\n");
}

TEST(UapiKeys, AreBase64ForPeople) {
  KeyBytes key{};
  EXPECT_EQ(base64_of(key), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
  for (size_t i = 0; i < key.size(); ++i) {
    key[i] = static_cast<uint8_t>(i * 7 + 3);
  }
  EXPECT_EQ(base64_of(key), "AwoRGB8mLTQ7QklQV15lbHN6gYiPlp2kq7K5wMfO1dw=");
  key.fill(0xff);
  EXPECT_EQ(base64_of(key), "//////////////////////////////////////////8=");
}

TEST(UapiWipe, LeavesNoKey) {
  auto request = parse_set("private_key=" + kKeyB + "\n" + kPeer + "preshared_key=" + kKeyB + "\n");
  ASSERT_TRUE(request);
  wipe(*request);
  EXPECT_EQ(*request->change.private_key, KeyBytes{});
  EXPECT_EQ(*request->change.peers[0].preshared_key, KeyBytes{});
}

}  // namespace
}  // namespace sallyport
