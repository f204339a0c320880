// ExitMonitor: keeps the policy's idea of which exits are alive current.
//
// It watches the exits that anybody chooses by being alive: members of groups, and those with a probe. Each has an
// ExitHealth, fed with its peer's handshakes and with the answers to the probes that are sent through it; a group is alive
// while one of its members is. Exits that are not watched are alive.
//
// A new policy inherits what is known: an exit of the same name, peer and probe goes on as it was.
//
// Costs: a wake-up for each probe, and one a second while any exit is watched; none otherwise.
// Thread rules: control's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "control/build.h"
#include "control/exit_health.h"

namespace sallyport {

class ExitMonitor {
 public:
  ExitMonitor(boost::asio::io_context& context, Engine& engine);

  // The engine's policy is another now (null: none). `names` outlives the next call.
  void follow(const config::Config& config, const Policy* policy, const PolicyNames& names,
              const std::vector<uint32_t>& probed);

  // Nothing: not watched.
  struct State {
    bool alive = true;
    std::string why;
    std::optional<Time> round_trip;
    double loss = 0;
    unsigned probes = 0;
  };
  std::optional<State> state(const std::string& exit) const;

 private:
  struct Watched {
    ExitHealth health;
    config::Exit exit;
    uint32_t number;                // in the policy
    std::vector<uint32_t> tags;     // of its peers: a tunnel may have several
    std::optional<uint32_t> probe;  // in Policy::probes
    uint16_t sequence = 0;
    uint64_t answer = 0;                                  // last seen
    WallTime handshake = 0;                               // last seen
    uint64_t packets = 0;                                 // sent by it, when last seen
    ExitHealth::State told = ExitHealth::State::unknown;  // in the log
  };

  void arm(Time delay);
  void tick();
  void look(Watched& watched, Time now);
  void probe(Watched& watched, Time now);
  uint64_t packets_of(uint32_t exit) const;
  bool any_alive(uint32_t group, unsigned depth) const;
  void publish();

  boost::asio::steady_timer timer_;
  Engine& engine_;
  const Policy* policy_ = nullptr;
  std::map<std::string, Watched> watched_;
};

}  // namespace sallyport
