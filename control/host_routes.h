// HostRoutes: what of the host's traffic goes into our tunnels: routes in a table of our own, and the rules that lead there.
//
//     rule    P-1:  lookup main suppress_prefixlength 0    where a whole family is captured: main's own routes first,
//     rule    P-1:  iif wg0 lookup TABLE suppress_prefixlength 0    and what has come out of the tunnel for the world outside
//     rule    P-1:  iif wg0 lookup main                             does not go into it again: an exit and its user at once
//     rule    P:    not fwmark FROM lookup TABLE           or, with a to-mark: fwmark TO lookup TABLE
//     table:        10.0.0.0/8 dev wg0, throw 10.1.0.0/16  a prefix, and a hole in it
//
// Everything carries our route protocol number (routes: rtm_protocol, rules: FRA_PROTOCOL), which is how it is known again:
// apply() reads what is there, and adds, changes and removes until it is what is wanted. So it can be called at any time, it
// repairs, and it cleans up after a daemon that was killed. What does not carry our number is never touched, in no table;
// where it stands in the way the report says so.
//
// Order: routes come before the rules and go after them; a route in the old and the new set is kept, or replaced in place,
// so no packet of it ever finds neither. A failure undoes what the call has done.
//
// Cost: 300,000 prefixes in 1.5 s, a million in 5 s; about 200 bytes a prefix while it works, nothing when idle.
// Cannot: see a route vanish with its link when that goes down (the kernel says nothing); watch() speaks up when the link
// is up again. Two daemons on one host need different tables and rule priorities.
//
// Thread rules: control's thread; apply() blocks it. It acts in the network namespace it was opened in.
// Sources: rtnetlink(7), ip-rule(8); the suppressing rule is wg-quick(8)'s.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/host_route_messages.h"
#include "control/host_watch.h"
#include "control/netlink.h"
#include "dataplane/base/result.h"

namespace sallyport {

class HostRoutes {
 public:
  static constexpr size_t kRoutesMax = size_t{1} << 22;

  // config::Host's.
  struct Options {
    uint32_t table = 180;
    uint8_t protocol = 180;
    uint32_t rule_priority = 5180;
    uint32_t from_mark = 0x51820;
    std::optional<uint32_t> to_mark{};
  };

  // At most one route for a prefix; another is an error.
  struct Wanted {
    std::vector<HostRoute> routes;
    std::vector<HostRule> rules;
  };

  struct Counts {
    size_t added = 0;
    size_t changed = 0;  // replaced in place
    size_t removed = 0;
    size_t kept = 0;
  };
  struct Report {
    Counts routes, rules;
    std::vector<std::string> warnings;
    bool changed() const {
      return routes.added + routes.changed + routes.removed + rules.added + rules.removed != 0;
    }
  };

  static Result<std::unique_ptr<HostRoutes>> open(const Options& options);
  ~HostRoutes();  // leaves everything as it is
  HostRoutes(const HostRoutes&) = delete;
  HostRoutes& operator=(const HostRoutes&) = delete;

  // The rules that lead to these routes: for each family with a prefix to go out.
  static std::vector<HostRule> rules_for(const Options& options,
                                         const std::vector<HostRoute>& routes);

  Result<Report> apply(const Wanted& wanted);
  Result<void> remove_all();

  // Calls when somebody else changed or removed something of ours, or a link of our routes came up; it says "apply again",
  // not what happened, and may say it in vain or often in a row. Once; ends with this object.
  Result<void> watch(boost::asio::io_context& context, std::function<void()> on_change);

 private:
  struct Change {
    HostRoute from, to;
  };
  struct Plan {
    std::vector<HostRoute> adds;
    std::vector<Change> changes;
    std::vector<FoundRoute> removals;
    std::vector<HostRule> rule_adds;
    std::vector<FoundRule> rule_removals;
    Report report;
  };
  // How far a plan was carried out: what the kernel may have seen.
  struct Progress {
    size_t adds = 0, changes = 0, removals = 0, rule_adds = 0, rule_removals = 0;
  };

  HostRoutes(const Options& options, Netlink netlink);
  Result<void> plan_routes(Family family, std::vector<HostRoute> wanted, Plan& plan);
  void plan_prefix(const HostRoute* wanted, const FoundRoute* found, size_t count, Plan& plan,
                   size_t& foreign) const;
  Result<void> plan_rules(Family family, const std::vector<HostRule>& wanted, Plan& plan);
  bool is_ours(const FoundRule& rule, const std::vector<FoundRule>& all) const;
  Result<void> carry_out(const Plan& plan, Progress& progress);
  Result<void> carry_out_rules(const Plan& plan, Progress& progress);
  void undo(const Plan& plan, const Progress& progress);
  std::string table_text() const;

  const Options options_;
  Netlink netlink_;
  std::vector<uint32_t> links_;  // of the routes last wanted
  std::unique_ptr<HostWatch> watch_;
};

}  // namespace sallyport
