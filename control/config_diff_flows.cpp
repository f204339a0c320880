// [[nat]], [[filter]] and [flows] in a diff. The order of the first two counts; an entry is known by its name, or by what it
// says.
#include <algorithm>

#include "control/config_diff_about.h"

namespace sallyport::config {
namespace {

struct Entry {
  std::string name;
  std::string text;   // for people
  std::string whole;  // with what the text cuts
  bool same(const Entry& other) const { return name == other.name && whole == other.whole; }
};
using Entries = std::vector<Entry>;

// Takes out of `entries` each that is in `others` too, one for one; returns those, in order.
Entries take_same(Entries& entries, const Entries& others) {
  std::vector<bool> used(others.size());
  Entries same;
  std::erase_if(entries, [&](const Entry& entry) {
    for (size_t i = 0; i < others.size(); ++i) {
      if (!used[i] && entry.same(others[i])) {
        used[i] = true;
        same.push_back(entry);
        return true;
      }
    }
    return false;
  });
  return same;
}

void diff_list(const std::string& kind, const Entries& from, const Entries& to, Lines& lines) {
  Entries gone = from, come = to;
  const Entries kept = take_same(gone, to), kept_now = take_same(come, from);
  if (!std::ranges::equal(kept, kept_now, &Entry::same)) {
    lines.push_back(kind + ": the order changes");
  }
  const auto about = [&](const Entry& entry) {
    return About(lines, kind + (entry.name.empty() ? "" : " " + entry.name));
  };
  for (const Entry& old : gone) {
    const auto now =
        old.name.empty() ? come.end() : std::ranges::find(come, old.name, &Entry::name);
    if (now == come.end()) {
      about(old).note("removed: " + old.text);
      continue;
    }
    about(old).note(old.text == now->text ? old.text + ": members of its lists change"
                                          : old.text + " -> " + now->text);
    come.erase(now);
  }
  for (const Entry& entry : come) {
    about(entry).added(entry.text);
  }
}

Entries entries_of(const std::vector<Nat>& nats) {
  Entries entries;
  for (const Nat& nat : nats) {
    entries.push_back({nat.name, nat_text(nat),
                       match_text(nat.match, SIZE_MAX) + " " + nat_action_text(nat, SIZE_MAX)});
  }
  return entries;
}

Entries entries_of(const std::vector<Filter>& filters) {
  Entries entries;
  for (const Filter& filter : filters) {
    entries.push_back({filter.name, filter_text(filter),
                       match_text(filter.match, SIZE_MAX) + " " + filter_action_text(filter)});
  }
  return entries;
}

}  // namespace

void diff_nats(const Config& from, const Config& to, Lines& lines) {
  diff_list("nat", entries_of(from.nats), entries_of(to.nats), lines);
}

void diff_filters(const Config& from, const Config& to, Lines& lines) {
  diff_list("filter", entries_of(from.filters), entries_of(to.filters), lines);
}

void diff_flows(const Flows& from, const Flows& to, Lines& lines) {
  About flows(lines, "flows");
  const auto timeout = [&](const char* key, uint32_t Flows::*seconds) {
    flows.text(key, duration_text(uint64_t{from.*seconds} * 1000),
               duration_text(uint64_t{to.*seconds} * 1000));
  };
  flows.number("max", from.max, to.max);
  timeout("tcp_established", &Flows::tcp_established_s);
  timeout("tcp_transitory", &Flows::tcp_transitory_s);
  timeout("udp", &Flows::udp_s);
  timeout("udp_stream", &Flows::udp_stream_s);
  timeout("icmp", &Flows::icmp_s);
  timeout("other", &Flows::other_s);
  flows.text("reverse_path", reverse_path_text(from.reverse_path),
             reverse_path_text(to.reverse_path));
  flows.text("pickup", from.pickup ? "true" : "false", to.pickup ? "true" : "false");
  flows.text("filter_default", from.accept_unmatched ? "accept" : "drop",
             to.accept_unmatched ? "accept" : "drop");
}

}  // namespace sallyport::config
