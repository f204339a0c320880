// What RFC 4787 (UDP), RFC 5382 (TCP) and RFC 5508 (ICMP) require of a NAT, one row a requirement, each shown by packets through
// the line. A row without a check says why there is none.
//
// Inside are peers 1 (10.0.0.2, and all of 10.0.1.0/24) and 2 (10.0.0.3) of the first tunnel; outside is peer 12 of the second,
// where we are 10.9.1.1.
#include <algorithm>
#include <set>

#include "tests/dataplane/path/nat_line.h"

namespace sallyport::test {
namespace {

class NatRequirement;

struct Requirement {
  const char* name;
  const char* required;
  const char* how;  // we meet it, or why it does not apply
  void (NatRequirement::*check)();
};

constexpr const char* kUs = "10.9.1.1";
constexpr const char* kServer = "198.51.100.1";

class NatRequirement : public NatLine, public testing::WithParamInterface<Requirement> {
 public:
  // -- RFC 4787

  void endpoint_independent() {
    begin();
    const std::string first = out(1, udp("10.0.0.2", 5000, kServer, 53));
    EXPECT_EQ(first, "10.9.1.1:5000 > 198.51.100.1:53");
    EXPECT_EQ(out(1, udp("10.0.0.2", 5000, kServer, 54)), "10.9.1.1:5000 > 198.51.100.1:54");
    EXPECT_EQ(out(1, udp("10.0.0.2", 5000, "203.0.113.9", 53)), "10.9.1.1:5000 > 203.0.113.9:53");
  }
  void paired() {
    begin(independent(rule_of(NatKind::snat, "203.0.113.1", "203.0.113.8")));
    std::set<std::string> all;
    for (int host = 1; host <= 16; ++host) {
      std::set<std::string> addresses;
      for (uint16_t port = 5000; port < 5008; ++port) {
        const std::string source = "10.0.1." + std::to_string(host);
        addresses.insert(address_of(out(1, udp(source, port, kServer, port))));
      }
      EXPECT_EQ(addresses.size(), 1u) << host;
      all.insert(addresses.begin(), addresses.end());
    }
    EXPECT_GT(all.size(), 1u) << "and not all of them the same";
  }
  void no_overloading(uint8_t protocol) {
    begin();
    std::set<std::string> ends;
    for (int host = 1; host <= 32; ++host) {
      const std::string source = "10.0.1." + std::to_string(host),
                        server = "198.51.100." + std::to_string(host);
      ends.insert(
          source_of(out(1, protocol == kProtocolUdp ? udp(source, 5000, server, 53)
                                                    : tcp(source, 5000, server, 53, kTcpSyn))));
    }
    EXPECT_EQ(ends.size(), 32u) << "though the servers differ";
  }
  void no_overloading_udp() { no_overloading(kProtocolUdp); }
  void no_overloading_tcp() { no_overloading(kProtocolTcp); }
  void parity() {
    begin();
    for (int host = 1; host <= 32; ++host) {
      const auto port = static_cast<uint16_t>(6000 + host % 2);
      const std::string is =
          source_of(out(1, udp("10.0.1." + std::to_string(host), port, kServer, 53)));
      EXPECT_EQ(port_of(is) % 2, port % 2) << is;
    }
  }
  void udp_lives_two_minutes() {
    EXPECT_GE(FlowTimeouts{}.udp_stream, 300u) << "five are recommended";
    begin();
    out(1, udp("10.0.0.2", 5000, kServer, 53));
    later(119);
    EXPECT_EQ(in(udp(kServer, 53, kUs, 5000), 1), "198.51.100.1:53 > 10.0.0.2:5000");
    later(119);
    EXPECT_EQ(flows_->size(), 1u);
  }
  void refreshed_from_inside() {
    begin();
    out(1, udp("10.0.0.2", 5000, kServer, 53));
    for (int i = 0; i < 3; ++i) {
      later(100);
      EXPECT_EQ(out(1, udp("10.0.0.2", 5000, kServer, 53)), "10.9.1.1:5000 > 198.51.100.1:53");
    }
    EXPECT_EQ(flows_->size(), 1u);
  }
  void conflicting_addresses() {
    made_->rule(by(0, false), use_exit(made_->peer(tag(12))));
    begin_here(independent(masquerade()));
    EXPECT_EQ(out(1, udp("10.0.0.2", 5000, "10.0.0.3", 53)), "10.9.1.1:5000 > 10.0.0.3:53")
        << "a server outside, which has the address of an insider";
    EXPECT_EQ(source_of(out(2, udp("10.0.0.3", 5000, "10.0.0.2", 53))).substr(0, 9), "10.9.1.1:");
    EXPECT_EQ(in(udp("10.0.0.3", 53, kUs, 5000), 1), "10.0.0.3:53 > 10.0.0.2:5000");
  }
  void filters_by_address_and_port() {
    begin();
    out(1, udp("10.0.0.2", 5000, kServer, 53));
    EXPECT_EQ(in(udp(kServer, 54, kUs, 5000), 1), "0 packets");
    EXPECT_EQ(in(udp("198.51.100.2", 53, kUs, 5000), 1), "0 packets");
    EXPECT_EQ(in(udp(kServer, 53, kUs, 5000), 1), "198.51.100.1:53 > 10.0.0.2:5000");
  }
  void hairpins() {
    begin();
    out(1, udp("10.0.0.2", 5000, kServer, 53));
    out(2, udp("10.0.0.3", 6000, kServer, 53));
    EXPECT_EQ(sent(2, udp("10.0.0.3", 6000, kUs, 5000), 1), "10.9.1.1:6000 > 10.0.0.2:5000")
        << "from the outer end";
    EXPECT_EQ(sent(1, udp("10.0.0.2", 5000, kUs, 6000), 2), "10.9.1.1:5000 > 10.0.0.3:6000");
    EXPECT_EQ(sent(2, udp("10.0.0.3", 6001, kUs, 5000), 1), "10.9.1.1:6001 > 10.0.0.2:5000")
        << "who had no outer end yet has one now";
    EXPECT_EQ(out(2, udp("10.0.0.3", 6001, kServer, 9)), "10.9.1.1:6001 > 198.51.100.1:9");
    EXPECT_EQ(in(udp("198.51.100.7", 1, kUs, 5000), 1), "0 packets") << "the outside is not meant";
    EXPECT_EQ(sent(1, udp("10.0.0.2", 5000, kUs, 5000), 1), "0 packets") << "nor is oneself";
  }
  void no_alg() {
    begin();
    Packet packet = words(Family::v4, kProtocolUdp, 0);
    packet.source_port = packet.destination_port = 5060;
    const std::string text = "INVITE sip:b@198.51.100.1\r\nVia: 10.0.0.2:5060\r\n";
    packet.payload.assign(text.begin(), text.end());
    forget();
    from_peer(1, between("10.0.0.2", kServer, packet));
    const auto left = at_peer(12);
    ASSERT_EQ(left.size(), 1u);
    EXPECT_TRUE(std::equal(text.begin(), text.end(), left[0].begin() + 28));
  }
  void the_same_under_pressure() {
    begin(independent(masquerade()), 5000, 5003);
    out(2, udp("10.0.0.3", 5000, kServer, 53));
    const std::string first = source_of(out(1, udp("10.0.0.2", 5000, kServer, 53)));
    EXPECT_NE(first, "10.9.1.1:5000") << "which is another's";
    out(1, udp("10.0.1.1", 5001, kServer, 53));
    out(1, udp("10.0.1.2", 5003, kServer, 53));
    for (uint16_t port = 1; port < 20; ++port) {
      EXPECT_EQ(source_of(out(1, udp("10.0.0.2", 5000, "203.0.113.9", port))), first);
    }
    EXPECT_EQ(out(1, udp("10.0.1.3", 5000, "203.0.113.9", 53)), "0 packets")
        << "none is left, and none is used twice";
    EXPECT_EQ(dropped(DropReason::nat_no_port), 1u);
  }
  void icmp_ends_nothing(const Bytes& begins, const std::string& left, const Bytes& answer) {
    begin();
    EXPECT_EQ(out(1, begins), left);
    const Bytes translated = at_peer(12).at(0);
    for (const auto& [type, code] :
         {std::pair<uint8_t, uint8_t>{3, 1}, {3, 3}, {3, 4}, {11, 0}, {4, 0}}) {
      EXPECT_EQ(in(error_about("192.0.2.77", kUs, translated, type, code, 28), 1),
                "192.0.2.77:0 > 10.0.0.2:0")
          << "whoever says so";
      EXPECT_EQ(ends(quoted(at_peer(1).at(0))), ends(begins) + " damaged") << "cut short";
    }
    EXPECT_NE(in(answer, 1), "0 packets") << "and it goes on";
  }
  void icmp_ends_no_udp() {
    icmp_ends_nothing(udp("10.0.0.2", 5000, kServer, 53), "10.9.1.1:5000 > 198.51.100.1:53",
                      udp(kServer, 53, kUs, 5000));
  }
  void icmp_ends_no_tcp() {
    icmp_ends_nothing(tcp("10.0.0.2", 5000, kServer, 53, kTcpSyn),
                      "10.9.1.1:5000 > 198.51.100.1:53",
                      tcp(kServer, 53, kUs, 5000, kTcpSyn | kTcpAck));
  }
  void fragments() {
    begin();
    auto parts = in_three(udp("10.0.0.2", 5000, kServer, 53));
    std::swap(parts[1], parts[2]);
    for (const Bytes& part : parts) {
      forget();
      from_peer(1, part);
      const auto left = at_peer(12);
      ASSERT_EQ(left.size(), 1u);
      EXPECT_EQ(IpAddress::v4(left[0].data() + 12), *parse_address(kUs));
      EXPECT_EQ(naive_sum(left[0].data(), 20), 0xffff);
    }
    EXPECT_EQ(out(1, in_three(udp("10.0.0.2", 5001, kServer, 53), 9)[1]), "0 packets");
    EXPECT_EQ(dropped(DropReason::fragment_early), 1u) << "what is never held fills no memory";
  }

  // -- RFC 5382

  void endpoint_independent_tcp() {
    begin();
    EXPECT_EQ(out(1, tcp("10.0.0.2", 5000, kServer, 80, kTcpSyn)),
              "10.9.1.1:5000 > 198.51.100.1:80");
    EXPECT_EQ(out(1, tcp("10.0.0.2", 5000, "203.0.113.9", 81, kTcpSyn)),
              "10.9.1.1:5000 > 203.0.113.9:81");
  }
  void all_sequences() {
    begin();
    EXPECT_EQ(out(1, tcp("10.0.0.2", 5000, kServer, 80, kTcpSyn)),
              "10.9.1.1:5000 > 198.51.100.1:80");
    EXPECT_EQ(in(tcp(kServer, 80, kUs, 5000, kTcpSyn), 1), "198.51.100.1:80 > 10.0.0.2:5000")
        << "both at once";
    EXPECT_NE(out(1, tcp("10.0.0.2", 5000, kServer, 80, kTcpSyn | kTcpAck)), "0 packets");
    EXPECT_NE(in(tcp(kServer, 80, kUs, 5000, kTcpSyn | kTcpAck), 1), "0 packets");
    EXPECT_NE(in(tcp(kServer, 80, kUs, 5000, kTcpFin | kTcpAck), 1), "0 packets");
    EXPECT_NE(out(1, tcp("10.0.0.2", 5000, kServer, 80, kTcpAck)), "0 packets") << "half closed";
    EXPECT_NE(out(1, tcp("10.0.0.2", 5000, kServer, 80, kTcpFin | kTcpAck)), "0 packets");
    EXPECT_NE(in(tcp(kServer, 80, kUs, 5000, kTcpAck), 1), "0 packets");
    EXPECT_NE(out(1, tcp("10.0.0.2", 5000, kServer, 80, kTcpSyn)), "0 packets") << "again";
    EXPECT_EQ(flows_->size(), 1u);
  }
  void filters_tcp() {
    begin();
    out(1, tcp("10.0.0.2", 5000, kServer, 80, kTcpSyn));
    EXPECT_EQ(in(tcp(kServer, 81, kUs, 5000, kTcpSyn | kTcpAck), 1), "0 packets");
    EXPECT_EQ(in(tcp(kServer, 80, kUs, 5000, kTcpSyn | kTcpAck), 1),
              "198.51.100.1:80 > 10.0.0.2:5000");
  }
  void silent_about_a_syn() {
    RuleConditions from_outside = by(1, false);
    filter(by(0, false), does(FilterAction::accept));
    filter(std::move(from_outside), does(FilterAction::drop, FilterRule::bit(FlowState::fresh)));
    begin();
    forget();
    from_peer(12, tcp(kServer, 80, kUs, 5000, kTcpSyn));
    EXPECT_TRUE(second_outer.sent.empty()) << "nothing is said";
    EXPECT_EQ(out(1, tcp("10.0.0.2", 5000, kServer, 80, kTcpSyn)),
              "10.9.1.1:5000 > 198.51.100.1:80")
        << "and the port is there for who opens it from inside";
    EXPECT_EQ(in(tcp(kServer, 80, kUs, 5000, kTcpSyn | kTcpAck), 1),
              "198.51.100.1:80 > 10.0.0.2:5000");
  }
  void tcp_lives_two_hours() {
    begin();
    out(1, tcp("10.0.0.2", 5000, kServer, 80, kTcpSyn));
    later(239);
    in(tcp(kServer, 80, kUs, 5000, kTcpSyn | kTcpAck), 1);
    later(239);
    out(1, tcp("10.0.0.2", 5000, kServer, 80, kTcpAck));
    later(2 * 3600 + 4 * 60 - 1);
    EXPECT_NE(in(tcp(kServer, 80, kUs, 5000, kTcpAck), 1), "0 packets");
  }
  void hairpins_tcp() {
    begin();
    out(1, tcp("10.0.0.2", 5000, kServer, 80, kTcpSyn));
    EXPECT_EQ(sent(2, tcp("10.0.0.3", 6000, kUs, 5000, kTcpSyn), 1),
              "10.9.1.1:6000 > 10.0.0.2:5000");
    EXPECT_EQ(sent(1, tcp("10.0.0.2", 5000, kUs, 6000, kTcpSyn | kTcpAck), 2),
              "10.9.1.1:5000 > 10.0.0.3:6000");
  }
  void translates_errors_of_tcp() {
    begin();
    const Bytes begins = tcp("10.0.0.2", 5000, kServer, 80, kTcpSyn);
    out(1, begins);
    const Bytes translated = at_peer(12).at(0);
    EXPECT_EQ(in(error_about(kServer, kUs, translated, 3, 3), 1), "198.51.100.1:0 > 10.0.0.2:0");
    EXPECT_EQ(ends(quoted(at_peer(1).at(0))), "10.0.0.2:5000 > 198.51.100.1:80");
  }

  // -- RFC 5508

  void queries() {
    begin();
    EXPECT_EQ(out(1, ping("10.0.0.2", kServer, 7777)), "10.9.1.1:7777 > 198.51.100.1:7777");
    EXPECT_EQ(out(1, ping("10.0.0.2", "203.0.113.9", 7777)), "10.9.1.1:7777 > 203.0.113.9:7777")
        << "the same id, whoever is asked";
    const std::string other = source_of(out(2, ping("10.0.0.3", "203.0.113.10", 7777)));
    EXPECT_NE(other, "10.9.1.1:7777");
    EXPECT_EQ(in(ping(kServer, kUs, 7777, true), 1), "198.51.100.1:7777 > 10.0.0.2:7777");
    EXPECT_EQ(in(ping("203.0.113.10", kUs, static_cast<uint16_t>(port_of(other)), true), 2),
              "203.0.113.10:7777 > 10.0.0.3:7777");
  }
  void queries_live_a_minute() {
    begin();
    out(1, ping("10.0.0.2", kServer, 7777));
    later(60);
    EXPECT_EQ(in(ping(kServer, kUs, 7777, true), 1), "198.51.100.1:7777 > 10.0.0.2:7777");
  }
  void damaged_errors() {
    begin();
    out(1, udp("10.0.0.2", 5000, kServer, 53));
    const Bytes translated = at_peer(12).at(0);
    Bytes damaged = error_about(kServer, kUs, translated, 3, 3);
    damaged[30] ^= 1;
    EXPECT_EQ(in(damaged, 1), "0 packets") << "its checksum is wrong";
    Bytes inner = translated;
    inner[10] ^= 1;
    EXPECT_EQ(in(error_about(kServer, kUs, inner, 3, 3), 1), "0 packets")
        << "that of the header it quotes is";
    EXPECT_EQ(in(error_about(kServer, kUs, translated, 3, 3), 1), "198.51.100.1:0 > 10.0.0.2:0");
  }
  void errors_from_outside() {
    begin();
    out(1, udp("10.0.0.2", 5000, kServer, 53));
    const Bytes translated = at_peer(12).at(0);
    in(error_about("192.0.2.77", kUs, translated, 3, 1), 1);
    EXPECT_EQ(ends(at_peer(1).at(0)), "192.0.2.77:0 > 10.0.0.2:0");
    EXPECT_EQ(ends(quoted(at_peer(1).at(0))), "10.0.0.2:5000 > 198.51.100.1:53");
    EXPECT_EQ(in(error_about("192.0.2.77", kUs, udp(kUs, 5001, kServer, 53), 3, 1), 1), "0 packets")
        << "about what nobody sent";
  }
  void errors_from_inside() {
    begin();
    out(1, udp("10.0.0.2", 5000, kServer, 53));
    in(udp(kServer, 53, kUs, 5000), 1);
    const Bytes got = at_peer(1).at(0);
    EXPECT_EQ(out(1, error_about("10.0.0.2", kServer, got, 3, 3)), "10.9.1.1:0 > 198.51.100.1:0");
    EXPECT_EQ(ends(quoted(at_peer(12).at(0))), "198.51.100.1:53 > 10.9.1.1:5000");
  }
  void errors_keep_nothing_alive() {
    begin();
    out(1, ping("10.0.0.2", kServer, 7777));
    const Bytes translated = at_peer(12).at(0);
    later(40);
    EXPECT_EQ(in(error_about("192.0.2.77", kUs, translated, 11, 0), 1),
              "192.0.2.77:0 > 10.0.0.2:0");
    EXPECT_EQ(ends(quoted(at_peer(1).at(0))), "10.0.0.2:7777 > 198.51.100.1:7777");
    EXPECT_EQ(flows_->size(), 1u) << "nor does it end it";
    later(40);
    EXPECT_EQ(flows_->size(), 0u);
  }
  void hairpinned_errors() {
    begin();
    out(1, udp("10.0.0.2", 5000, kServer, 53));
    sent(2, udp("10.0.0.3", 6000, kUs, 5000), 1);
    const Bytes got = at_peer(1).at(0);
    EXPECT_EQ(sent(1, error_about("10.0.0.2", kUs, got, 3, 3), 2), "10.9.1.1:0 > 10.0.0.3:0");
    EXPECT_EQ(ends(quoted(at_peer(2).at(0))), "10.0.0.3:6000 > 10.9.1.1:5000");
  }
  void exhaustion_is_told() {
    begin(independent(masquerade()), 5000, 5000);
    out(1, udp("10.0.0.2", 5000, kServer, 53));
    const Bytes second = udp("10.0.0.3", 5000, kServer, 53);
    EXPECT_EQ(sent(2, second, 2), "198.51.100.1:0 > 10.0.0.3:0");
    const Bytes told = at_peer(2).at(0);
    EXPECT_EQ(told[20], 3);
    EXPECT_EQ(told[21], 13) << "administratively prohibited";
    EXPECT_EQ(ends(quoted(told)), ends(second));
  }
  void time_exceeded() {
    begin();
    Bytes last = udp("10.0.0.2", 5000, kServer, 53);
    last[8] = 1;
    fix_ip_checksum(last);
    EXPECT_EQ(sent(1, last, 1), "198.51.100.1:0 > 10.0.0.2:0");
    EXPECT_EQ(at_peer(1).at(0)[20], 11);
  }
  void other_messages() {
    begin();
    out(1, udp("10.0.0.2", 5000, kServer, 53));
    const Bytes redirect = error_about(kServer, kUs, at_peer(12).at(0), 5, 1);
    EXPECT_EQ(in(redirect, 1), "0 packets") << "a redirect is nobody's inside";
  }

 protected:
  void SetUp() override {
    NatLine::SetUp();
    const uint8_t everywhere[4] = {}, more[4] = {10, 0, 1, 0};
    second_tunnel.allowed_v4.insert(Lpm4::from_bytes(everywhere), 0, 12);
    tunnel.allowed_v4.insert(Lpm4::from_bytes(more), 24, 1);
    tag(1);
    tag(2);
  }
  void begin(NatRule rule = independent(masquerade()), uint16_t first_port = 1024,
             uint16_t last_port = 65535) {
    made_->rule(to("10.0.0.0/23"), use_exit(made_->tunnel(0)));
    made_->rule(by(0, false), use_exit(made_->peer(tag(12))));
    begin_here(std::move(rule), first_port, last_port);
  }
  void begin_here(NatRule rule, uint16_t first_port = 1024, uint16_t last_port = 65535) {
    nat(from("10.0.0.0/23"), std::move(rule));
    begin_policy(first_port, last_port);
  }
  // What of it arrives there.
  std::string sent(uint32_t slot, const Bytes& packet, uint32_t there) {
    forget();
    from_peer(slot, packet);
    return only(at_peer(there));
  }
  std::string out(uint32_t slot, const Bytes& packet) { return sent(slot, packet, 12); }
  std::string in(const Bytes& packet, uint32_t there) { return sent(12, packet, there); }
  void later(uint32_t seconds) {
    context->now += seconds * kSecond;
    for (auto& [slot, keypair] : sessions_) {
      keypair->birth = context->now;  // sessions are not what is looked at
    }
    flows_->expire(context->now, 1 << 20);
  }
  // "10.9.1.1:5000" of "10.9.1.1:5000 > 198.51.100.1:53".
  static std::string source_of(const std::string& ends) { return ends.substr(0, ends.find(' ')); }
  static std::string address_of(const std::string& ends) { return ends.substr(0, ends.find(':')); }
  static int port_of(const std::string& end) { return std::atoi(end.c_str() + end.find(':') + 1); }
  // Three fragments of a UDP packet with 40 bytes of payload.
  static std::array<Bytes, 3> in_three(const Bytes& packet, uint8_t id = 1) {
    std::array<Bytes, 3> parts;
    for (size_t i = 0; i < 3; ++i) {
      const size_t begin = 20 + i * 16, end = i == 2 ? packet.size() : begin + 16;
      parts[i].assign(packet.begin(), packet.begin() + 20);
      parts[i].insert(parts[i].end(), packet.begin() + static_cast<ptrdiff_t>(begin),
                      packet.begin() + static_cast<ptrdiff_t>(end));
      parts[i][3] = static_cast<uint8_t>(parts[i].size());
      parts[i][5] = id;
      put16(parts[i], 6, static_cast<uint32_t>((i < 2 ? 0x2000u : 0u) | i * 2));
      fix_ip_checksum(parts[i]);
    }
    return parts;
  }
};

using Row = NatRequirement;
const Requirement kRequirements[] = {
    {"4787_01", "endpoint-independent mapping", "endpoint_independent", &Row::endpoint_independent},
    {"4787_02", "one outer address for one insider", "a pool is paired", &Row::paired},
    {"4787_03", "no port for two insiders", "MappingTable", &Row::no_overloading_udp},
    {"4787_04", "parity is kept", "PortBlocks looks there first", &Row::parity},
    {"4787_05", "a mapping lives two minutes", "FlowTimeouts", &Row::udp_lives_two_minutes},
    {"4787_06", "the inside refreshes it", "both directions do", &Row::refreshed_from_inside},
    {"4787_07", "one address inside and outside", "policy knows where a packet comes in",
     &Row::conflicting_addresses},
    {"4787_08", "filtering is of a kind", "by address and port: what is no reply is no flow's",
     &Row::filters_by_address_and_port},
    {"4787_09", "hairpinning, from the outer end", "the mapping is looked for", &Row::hairpins},
    {"4787_10", "ALGs can be off", "there are none", &Row::no_alg},
    {"4787_11", "nothing changes under conflicts", "a mapping stays while it is held",
     &Row::the_same_under_pressure},
    {"4787_12", "ICMP ends no mapping, whoever sends it", "errors are translated, and that is all",
     &Row::icmp_ends_no_udp},
    {"4787_13", "too big is told, or fragmented",
     "is not the translation's: seal knows what fits a tunnel", nullptr},
    {"4787_14", "fragments, in any order", "in any order behind the first one, which has the ports",
     &Row::fragments},

    {"5382_01", "endpoint-independent mapping", "as UDP", &Row::endpoint_independent_tcp},
    {"5382_02", "all valid sequences, simultaneous open too", "TcpState", &Row::all_sequences},
    {"5382_03", "filtering is of a kind", "by address and port", &Row::filters_tcp},
    {"5382_04", "no word to an unexpected SYN for six seconds", "none ever: a filter drops it",
     &Row::silent_about_a_syn},
    {"5382_05", "two hours and four minutes; four before and after", "FlowTimeouts",
     &Row::tcp_lives_two_hours},
    {"5382_06", "ALGs can be off", "there are none", &Row::no_alg},
    {"5382_07", "no port for two insiders", "MappingTable", &Row::no_overloading_tcp},
    {"5382_08", "hairpinning, from the outer end", "as UDP", &Row::hairpins_tcp},
    {"5382_09", "unreachables are translated", "they belong to the flow of what they quote",
     &Row::translates_errors_of_tcp},
    {"5382_10", "ICMP ends no connection", "errors are translated, and that is all",
     &Row::icmp_ends_no_tcp},

    {"5508_01", "queries and their answers pass", "an id is a port", &Row::queries},
    {"5508_02", "a query lives a minute", "FlowTimeouts", &Row::queries_live_a_minute},
    {"5508_03", "damaged errors are not translated", "find_quoted looks at both checksums",
     &Row::damaged_errors},
    {"5508_04", "errors from outside: the packet in it as it was sent", "translate_error",
     &Row::errors_from_outside},
    {"5508_05", "errors from inside: from the outer address", "translate_error",
     &Row::errors_from_inside},
    {"5508_06", "errors neither refresh nor end", "they are not noted",
     &Row::errors_keep_nothing_alive},
    {"5508_07", "hairpinned errors", "a hairpin is a flow", &Row::hairpinned_errors},
    {"5508_08", "who gets no session is told: prohibited", "when ports or the table run out",
     &Row::exhaustion_is_told},
    {"5508_09", "policy may keep ICMP from being sent", "is allowed, not required: budgets do",
     nullptr},
    {"5508_10", "time exceeded is told", "route counts down", &Row::time_exceeded},
    {"5508_11", "other messages are not translated", "a redirect quotes nothing for us",
     &Row::other_messages},
};

TEST_P(NatRequirement, IsMet) {
  SCOPED_TRACE(GetParam().required);
  (this->*GetParam().check)();
}

std::vector<Requirement> checked() {
  std::vector<Requirement> rows(std::begin(kRequirements), std::end(kRequirements));
  std::erase_if(rows, [](const Requirement& row) { return row.check == nullptr; });
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Rfc, NatRequirement, testing::ValuesIn(checked()),
                         [](const auto& row) { return std::string(row.param.name); });

TEST(NatRequirements, NoneIsLeftOut) {
  std::set<std::string> names;
  for (const Requirement& row : kRequirements) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_FALSE(std::string(row.how).empty()) << row.name;
  }
  for (const auto& [rfc, count] : {std::pair{"4787", 14}, {"5382", 10}, {"5508", 11}}) {
    for (int i = 1; i <= count; ++i) {
      const std::string name = std::string(rfc) + (i < 10 ? "_0" : "_") + std::to_string(i);
      EXPECT_TRUE(names.erase(name) == 1) << name;
    }
  }
  EXPECT_TRUE(names.empty());
}

}  // namespace
}  // namespace sallyport::test
