// wg-quick files as they are found in the wild, and what each hook is answered.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "control/config.h"
#include "control/uapi.h"
#include "tests/control/config_texts.h"

namespace sallyport::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

const std::string kInterface =
    "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n";
const std::string kPeer = "[Peer]\nPublicKey = " + kKeyB + "\n";

ReadResult read(const std::string& text) {
  return read_wg_quick(text, "wg0.conf", "wg0");
}

TEST(ConfigWgQuick, ReadsEveryKey) {
  const ReadResult result = read(R"(# a comment
[interface]
privatekey=yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=   # trailing
ListenPort = 51821
FwMark = 0xca6c
Address = 10.9.0.1/24, fd00::1/64
Address = 10.9.1.1
MTU = 1380
Table = off
SaveConfig = false

[PEER]
PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
PresharedKey = gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA=
AllowedIPs = 10.9.0.2/32,fd00::2/128
AllowedIPs = 192.168.7.9/24
Endpoint = [2001:db8::1]:51820
PersistentKeepalive = 25
)");
  ASSERT_TRUE(result.ok()) << all(result.errors);
  EXPECT_THAT(result.warnings, IsEmpty());
  ASSERT_THAT(result.config.tunnels, SizeIs(1));
  const Tunnel& tunnel = result.config.tunnels[0];
  EXPECT_EQ(tunnel.name, "wg0");
  EXPECT_EQ(tunnel.private_key.kind, KeySource::Kind::inline_text);
  EXPECT_EQ(tunnel.private_key.where.line, 3u);
  EXPECT_EQ(tunnel.listen_port, 51821);
  EXPECT_EQ(tunnel.fwmark, 0xca6cu);
  ASSERT_THAT(tunnel.addresses, SizeIs(3));
  EXPECT_EQ(to_text(tunnel.addresses[0]), "10.9.0.1/24");
  EXPECT_EQ(to_text(tunnel.addresses[2]), "10.9.1.1/32");
  EXPECT_EQ(tunnel.mtu, 1380u);
  EXPECT_FALSE(tunnel.capture.any());
  ASSERT_THAT(tunnel.peers, SizeIs(1));
  const Peer& peer = tunnel.peers[0];
  EXPECT_EQ(base64_of(peer.public_key), kKeyB);
  EXPECT_EQ(peer.preshared_key.text, kKeyC);
  EXPECT_THAT(peer.allowed_ips, SizeIs(3));
  EXPECT_EQ(to_text(peer.allowed_ips[2]), "192.168.7.0/24");
  EXPECT_EQ(peer.endpoint->host, "2001:db8::1");
  EXPECT_EQ(peer.persistent_keepalive, 25);
  EXPECT_EQ(peer.name, "xTIBA5rb");
}

TEST(ConfigWgQuick, CapturesAllowedIpsUnlessTableIsOff) {
  EXPECT_TRUE(read(kInterface).config.tunnels[0].capture.allowed_ips);
  EXPECT_TRUE(read(kInterface + "Table = auto\n").config.tunnels[0].capture.allowed_ips);
  EXPECT_FALSE(read(kInterface + "Table = OFF\n").config.tunnels[0].capture.allowed_ips);
  const ReadResult numbered = read(kInterface + "Table = 1234\n");
  EXPECT_TRUE(numbered.ok());
  EXPECT_TRUE(numbered.config.tunnels[0].capture.allowed_ips);
  EXPECT_THAT(all(numbered.warnings), HasSubstr("wg0.conf:3: Interface.Table: "));
  EXPECT_THAT(all(numbered.warnings), HasSubstr("host.table"));
}

TEST(ConfigWgQuick, WarnsOfWhatHasNoEffect) {
  const ReadResult result =
      read(kInterface + "DNS = 1.1.1.1, example.net\nSaveConfig = true\nMTU = 1400\nMTU = 1380\n");
  EXPECT_TRUE(result.ok()) << all(result.errors);
  ASSERT_THAT(result.warnings, SizeIs(3));
  EXPECT_EQ(result.warnings[0].key, "Interface.DNS");
  EXPECT_EQ(result.warnings[1].key, "Interface.SaveConfig");
  EXPECT_THAT(result.warnings[2].text, HasSubstr("line 5"));
  EXPECT_EQ(result.config.tunnels[0].mtu, 1380u) << "the last one counts";
}

struct Named {
  const char* what;
  std::string text;
  std::string name;
};

TEST(ConfigWgQuick, NamesPeersByTheirComments) {
  const Named cases[] = {
      {"under", "[Peer]\n# laptop\nPublicKey = " + kKeyB + "\n", "laptop"},
      {"above", "# laptop\n" + kPeer, "laptop"},
      {"above, with rulers", "### laptop of Eve ###\n" + kPeer, "laptop of Eve ###"},
      {"both", "# above\n[Peer]\n# under\nPublicKey = " + kKeyB + "\n", "under"},
      {"the exporter's", "[Peer]\n# friendly_name = laptop\nPublicKey = " + kKeyB + "\n", "laptop"},
      {"far above", "# laptop\n\n" + kPeer, "xTIBA5rb"},
      {"a setting taken out", "# AllowedIPs = 10.0.0.0/8\n" + kPeer, "xTIBA5rb"},
      {"behind a setting", kPeer + "# laptop\n", "xTIBA5rb"},
      {"on a setting", "[Peer]\nPublicKey = " + kKeyB + " # laptop\n", "xTIBA5rb"},
      {"too long", "# " + std::string(65, 'x') + "\n" + kPeer, "xTIBA5rb"},
      {"negating", "# !laptop\n" + kPeer, "xTIBA5rb"},
  };
  for (const Named& named : cases) {
    const ReadResult result = read(kInterface + named.text);
    ASSERT_TRUE(result.ok()) << named.what << all(result.errors);
    EXPECT_EQ(result.config.tunnels[0].peers.at(0).name, named.name) << named.what;
  }
}

TEST(ConfigWgQuick, CommentsAlikeAreNoNames) {
  const ReadResult result =
      read(kInterface + "# client\n" + kPeer + "# client\n[Peer]\nPublicKey = " + kKeyC + "\n");
  ASSERT_TRUE(result.ok()) << all(result.errors);
  EXPECT_EQ(result.config.tunnels[0].peers[0].name, "client");
  EXPECT_EQ(result.config.tunnels[0].peers[1].name, "gN65BkIK");
}

// -- Mistakes

struct Mistake {
  const char* what;
  std::string text;
  unsigned line;
  std::string key;
  std::string answer;
};

TEST(ConfigWgQuick, TellsMistakesWithTheirPlace) {
  const Mistake cases[] = {
      {"no private key", "[Interface]\nMTU = 1400\n", 1, "tunnel.wg0.private_key", "PrivateKey"},
      {"a bad key", "[Interface]\nPrivateKey = abc\n", 2, "Interface.PrivateKey", "44 characters"},
      {"an unknown key", kInterface + "Adress = 10.0.0.1/8\n", 3, "Interface.Adress",
       "did you mean 'Address'?"},
      {"a peer's key", kInterface + "Endpoint = 192.0.2.1:1\n", 3, "Interface.Endpoint",
       "belongs under [Peer]"},
      {"an interface's key", kInterface + kPeer + "MTU = 1400\n", 5, "Peer[1].MTU",
       "belongs under [Interface]"},
      {"AmneziaWG", kInterface + "Jc = 5\n", 3, "Interface.Jc", "AmneziaWG"},
      {"an unknown section", kInterface + "[Peers]\n", 3, "", "did you mean '[Peer]'?"},
      {"no section", "MTU = 1400\n" + kInterface, 1, "MTU", "neither [Interface] nor [Peer]"},
      {"no equals sign", kInterface + "hello\n", 3, "", "neither \"Key = value\""},
      {"a port", kInterface + "ListenPort = 65536\n", 3, "Interface.ListenPort", "0 to 65535"},
      {"a mark", kInterface + "FwMark = on\n", 3, "Interface.FwMark", "not a number"},
      {"an address", kInterface + "Address = 10.0.0.1/8, x\n", 3, "Interface.Address", "'x'"},
      {"no truth", kInterface + "SaveConfig = yes\n", 3, "Interface.SaveConfig", "true or false"},
      {"no public key", kInterface + "[Peer]\nAllowedIPs = 10.0.0.0/8\n", 3,
       "tunnel.wg0.peer[1].public_key", "is missing"},
      {"a bad public key", kInterface + "[Peer]\nPublicKey = x\n", 4, "Peer[1].PublicKey",
       "44 characters"},
      {"a peer twice", kInterface + kPeer + kPeer, 5, "tunnel.wg0.peer[2].public_key",
       "wg0.conf:3 too"},
      {"allowed-IPs", kInterface + kPeer + "AllowedIPs = 10.0.0.0/8 ::/0\n", 5,
       "Peer[1].AllowedIPs", "0 to 32"},
      {"an endpoint", kInterface + kPeer + "Endpoint = a\n", 5, "Peer[1].Endpoint", "port"},
      {"a keepalive", kInterface + kPeer + "PersistentKeepalive = x\n", 5,
       "Peer[1].PersistentKeepalive", "not a number"},
  };
  for (const Mistake& mistake : cases) {
    const ReadResult result = read(mistake.text);
    ASSERT_THAT(result.errors, SizeIs(1)) << mistake.what << "\n" << all(result.errors);
    EXPECT_EQ(result.errors[0].where.file, "wg0.conf") << mistake.what;
    EXPECT_EQ(result.errors[0].where.line, mistake.line) << mistake.what;
    EXPECT_EQ(result.errors[0].key, mistake.key) << mistake.what;
    EXPECT_THAT(result.errors[0].text, HasSubstr(mistake.answer)) << mistake.what;
  }
}

TEST(ConfigWgQuick, TakesWhatWgTakes) {
  const ReadResult result = read(kInterface + "FwMark = off\nListenPort = 0\r\n" + kPeer +
                                 "AllowedIPs =\nPersistentKeepalive = 0\n");
  EXPECT_TRUE(result.ok()) << all(result.errors);
  EXPECT_EQ(result.config.tunnels[0].fwmark, 0u);
}

TEST(ConfigWgQuick, NeverShowsASecret) {
  const ReadResult result = read("[Interface]\nPrivateKey sEcReTkey\nPrivateKey = sEcReTkey\n" +
                                 kPeer + "PresharedKey = sEcReTkey\n");
  EXPECT_THAT(result.errors, SizeIs(3)) << all(result.errors);
  EXPECT_EQ(all(result.errors).find("sEcReT"), std::string::npos) << all(result.errors);
}

// -- Hooks

struct Hook {
  std::string command;
  std::string answer;
};

TEST(ConfigWgQuick, SaysWhatReplacesEachHook) {
  const Hook hooks[] = {
      {"iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE",
       "[[nat]] family = \"ipv4\" oif = \"host\" masquerade = true"},
      {"nft add rule ip nat postrouting oifname eth0 masquerade", "a [[nat]] in TOML"},
      {"iptables -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
       "clamps the MSS"},
      {"ip rule add not fwmark 51820 table 51820", "[[rule]]"},
      {"ip -6 rule add from fd00::/64 lookup 7", "[[rule]]"},
      {"ip route add 10.0.0.0/8 dev %i", "[table.NAME]"},
      {"sysctl -w net.ipv4.ip_forward=1", "/etc/sysctl.d"},
      {"sysctl -q net.ipv4.conf.all.src_valid_mark=1", "not needed"},
      {"echo 2 > /proc/sys/net/ipv4/conf/all/rp_filter", "not needed"},
      {"iptables -A FORWARD -i %i -j ACCEPT", "not needed"},
      {"iptables -t mangle -A PREROUTING -j MARK --set-mark 1", "set_mark"},
      {"iptables -A INPUT -p udp --dport 51820 -j DROP", "host's firewall"},
      {"resolvconf -a tun.%i -m 0 -x", "host's resolver"},
      {"wg set %i private-key /etc/wireguard/key", "private_key_file"},
      {"ip link set %i mtu 1400", "sets the link up"},
      {"/usr/local/bin/notify up", "ExecStartPost="},
  };
  for (const Hook& hook : hooks) {
    for (const char* key : {"PreUp", "PostUp", "PreDown", "PostDown"}) {
      const ReadResult result = read(kInterface + key + " = " + hook.command + "\n");
      ASSERT_THAT(result.errors, SizeIs(1)) << hook.command << "\n" << all(result.errors);
      EXPECT_EQ(result.errors[0].key, "Interface." + std::string(key));
      EXPECT_EQ(result.errors[0].where.line, 3u);
      EXPECT_THAT(result.errors[0].text, HasSubstr(hook.answer));
      EXPECT_THAT(result.errors[0].text, HasSubstr(hook.command.substr(0, 20))) << "it is quoted";
    }
  }
}

TEST(ConfigWgQuick, AnswersEachCommandOfAHook) {
  const ReadResult result = read(kInterface +
                                 "PostUp = iptables -A FORWARD -i %i -j ACCEPT; iptables -t nat -A "
                                 "POSTROUTING -o eth0 -j MASQUERADE && true\n");
  ASSERT_THAT(result.errors, SizeIs(3)) << all(result.errors);
  EXPECT_THAT(result.errors[0].text, HasSubstr("FORWARD"));
  EXPECT_THAT(result.errors[1].text, HasSubstr("[[nat]]"));
  EXPECT_THAT(result.errors[2].text, HasSubstr("'true'"));
}

TEST(ConfigWgQuick, AnEmptyHookIsAnsweredToo) {
  EXPECT_THAT(read(kInterface + "PostUp =\n").errors, SizeIs(1));
}

TEST(ConfigWgQuick, ChecksTheTunnelsName) {
  const ReadResult result = read_wg_quick(kInterface, "a b.conf", "a b");
  ASSERT_THAT(result.errors, SizeIs(1));
  EXPECT_THAT(result.errors[0].text, HasSubstr("no interface name"));
}

}  // namespace
}  // namespace sallyport::config
