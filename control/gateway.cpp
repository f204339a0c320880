#include "control/gateway.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "control/capture.h"
#include "control/check.h"
#include "control/loop_check.h"
#include "control/reverse_path.h"
#include "control/uapi.h"

namespace sallyport {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kRepairDelay{500};  // changes come in swarms
constexpr seconds kLookAfter{5};

HostRoutes::Options host_options(const config::Host& host) {
  return {host.table, host.route_protocol, host.rule_priority, host.from_mark, host.to_mark};
}

bool same_place(const config::Host& a, const config::Host& b) {
  return a.table == b.table && a.route_protocol == b.route_protocol && a.manage == b.manage &&
         a.rule_priority == b.rule_priority && a.from_mark == b.from_mark && a.to_mark == b.to_mark;
}

EngineOptions engine_options(unsigned workers) {
  EngineOptions options;
  options.workers = workers;
  options.tunnels = 0;
  return options;
}

std::unexpected<ControlFailure> refuse(const std::string& file,
                                       const std::vector<config::Problem>& problems) {
  return control_fail(file + " is refused, and nothing has changed", config::to_texts(problems));
}

}  // namespace

struct Gateway::Fresh {
  Lists lists;  // watches that were not there before
  PolicyAssets::Prepared sets;
  std::map<std::string, std::unique_ptr<GatewayTunnel>> tunnels;  // that were not there before
  BuiltPolicy policy;
  std::vector<std::string> applied;  // tunnels that have the new configuration
};

Gateway::Gateway(boost::asio::io_context& context, unsigned workers,
                 std::function<void(std::string)> failed)
    : context_(context),
      failed_(std::move(failed)),
      engine_(engine_options(workers)),
      loader_(
          context,
          [this](PolicyAssets::Prepared prepared, const std::vector<config::Problem>& problems) {
            list_loaded(std::move(prepared), problems);
          }),
      resolver_(context),
      monitor_(context, engine_),
      repair_timer_(context),
      look_timer_(context),
      tap_timer_(context),
      sweep_timer_(context) {
  host_nat_.emplace(context_, engine_);
  engine_.run_threads();
  look_after();
  sweep_flows();
}

Gateway::~Gateway() {
  host_nat_.reset();
  if (routes_ != nullptr) {
    if (auto removed = routes_->remove_all(); !removed) {
      spdlog::error("{}", removed.error().text);
    }
  }
  monitor_.follow({}, nullptr, names_, {});
  engine_.set_tap(nullptr);
  engine_.set_policy(nullptr);
  tunnels_.clear();
  engine_.stop_threads();
}

GatewayTunnel* Gateway::tunnel(const std::string& name) const {
  const auto found = tunnels_.find(name);
  return found == tunnels_.end() ? nullptr : found->second.get();
}

// -- A configuration comes into force.

// All that can be found wrong without touching what runs.
Gateway::Outcome Gateway::prepare(const config::Config& config, Fresh& fresh) {
  std::vector<config::Problem> errors;
  fresh.lists = watch_lists(config);
  fresh.sets = check_beyond(config, /*with_credentials=*/true, errors);
  if (!errors.empty()) {
    return refuse(config.file, errors);
  }
  TunnelNumbers numbers;
  for (const config::Tunnel& wanted : config.tunnels) {
    GatewayTunnel* there = tunnel(wanted.name);
    if (there == nullptr) {
      auto opened = GatewayTunnel::open(
          context_, engine_, resolver_, wanted.name, config.host.route_protocol,
          {[this, name = wanted.name] { failed_("the TUN of " + name + " was deleted"); },
           [this, name = wanted.name](const IpAddress& address, uint16_t port) {
             return leads_back(name, address, port);
           }});
      if (!opened) {
        return refuse(config.file, {{wanted.where, "tunnel." + wanted.name, opened.error().text}});
      }
      there = opened->get();
      fresh.tunnels[wanted.name] = std::move(*opened);
    }
    numbers[wanted.name] = there->number();
  }
  auto policy = build_policy(config, numbers, engine_, assets_);
  if (!policy) {
    return refuse(config.file, {{{config.file, 0}, "", policy.error().text}});
  }
  fresh.policy = std::move(*policy);
  return {};
}

TunnelNumber Gateway::via_of(const config::Tunnel& wanted, const Fresh& fresh) const {
  if (wanted.via.empty()) {
    return kNoTunnel;
  }
  const auto opened = fresh.tunnels.find(wanted.via);
  return opened != fresh.tunnels.end() ? opened->second->number() : tunnel(wanted.via)->number();
}

// Tunnel by tunnel; when one refuses, those before it go back.
Gateway::Outcome Gateway::apply_tunnels(const config::Config& config, Fresh& fresh) {
  for (const config::Tunnel& wanted : config.tunnels) {
    const auto opened = fresh.tunnels.find(wanted.name);
    GatewayTunnel& its = opened != fresh.tunnels.end() ? *opened->second : *tunnel(wanted.name);
    its.set_via(via_of(wanted, fresh));
    if (auto applied = its.apply(config, wanted); !applied) {
      return refuse(config.file, {{{}, "", applied.error().text}});  // it says where
    }
    fresh.applied.push_back(wanted.name);
  }
  return {};
}

Result<void> Gateway::apply_routes(const config::Config& config, const SetEntries& entries,
                                   std::unique_ptr<HostRoutes>& replaced) {
  const bool moves = configured_ && !same_place(config_.host, config.host);
  if (moves || routes_ == nullptr) {
    replaced = std::move(routes_);
    if (!config.host.manage) {
      return {};
    }
    auto opened = HostRoutes::open(host_options(config.host));
    if (!opened) {
      return std::unexpected(std::move(opened.error()));
    }
    routes_ = std::move(*opened);
    if (auto watched = routes_->watch(context_, [this] { repair_later(); }); !watched) {
      spdlog::warn("{}: routes that others remove are not put back", watched.error().text);
    }
  }
  std::map<std::string, uint32_t> links;
  for (const auto& [name, its] : tunnels_) {
    links[name] = its->index();
  }
  HostRoutes::Wanted wanted;
  around_ = endpoints_around();
  wanted.routes = captured_routes(config, entries, links, around_);
  wanted.rules = HostRoutes::rules_for(host_options(config.host), wanted.routes);
  auto report = routes_->apply(wanted);
  if (!report) {
    return std::unexpected(std::move(report.error()));
  }
  for (const std::string& warning : report->warnings) {
    spdlog::warn("{}", warning);
  }
  return {};
}

HostNat::Tunnels Gateway::nat_tunnels() const {
  HostNat::Tunnels out;
  for (const auto& [name, its] : tunnels_) {
    out.links[name] = its->index();
    out.listen_ports[name] = its->listen_port();
    out.numbers[name] = its->number();
  }
  return out;
}

// Nothing in here fails.
void Gateway::commit(const config::Config& config, Fresh& fresh) {
  assets_.commit(std::move(fresh.sets));
  std::unique_ptr<Policy> policy = std::move(fresh.policy.policy);
  names_ = std::move(fresh.policy.names);
  if (!has_policy(config)) {
    policy.reset();
  }
  monitor_.follow(config, policy.get(), names_, fresh.policy.probed);
  engine_.set_policy(std::move(policy));
  std::erase_if(tunnels_, [&](const auto& each) {
    return std::none_of(config.tunnels.begin(), config.tunnels.end(),
                        [&](const config::Tunnel& kept) { return kept.name == each.first; });
  });
  config_ = config;
  configured_ = true;
  assets_.drop_unused(config_);
  for (auto& [name, watch] : fresh.lists) {
    lists_[name] = std::move(watch);
  }
  std::erase_if(lists_, [&](const auto& each) {
    return std::none_of(config_.sets.begin(), config_.sets.end(), [&](const config::Set& set) {
      return set.name == each.first && set.watch && !set.file.empty();
    });
  });
}

Gateway::Outcome Gateway::apply(const config::Config& config) {
  Fresh fresh;
  if (auto prepared = prepare(config, fresh); !prepared) {
    return prepared;
  }
  std::vector<std::string> opened;
  Outcome done = apply_tunnels(config, fresh);
  for (auto& [name, its] : fresh.tunnels) {
    opened.push_back(name);
    tunnels_[name] = std::move(its);
  }
  std::unique_ptr<HostRoutes> replaced;
  if (done) {
    const auto entries = [&](const std::string& set) -> const auto& {
      return fresh.sets.entries(set);
    };
    if (auto routed = apply_routes(config, entries, replaced); !routed) {
      done = refuse(config.file, {{config.host.where, "host", routed.error().text}});
      if (replaced != nullptr) {
        routes_ = std::move(replaced);
      }
    }
  }
  if (done) {
    if (auto applied = host_nat_->apply(config, nat_tunnels()); !applied) {
      done = refuse(config.file, {{config.host.where, "host", applied.error().text}});
      if (replaced != nullptr) {
        routes_ = std::move(replaced);
      }
    }
  }
  if (done) {
    commit(config, fresh);
    if (replaced != nullptr) {
      if (auto removed = replaced->remove_all(); !removed) {
        spdlog::error("{}", removed.error().text);
      }
    }
    return {};
  }
  // Back to what was: it worked a moment ago.
  if (configured_) {
    if (auto restored = host_nat_->apply(config_, nat_tunnels()); !restored) {
      spdlog::error("what NAT needs of the host could not be put back: {}", restored.error().text);
    }
  }
  for (const std::string& name : opened) {
    tunnels_.erase(name);
  }
  for (const config::Tunnel& before : config_.tunnels) {
    if (std::find(fresh.applied.begin(), fresh.applied.end(), before.name) == fresh.applied.end()) {
      continue;
    }
    tunnel(before.name)->set_via(before.via.empty() ? kNoTunnel : tunnel(before.via)->number());
    if (auto restored = tunnel(before.name)->apply(config_, before); !restored) {
      spdlog::error("{} could not go back to what it was: {}", before.name, restored.error().text);
    }
  }
  return done;
}

// -- What goes on by itself.

// Before the lists are read, so that no change falls between. Those that are watched already are left out.
Gateway::Lists Gateway::watch_lists(const config::Config& config) {
  Lists fresh;
  for (const config::Set& set : config.sets) {
    const std::string path = config::beside(set.where.file, set.file);
    const auto known = lists_.find(set.name);
    if (!set.file.empty() && set.watch &&
        (known == lists_.end() || known->second->path() != path)) {
      fresh[set.name] = std::make_unique<SetWatch>(context_, path,
                                                   [this, name = set.name] { list_changed(name); });
    }
  }
  return fresh;
}

void Gateway::list_changed(const std::string& name) {
  const auto set = std::find_if(config_.sets.begin(), config_.sets.end(),
                                [&](const config::Set& each) { return each.name == name; });
  if (set == config_.sets.end()) {
    return;
  }
  loader_.load(*set);
}

void Gateway::list_loaded(PolicyAssets::Prepared prepared,
                          const std::vector<config::Problem>& problems) {
  if (prepared.sets.empty()) {
    return;
  }
  const PolicyAssets::Prepared::One& one = prepared.sets.front();
  const std::string name = one.name;
  if (std::none_of(config_.sets.begin(), config_.sets.end(),
                   [&](const config::Set& set) { return set.name == name; })) {
    return;  // a reload was quicker
  }
  std::vector<config::Problem> errors = problems;
  if (errors.empty()) {
    check_loops(
        config_,
        [&](const std::string& set) -> const auto& {
          return set == name ? one.entries : assets_.entries(set);
        },
        errors);
  }
  if (!errors.empty()) {
    const std::string text = config::to_text(errors.front());
    spdlog::error("set {} stays as it is: {}", name, text);
    assets_.set_error(name, text);
    return;
  }
  spdlog::info("set {}: {} prefixes, {} holes", name, one.facts.prefixes, one.facts.holes);
  assets_.commit(std::move(prepared));
  engine_.renew_decisions();
  if (std::any_of(config_.tunnels.begin(), config_.tunnels.end(), [&](const auto& each) {
        return std::ranges::count(each.capture.sets, name) > 0;
      })) {
    repair_routes();
  }
}

// An address that a name turned out to have: would what is sent there come back into the tunnel?
std::optional<std::string> Gateway::leads_back(const std::string& tunnel, const IpAddress& address,
                                               uint16_t port) const {
  return loop_of(
      config_, [this](const std::string& set) -> const auto& { return assets_.entries(set); },
      tunnel, address, port);
}

void Gateway::repair_routes() {
  if (!configured_ || routes_ == nullptr) {
    return;
  }
  std::unique_ptr<HostRoutes> none;
  const auto entries = [this](const std::string& set) -> const auto& {
    return assets_.entries(set);
  };
  if (auto routed = apply_routes(config_, entries, none); !routed) {
    spdlog::error("{}", routed.error().text);
  }
}

// IPv4 endpoints, in order, where a strict reverse path filter would drop what they send if they were captured.
std::vector<IpAddress> Gateway::endpoints_around() const {
  std::vector<IpAddress> around;
  if (!is_reverse_path_strict()) {
    return around;
  }
  for (const auto& [name, its] : tunnels_) {
    TunnelState state = engine_.describe(its->number());
    for (const PeerState& peer : state.peers) {
      if (peer.endpoint.remote.family == Family::v4) {
        around.push_back(peer.endpoint.remote);
      }
    }
    wipe(state);
  }
  std::ranges::sort(around, {}, &IpAddress::bytes);
  const auto repeated = std::ranges::unique(around);
  around.erase(repeated.begin(), repeated.end());
  return around;
}

void Gateway::repair_later() {
  if (std::exchange(repair_waits_, true)) {
    return;
  }
  repair_timer_.expires_after(kRepairDelay);
  repair_timer_.async_wait([this](boost::system::error_code error) {
    repair_waits_ = false;
    if (!error) {
      repair_routes();
    }
  });
}

void Gateway::look_after() {
  for (auto& [name, its] : tunnels_) {
    its->look_after_endpoints();
  }
  if (configured_ && config_.host.manage && endpoints_around() != around_) {
    repair_routes();
  }
  if (configured_) {
    host_nat_->look_after(config_, nat_tunnels());
  }
  look_timer_.expires_after(kLookAfter);
  look_timer_.async_wait([this](boost::system::error_code error) {
    if (!error) {
      look_after();
    }
  });
}

}  // namespace sallyport
