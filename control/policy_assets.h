// PolicyAssets: what outlives a policy: the content of its sets, which member of a group each flow uses, and the flows themselves.
//
// Policies are replaced whole; sets of a million prefixes and the memory of running flows should not be. So both are kept
// here by name, and a policy points at them. A new configuration's sets are read and built aside first (prepare), which may
// fail and then has changed nothing; commit() puts them in force, set by set with one pointer store each. Sets that the new
// configuration has not are let go after it is in force (drop_unused).
//
// Costs: building takes about 0.2 us a prefix; while a set is replaced both contents are there.
// Thread rules: control's thread. Sets are read by workers meanwhile (table/prefix_set.h).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "control/config.h"
#include "control/load_progress.h"
#include "dataplane/base/clock.h"
#include "dataplane/table/affinity_table.h"
#include "dataplane/table/flow_table.h"
#include "dataplane/table/fragment_table.h"
#include "dataplane/table/prefix_set.h"

namespace sallyport {

// A prefix of a configuration, as tables take it.
SetEntry set_entry(const IpPrefix& prefix, bool hole = false);

// What `show sets` says beside the set itself.
struct SetFacts {
  size_t prefixes = 0, holes = 0;
  size_t memory_bytes = 0;
  std::string source;  // "config" or the list file's path
  WallTime loaded_at = 0;
  uint64_t loads = 0;  // how often it has been put in force
  std::string error;   // of the last attempt to read its list anew; empty: none
};

class PolicyAssets {
 public:
  // New contents, built and not yet in force.
  struct Prepared {
    struct One {
      std::string name;
      std::unique_ptr<PrefixSet::Content> content;
      SetFacts facts;
      std::vector<config::Set::Entry> entries;  // for routes of the host, and the loop proof
    };
    std::vector<One> sets;

    const std::vector<config::Set::Entry>& entries(const std::string& name) const;
  };

  ~PolicyAssets();  // after the last policy has gone

  // Reads the list files and builds every set of the configuration; problems go to `errors`.
  static Prepared prepare(const config::Config& config, std::vector<config::Problem>& errors);
  // One set, because its list file changed. Returns no set when it was cancelled. Any thread.
  static Prepared prepare(const config::Set& set, std::vector<config::Problem>& errors,
                          LoadProgress& progress);
  void commit(Prepared prepared);

  // Before commit() too: an empty set stands there until its content comes.
  PrefixSet& set(const std::string& name);
  const SetFacts& facts(const std::string& name) const;
  void set_error(const std::string& name, std::string error);
  const std::vector<config::Set::Entry>& entries(const std::string& name) const;

  // The memory of a group's flows. Members are remembered by their place, so another list of members begins anew.
  AffinityTable& affinity(const config::Exit& group);

  // The flows of configurations with these bounds and timeouts. Others begin anew.
  FlowTable& flows(const config::Flows& wanted);
  FragmentTable& fragments();

  // Lets go of what this configuration does not name. No policy in force points there any more.
  void drop_unused(const config::Config& config);

 private:
  struct NamedSet {
    std::unique_ptr<PrefixSet> set = std::make_unique<PrefixSet>();
    SetFacts facts;
    std::vector<config::Set::Entry> entries;
  };
  struct KeptFlows {
    FlowTable::Config config;
    std::unique_ptr<FlowTable> table;
  };
  static std::string affinity_name(const config::Exit& group);
  static FlowTable::Config flow_config(const config::Flows& wanted);

  std::map<std::string, NamedSet> sets_;
  std::map<std::string, std::unique_ptr<AffinityTable>> affinities_;
  std::vector<KeptFlows> flows_;  // two while one configuration follows another
  std::unique_ptr<FragmentTable> fragments_;
};

}  // namespace sallyport
