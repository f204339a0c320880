#include "control/policy_assets.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <utility>

#include "control/build.h"
#include "control/limits.h"
#include "dataplane/base/rcu.h"

namespace sallyport {
namespace {

bool go_on(void* progress, size_t done, size_t total) {
  return static_cast<LoadProgress*>(progress)->step(LoadProgress::Phase::building, done, total);
}

// Its content is null when it was cancelled.
PolicyAssets::Prepared::One prepare_one(const config::Set& set,
                                        std::vector<config::Problem>& errors,
                                        LoadProgress& progress) {
  PolicyAssets::Prepared::One one;
  one.name = set.name;
  one.facts.source = "config";
  one.facts.loaded_at = now_wall();
  if (!set.file.empty()) {
    one.facts.source = config::beside(set.where.file, set.file);
    one.entries = config::read_set_list(one.facts.source, errors, &progress);
  }
  // Inline entries come last and so win over equal ones of the list.
  one.entries.insert(one.entries.end(), set.entries.begin(), set.entries.end());
  std::vector<SetEntry> entries;
  entries.reserve(one.entries.size());
  for (const config::Set::Entry& each : one.entries) {
    entries.push_back(set_entry(each.prefix, each.hole));
    ++(each.hole ? one.facts.holes : one.facts.prefixes);
  }
  one.content = PrefixSet::Content::build(entries, go_on, &progress);
  one.facts.memory_bytes = one.content == nullptr ? 0 : one.content->memory_bytes();
  return one;
}

}  // namespace

SetEntry set_entry(const IpPrefix& prefix, bool hole) {
  SetEntry entry;
  std::memcpy(entry.address, prefix.address.bytes.data(), sizeof(entry.address));
  entry.length = prefix.length;
  entry.v4 = prefix.address.family == Family::v4;
  entry.hole = hole;
  return entry;
}

PolicyAssets::~PolicyAssets() {
  rcu_barrier_all();
}

const std::vector<config::Set::Entry>& PolicyAssets::Prepared::entries(
    const std::string& name) const {
  static const std::vector<config::Set::Entry> none;
  for (const One& one : sets) {
    if (one.name == name) {
      return one.entries;
    }
  }
  return none;
}

PolicyAssets::Prepared PolicyAssets::prepare(const config::Config& config,
                                             std::vector<config::Problem>& errors) {
  Prepared prepared;
  for (const config::Set& set : config.sets) {
    LoadProgress progress(set.name);
    prepared.sets.push_back(prepare_one(set, errors, progress));
  }
  return prepared;
}

PolicyAssets::Prepared PolicyAssets::prepare(const config::Set& set,
                                             std::vector<config::Problem>& errors,
                                             LoadProgress& progress) {
  Prepared prepared;
  Prepared::One one = prepare_one(set, errors, progress);
  // A small set is built before anybody asks whether to go on.
  if (one.content != nullptr && !progress.cancelled()) {
    prepared.sets.push_back(std::move(one));
  }
  return prepared;
}

void PolicyAssets::commit(Prepared prepared) {
  for (Prepared::One& one : prepared.sets) {
    NamedSet& named = sets_[one.name];
    named.set->replace(std::move(one.content));
    one.facts.loads = named.facts.loads + 1;
    named.facts = std::move(one.facts);
    named.entries = std::move(one.entries);
  }
}

PrefixSet& PolicyAssets::set(const std::string& name) {
  return *sets_[name].set;
}

const SetFacts& PolicyAssets::facts(const std::string& name) const {
  static const SetFacts none;
  const auto found = sets_.find(name);
  return found == sets_.end() ? none : found->second.facts;
}

void PolicyAssets::set_error(const std::string& name, std::string error) {
  sets_[name].facts.error = std::move(error);
}

const std::vector<config::Set::Entry>& PolicyAssets::entries(const std::string& name) const {
  static const std::vector<config::Set::Entry> none;
  const auto found = sets_.find(name);
  return found == sets_.end() ? none : found->second.entries;
}

std::string PolicyAssets::affinity_name(const config::Exit& group) {
  std::string name = group.name;
  for (const config::Exit::Member& member : group.members) {
    name += '\n' + member.exit;
  }
  return name;
}

AffinityTable& PolicyAssets::affinity(const config::Exit& group) {
  auto& table = affinities_[affinity_name(group)];
  if (table == nullptr) {
    table = std::make_unique<AffinityTable>(kAffinityFlows);
  }
  return *table;
}

FlowTable::Config PolicyAssets::flow_config(const config::Flows& wanted) {
  FlowTable::Config config;
  config.capacity = wanted.max;
  config.owners = kFlowOwners;
  config.pick_up = wanted.pickup;
  FlowTimeouts& timeouts = config.timeouts;
  timeouts.tcp_established = wanted.tcp_established_s;
  for (uint32_t* each : {&timeouts.tcp_syn_sent, &timeouts.tcp_syn_recv, &timeouts.tcp_fin_wait,
                         &timeouts.tcp_close_wait, &timeouts.tcp_last_ack, &timeouts.tcp_time_wait,
                         &timeouts.tcp_reset, &timeouts.tcp_unreplied}) {
    *each = wanted.tcp_transitory_s;
  }
  timeouts.udp_unreplied = timeouts.udp_replied = wanted.udp_s;
  timeouts.udp_stream = wanted.udp_stream_s;
  timeouts.icmp = wanted.icmp_s;
  timeouts.other = wanted.other_s;
  return config;
}

FlowTable& PolicyAssets::flows(const config::Flows& wanted) {
  const FlowTable::Config config = flow_config(wanted);
  for (const KeptFlows& each : flows_) {
    if (each.config == config) {
      return *each.table;
    }
  }
  flows_.push_back({config, std::make_unique<FlowTable>(config)});
  return *flows_.back().table;
}

FragmentTable& PolicyAssets::fragments() {
  if (fragments_ == nullptr) {
    std::random_device random;
    fragments_ =
        std::make_unique<FragmentTable>(kFragmentedPackets, uint64_t{random()} << 32 | random());
  }
  return *fragments_;
}

void PolicyAssets::drop_unused(const config::Config& config) {
  rcu_barrier_all();  // the policies before have gone, and every worker has passed on
  std::erase_if(sets_, [&](const auto& each) {
    return std::none_of(config.sets.begin(), config.sets.end(),
                        [&](const config::Set& set) { return set.name == each.first; });
  });
  std::erase_if(affinities_, [&](const auto& each) {
    return std::none_of(config.exits.begin(), config.exits.end(), [&](const config::Exit& exit) {
      return affinity_name(exit) == each.first;
    });
  });
  const FlowTable::Config kept = flow_config(config.flows);
  std::erase_if(flows_, [&](const KeptFlows& each) {
    return !keeps_flows(config) || !(each.config == kept);
  });
  if (!keeps_flows(config)) {
    fragments_.reset();
  }
}

}  // namespace sallyport
