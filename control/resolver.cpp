#include "control/resolver.h"

#include <sys/stat.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

namespace sallyport {
namespace {

using boost::system::error_code;
using Outcome = DnsLookup::Outcome;

bool contains(const std::vector<IpAddress>& list, const IpAddress& address) {
  return std::find(list.begin(), list.end(), address) != list.end();
}

// Those of `known` that `fresh` still has, then what is new: an order that turned round is no change.
std::vector<IpAddress> merge(const std::vector<IpAddress>& known,
                             const std::vector<IpAddress>& fresh) {
  std::vector<IpAddress> merged;
  for (const IpAddress& address : known) {
    if (contains(fresh, address)) {
      merged.push_back(address);
    }
  }
  for (const IpAddress& address : fresh) {
    if (!contains(merged, address)) {
      merged.push_back(address);
    }
  }
  return merged;
}

// "A: ...; AAAA: ...", or one of the two when they say the same.
std::string join_errors(const DnsLookup::Answer& v4, const DnsLookup::Answer& v6) {
  if (v4.error == v6.error) {
    return v4.error;
  }
  return "A: " + v4.error + "; AAAA: " + v6.error;
}

}  // namespace

Resolver::Resolver(boost::asio::io_context& context) : Resolver(context, Settings()) {}

Resolver::Resolver(boost::asio::io_context& context, Settings settings)
    : context_(context), settings_(std::move(settings)), self_(std::make_shared<Resolver*>(this)) {}

Resolver::~Resolver() = default;

Resolver::Name* Resolver::find(Handle handle) {
  const auto found = names_.find(handle);
  return found == names_.end() ? nullptr : found->second.get();
}

Resolver::Handle Resolver::watch(std::string host, Underlay underlay, Changed changed) {
  const Handle handle{next_handle_++};
  auto owned = std::make_unique<Name>(context_);
  Name& name = *owned;
  names_.emplace(handle, std::move(owned));
  name.host = std::move(host);
  name.underlay = std::move(underlay);
  name.changed = std::move(changed);
  const auto address = parse_address(std::string_view(name.host).substr(0, name.host.find('%')));
  if (!address) {
    attempt(handle, name);
    return handle;
  }
  name.numeric = true;
  name.addresses = {*address};
  name.confirmed = Clock::now();
  boost::asio::post(context_, [weak = std::weak_ptr(self_), handle] {
    const auto self = weak.lock();
    Name* known = self == nullptr ? nullptr : (*self)->find(handle);
    if (known != nullptr) {
      const Changed call = known->changed;
      const auto list = known->addresses;
      call(list);
    }
  });
  return handle;
}

void Resolver::refresh(Handle handle) {
  Name* name = find(handle);
  if (name == nullptr || name->numeric || name->queued || name->lookup != nullptr) {
    return;
  }
  const auto allowed = name->asked.value_or(Clock::time_point::min()) + settings_.lifetime_min;
  if (!name->asked || allowed <= Clock::now()) {
    attempt(handle, *name);
  } else if (!name->due || allowed < *name->due) {
    wait_until(handle, *name, allowed);
  }
}

void Resolver::set_underlay(Handle handle, Underlay underlay) {
  Name* name = find(handle);
  if (name == nullptr || name->underlay == underlay) {
    return;
  }
  name->underlay = std::move(underlay);
  if (name->numeric || name->queued) {
    return;
  }
  name->failures = 0;
  drop_lookup(*name);
  attempt(handle, *name);
}

void Resolver::forget(Handle handle) {
  if (Name* name = find(handle)) {
    drop_lookup(*name);
    names_.erase(handle);
    start_waiting();
  }
}

Resolver::State Resolver::describe(Handle handle) const {
  State state;
  const auto found = names_.find(handle);
  if (found == names_.end()) {
    return state;
  }
  const Name& name = *found->second;
  const auto now = Clock::now();
  state.host = name.host;
  state.addresses = name.addresses;
  state.error = name.error;
  state.failures = name.failures;
  state.asking = name.queued || name.lookup != nullptr;
  if (name.confirmed) {
    state.age = std::chrono::duration_cast<milliseconds>(now - *name.confirmed);
  }
  if (name.due) {
    state.next =
        std::max(milliseconds(0), std::chrono::duration_cast<milliseconds>(*name.due - now));
  }
  return state;
}

// --- Attempts ------------------------------------------------------------------------------------

void Resolver::attempt(Handle handle, Name& name) {
  name.timer.cancel();
  ++name.timer_id;
  name.due.reset();
  if (running_ >= settings_.lookups_max) {
    name.queued = true;
    waiting_.push_back(handle);
    return;
  }
  ++running_;
  name.queued = false;
  name.asked = Clock::now();
  name.v4.answer.reset();
  name.v6.answer.reset();
  if (name.underlay.servers.empty()) {
    name.resolv_conf_was = resolv_conf_fingerprint();
  }
  name.lookup =
      DnsLookup::start(context_, name.host, name.underlay, settings_.lookup,
                       [weak = std::weak_ptr(self_), handle](const DnsLookup::Answer& answer) {
                         if (const auto self = weak.lock()) {
                           (*self)->answered(handle, answer);
                         }
                       });
}

void Resolver::drop_lookup(Name& name) {
  if (name.lookup != nullptr) {
    name.lookup.reset();
    --running_;
  }
}

// Those that waited for a place. A handle may have been forgotten meanwhile.
void Resolver::start_waiting() {
  while (running_ < settings_.lookups_max && !waiting_.empty()) {
    const Handle handle = waiting_.front();
    waiting_.pop_front();
    if (Name* name = find(handle)) {
      attempt(handle, *name);
    }
  }
}

void Resolver::answered(Handle handle, const DnsLookup::Answer& answer) {
  Name* name = find(handle);
  if (name == nullptr) {
    return;
  }
  Half& half = answer.family == Family::v4 ? name->v4 : name->v6;
  half.answer = answer;
  if (answer.outcome == Outcome::addresses) {
    half.addresses = merge(half.addresses, answer.addresses);
    if (name->lead == Family::none) {
      name->lead = answer.family;
    }
  }
  if (name->v4.answer && name->v6.answer) {
    finish(handle, *name);
  }
  if (update_list(*name)) {
    // Copies: the call may forget this name, or end the resolver.
    const Changed changed = name->changed;
    const auto list = name->addresses;
    changed(list);
  }
}

// Both families have said what they have to say.
void Resolver::finish(Handle handle, Name& name) {
  const DnsLookup::Answer &v4 = *name.v4.answer, &v6 = *name.v6.answer;
  const bool has_v4 = v4.outcome == Outcome::addresses, has_v6 = v6.outcome == Outcome::addresses;
  drop_lookup(name);
  const auto now = Clock::now();
  if (has_v4 || has_v6) {
    if (v4.outcome == Outcome::none) {
      name.v4.addresses.clear();
    }
    if (v6.outcome == Outcome::none) {
      name.v6.addresses.clear();
    }
    milliseconds lifetime = settings_.lifetime_max;
    for (const auto* answer : {has_v4 ? &v4 : nullptr, has_v6 ? &v6 : nullptr}) {
      if (answer != nullptr) {
        lifetime = std::min<milliseconds>(lifetime, answer->lifetime);
      }
    }
    name.error.clear();
    name.failures = 0;
    name.confirmed = now;
    wait_until(handle, name, now + std::max(lifetime, settings_.lifetime_min));
  } else {
    name.error = join_errors(v4, v6);
    const double grown = static_cast<double>(name.retry.count()) * kNameRetryGrowth;
    name.retry = name.failures == 0
                     ? settings_.retry_min
                     : std::min(settings_.retry_max, milliseconds(static_cast<int64_t>(grown)));
    ++name.failures;
    const double share = std::uniform_real_distribution<double>(0.8, 1.0)(jitter_);
    const double wait = static_cast<double>(name.retry.count()) * share;
    wait_until(handle, name, now + milliseconds(static_cast<int64_t>(wait)));
  }
  start_waiting();
}

// True when the list is another one than before.
bool Resolver::update_list(Name& name) {
  if (name.lead == Family::v4 && name.v4.addresses.empty()) {
    name.lead = Family::v6;
  } else if (name.lead == Family::v6 && name.v6.addresses.empty()) {
    name.lead = Family::v4;
  }
  const bool v6_leads = name.lead == Family::v6;
  std::vector<IpAddress> list = v6_leads ? name.v6.addresses : name.v4.addresses;
  const auto& rest = v6_leads ? name.v4.addresses : name.v6.addresses;
  list.insert(list.end(), rest.begin(), rest.end());
  if (list.empty() || list == name.addresses) {
    return false;
  }
  name.addresses = std::move(list);
  return true;
}

// --- Waiting -------------------------------------------------------------------------------------

void Resolver::wait_until(Handle handle, Name& name, Clock::time_point due) {
  name.due = due;
  sleep(handle, name);
}

// In short naps while a name fails that needs resolv.conf: the file may come to exist at any time.
void Resolver::sleep(Handle handle, Name& name) {
  auto until = *name.due;
  if (name.failures > 0 && name.underlay.servers.empty()) {
    until = std::min(until, Clock::now() + settings_.resolv_conf_look);
  }
  name.timer.expires_at(until);
  name.timer.async_wait(
      [weak = std::weak_ptr(self_), handle, id = ++name.timer_id](error_code error) {
        const auto self = weak.lock();
        Name* known = error || self == nullptr ? nullptr : (*self)->find(handle);
        if (known != nullptr && known->timer_id == id) {
          (*self)->woken(handle, *known);
        }
      });
}

void Resolver::woken(Handle handle, Name& name) {
  const bool look = name.failures > 0 && name.underlay.servers.empty();
  if (look && resolv_conf_fingerprint() != name.resolv_conf_was) {
    name.failures = 0;  // what failed was another DNS
    attempt(handle, name);
  } else if (Clock::now() >= *name.due) {
    attempt(handle, name);
  } else {
    sleep(handle, name);
  }
}

std::string Resolver::resolv_conf_fingerprint() const {
  struct stat file {};
  if (stat(settings_.lookup.resolv_conf.c_str(), &file) != 0) {
    return "";
  }
  return std::to_string(file.st_dev) + " " + std::to_string(file.st_ino) + " " +
         std::to_string(file.st_size) + " " + std::to_string(file.st_ctim.tv_sec) + "." +
         std::to_string(file.st_ctim.tv_nsec);
}

}  // namespace sallyport
