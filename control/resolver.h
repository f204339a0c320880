// Resolver: the addresses behind the names of endpoints, kept current.
//
// A name is watched. Its A and AAAA are asked at once (dns_lookup.h); the first family that answers is reported at once and
// leads the list from then on, the other one follows when it comes. When the least TTL has run out (at least 5 s, at most
// an hour), or when the caller says that handshakes go stale (refresh), the name is asked for again. A failure is tried
// again after 1 s, 1.2 s, ... 60 s, less up to a fifth by chance, without an end; meanwhile the last known addresses stay. So
// it may start before there is any DNS: while names fail that need the host's resolv.conf, a change of that file is noticed
// within a second.
//
// Lists are stable: an order that only turned round (as balancing name servers do it) is no change, and addresses that
// remain keep their place before new ones. Only a changed list is reported.
//
// Which way questions go, and to whom: Underlay. A name of one tunnel never goes out by the underlay of another.
//
// Bounds: 16 addresses a family; 64 lookups at one time, other names wait their turn. Nothing here blocks, but for reading
// /etc/hosts and resolv.conf. Cannot: say which of the addresses has a route; the caller tries them in turn.
// Thread rules: the io_context's thread. `changed` may do anything, down to destroying the resolver.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "control/dns_lookup.h"
#include "control/limits.h"
#include "dataplane/net/address.h"

namespace sallyport {

class Resolver {
 public:
  using milliseconds = std::chrono::milliseconds;
  enum class Handle : uint64_t { none = 0 };
  using Changed = std::function<void(const std::vector<IpAddress>&)>;  // never empty

  struct Settings {
    DnsLookup::Settings lookup;
    milliseconds lifetime_min = kNameLifetimeMin, lifetime_max = kNameLifetimeMax;
    milliseconds retry_min = kNameRetryMin, retry_max = kNameRetryMax;
    milliseconds resolv_conf_look = kResolvConfLook;
    size_t lookups_max = kResolverLookupsMax;
  };

  // What status and explain say of a name.
  struct State {
    std::string host;
    std::vector<IpAddress> addresses;  // the last known ones
    std::string error;                // of the last attempt; empty: it went well, or there was none
    unsigned failures = 0;            // in a row
    bool asking = false;              // or waiting for its turn
    std::optional<milliseconds> age;  // since the addresses were last confirmed
    std::optional<milliseconds> next;  // until they are asked for again; never for a numeric host
  };

  explicit Resolver(boost::asio::io_context& context);
  Resolver(boost::asio::io_context& context, Settings settings);
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // `changed` is called from the loop, never from in here. A numeric host is answered with itself (a %scope is left out),
  // once and at once.
  Handle watch(std::string host, Underlay underlay, Changed changed);

  // Handshakes go stale: asks now, or as soon as the last attempt is lifetime_min old. Costs nothing when repeated.
  void refresh(Handle handle);

  // The configuration changed: what is known stays, and the new servers are asked at once.
  void set_underlay(Handle handle, Underlay underlay);

  // `changed` is not called any more.
  void forget(Handle handle);

  State describe(Handle handle) const;

 private:
  using Clock = std::chrono::steady_clock;

  struct Half {  // what is known of one family
    std::vector<IpAddress> addresses;
    std::optional<DnsLookup::Answer> answer;  // in the attempt that runs
  };
  struct Name {
    explicit Name(boost::asio::io_context& context) : timer(context) {}
    std::string host;
    Underlay underlay;
    Changed changed;
    bool numeric = false;
    bool queued = false;
    std::shared_ptr<DnsLookup> lookup;
    Half v4, v6;
    Family lead = Family::none;
    std::vector<IpAddress> addresses;  // both, as reported
    std::string error;
    unsigned failures = 0;
    milliseconds retry{0};
    std::string resolv_conf_was;  // fingerprint at the last attempt
    std::optional<Clock::time_point> asked, confirmed, due;
    boost::asio::steady_timer timer;
    uint64_t timer_id = 0;
  };

  Name* find(Handle handle);
  void attempt(Handle handle, Name& name);
  void drop_lookup(Name& name);
  void start_waiting();
  void answered(Handle handle, const DnsLookup::Answer& answer);
  void finish(Handle handle, Name& name);
  bool update_list(Name& name);
  void wait_until(Handle handle, Name& name, Clock::time_point due);
  void sleep(Handle handle, Name& name);
  void woken(Handle handle, Name& name);
  std::string resolv_conf_fingerprint() const;

  boost::asio::io_context& context_;
  Settings settings_;
  std::unordered_map<Handle, std::unique_ptr<Name>> names_;
  std::deque<Handle> waiting_;
  size_t running_ = 0;
  uint64_t next_handle_ = 1;
  std::minstd_rand jitter_{std::random_device{}()};
  std::shared_ptr<Resolver*> self_;  // handlers hold it weakly
};

}  // namespace sallyport
