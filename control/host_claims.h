// HostClaims: puts Claims (control/claims.h) in force on the host, and takes them back.
//
// Rules and routes carry our protocol number; a rule of ours is one that leads to one of our tables, or that leads to `local` from
// priority 0. apply() reads what is there and changes it until it is what is wanted, as HostRoutes does.
//
// The host's own rule `0: lookup local` has to stand behind ours, which have the same priority: the kernel puts a new
// rule behind its equals. So the rules that are wanted are added, then a second `local`, and only then the first
// one goes. At no time is there none, and a daemon that is killed leaves the host with rules that lead nowhere, since their
// tables are empty without the TUN, and with `local`. A rule of somebody else's with priority 0 is before `local` afterwards.
//
// Two daemons on one host need tables that are more than kTablesMax apart.
//
// Thread rules: control's thread; apply() blocks it. It acts in the network namespace it was opened in.
#pragma once

#include <memory>
#include <vector>

#include "control/claims.h"
#include "control/netlink.h"
#include "dataplane/base/result.h"

namespace sallyport {

class HostClaims {
 public:
  struct Options {
    uint32_t table = 181;  // the first of ours
    uint8_t protocol = 180;
    uint32_t source_priority = 5178;

    bool operator==(const Options&) const = default;
  };
  static constexpr uint32_t kTablesMax = 16;  // that are looked at for what a killed daemon left

  static Result<std::unique_ptr<HostClaims>> open(const Options& options);

  Result<void> apply(const Claims& wanted);
  Result<void> remove_all() { return apply({}); }

 private:
  HostClaims(const Options& options, Netlink netlink)
      : options_(options), netlink_(std::move(netlink)) {}

  bool is_ours(const FoundRule& found) const;
  Result<void> apply_rules(Family family, const Claims& wanted);
  Result<void> put_first(const std::vector<HostRule>& wanted, const std::vector<FoundRule>& found);
  Result<void> add(const HostRule& rule);
  Result<void> remove(const FoundRule& rule);

  const Options options_;
  Netlink netlink_;
  std::vector<Claims::Table> tables_;  // with a route of ours
};

}  // namespace sallyport
