// DnsLookup: one attempt to resolve one name, A and AAAA asked at once, over a stated underlay.
//
// Each attempt is a c-ares channel of its own: it reads resolv.conf anew, its source ports are fresh, and nothing of a
// former underlay can cling to it. The sockets are ours (ares_set_socket_functions), so that not one datagram leaves
// before SO_MARK and SO_BINDTODEVICE are in place: where the kernel refuses them, nothing is asked, and the answer says so.
//
// Which servers: the stated ones and no others; neither /etc/hosts nor search domains count then. With none stated, /etc/hosts
// and after it the servers, search domains and options of resolv.conf, as libc does it (without any, 127.0.0.1).
// A stated server on this host (a stub such as 127.0.0.1:54) is asked without SO_BINDTODEVICE, which it could not be reached
// through: where that one asks in turn is its owner's word. One that resolv.conf names is refused when there is a device,
// since nobody said that it keeps to it.
//
// Cannot: DNSSEC, encrypted DNS, IDN (write the xn-- form). Costs: a socket a server, a few KiB, for seconds.
// Thread rules: the io_context's thread. Sources: ares_init_options(3), resolv.conf(5), hosts(5), RFC 1035.
#pragma once

#include <ares.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "control/limits.h"
#include "dataplane/net/address.h"

namespace sallyport {

// By which way questions go out.
struct Underlay {
  std::string device;                // SO_BINDTODEVICE; empty: routing decides
  uint32_t mark = 0;                 // SO_MARK; 0: none
  std::vector<std::string> servers;  // as parse_name_server reads them; empty: the host's
  bool operator==(const Underlay&) const = default;
};

// "192.0.2.53", "192.0.2.53:5353", "2001:db8::53", "[2001:db8::53]:5353", "fe80::1%wan". Port 53 unless stated.
Result<Endpoint> parse_name_server(std::string_view text);

// The `nameserver` lines of a resolv.conf. Empty when the file is missing, or names none that can be read.
std::vector<Endpoint> read_name_servers(const std::string& path);

// What a hosts file says about a name, in its order.
std::vector<IpAddress> read_hosts(const std::string& path, std::string_view name);

// An address that a peer can be at: not unspecified, multicast or broadcast (what blocking name servers answer).
bool is_usable_endpoint(const IpAddress& address);

class DnsLookup : public std::enable_shared_from_this<DnsLookup> {
 public:
  struct Settings {
    std::string resolv_conf = "/etc/resolv.conf";
    std::string hosts = "/etc/hosts";
    std::chrono::milliseconds server_wait = kNameServerWait;
    unsigned rounds = kNameServerRounds;
  };

  enum class Outcome {
    addresses,
    none,    // the servers say that there are none
    failed,  // nobody said anything that counts
  };
  struct Answer {
    Family family = Family::none;
    Outcome outcome = Outcome::failed;
    std::vector<IpAddress> addresses;  // usable ones, at most kResolvedPerFamilyMax
    std::chrono::seconds lifetime{0};  // the least TTL on the way to them
    std::string error;                 // a sentence, when there are no addresses
  };
  using Answered = std::function<void(const Answer&)>;

  // Calls `answered` once for each family, always from the loop and never from within start(). Whatever goes wrong comes as
  // an answer too. Dropping the last pointer ends the attempt, and nothing is called after that.
  static std::shared_ptr<DnsLookup> start(boost::asio::io_context& context, const std::string& name,
                                          const Underlay& underlay, const Settings& settings,
                                          Answered answered);
  ~DnsLookup();
  DnsLookup(const DnsLookup&) = delete;
  DnsLookup& operator=(const DnsLookup&) = delete;

 private:
  struct Question {
    DnsLookup* lookup;
    Family family;
  };
  struct Socket {
    boost::asio::posix::stream_descriptor descriptor;
    uint64_t id;  // numbers of descriptors come back, these do not
    bool wants_read = false, wants_write = false;
    bool reading = false, writing = false;
  };

  DnsLookup(boost::asio::io_context& context, const Underlay& underlay, const Settings& settings,
            Answered answered);
  void ask(const std::string& name);
  bool answer_from_hosts(const std::string& name);
  Result<void> find_servers();
  Result<void> open_channel();
  void fail_both(const std::string& text);
  void give(Answer answer);

  // What c-ares calls.
  static ares_socket_t open_socket(int family, int type, int protocol, void* self);
  static int close_socket(ares_socket_t fd, void* self);
  static int connect_socket(ares_socket_t fd, const sockaddr* to, ares_socklen_t length,
                            void* self);
  static ares_ssize_t receive(ares_socket_t fd, void* bytes, size_t length, int flags,
                              sockaddr* from, ares_socklen_t* from_length, void* self);
  static ares_ssize_t send(ares_socket_t fd, const iovec* parts, int count, void* self);
  static void socket_state(void* self, ares_socket_t fd, int readable, int writable);
  static void replied(void* question, int status, int timeouts, unsigned char* bytes, int length);

  Answer read_reply(Family family, const unsigned char* bytes, int length) const;
  std::string sentence(int status) const;
  void note(const std::string& what);
  void wait_all();
  void wait(int fd, Socket& socket, bool read);
  void wait_timeout();

  boost::asio::io_context& context_;
  Underlay underlay_;
  Settings settings_;
  Answered answered_;
  boost::asio::steady_timer timeout_;
  ares_channel channel_ = nullptr;
  Question questions_[2];
  std::vector<Endpoint> servers_;
  bool servers_stated_ = false;
  bool servers_assumed_ = false;  // resolv.conf names none
  std::unordered_map<int, Socket> sockets_;
  uint64_t next_socket_id_ = 0;
  std::string trouble_;  // the last reason for which a server was given up
};

}  // namespace sallyport
