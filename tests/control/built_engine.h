// A configuration from a test's text, built and in force in an engine of its own, as `explain --config` does it.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "control/build.h"
#include "control/explain.h"
#include "control/uapi.h"

namespace sallyport::test {

// "$key" becomes a public key, another one each time, "$private" a private one.
inline std::string text_with_keys(std::string text) {
  uint8_t number = 0;
  for (size_t at; (at = text.find('$')) != std::string::npos;) {
    const bool is_private = text.substr(at, 8) == "$private";
    KeyBytes key{};
    key[0] = 8;
    key[1] = ++number;
    key[2] = is_private ? 1 : 2;
    text.replace(
        at, is_private ? 8 : 4,
        std::string(is_private ? "private_key" : "public_key") + " = \"" + base64_of(key) + "\"");
  }
  return text;
}

inline std::string lines_of(const std::vector<config::Problem>& problems) {
  std::string text;
  for (const config::Problem& problem : problems) {
    text += to_text(problem) + "\n";
  }
  return text;
}

inline config::Config config_of(const std::string& text) {
  config::ReadResult read = config::read_toml(text_with_keys(text), "x.toml");
  EXPECT_EQ(lines_of(read.errors), "") << text;
  return std::move(read.config);
}

inline std::vector<IpAddress> no_addresses(const std::string&) {
  return {};
}

// PacketQueryWords of which a test gives some.
struct Words {
  std::string from{}, to{}, protocol{}, source_port{}, destination_port{}, iif{}, peer{}, tos{},
      size{};
};
inline PacketQuery query_of(const Words& words) {
  const auto query = read_query(PacketQueryWords{
      words.from, words.to, words.protocol, words.source_port, words.destination_port, words.iif,
      words.peer, "", words.tos, words.size, false});
  EXPECT_TRUE(query.has_value());
  return query.value_or(PacketQuery{});
}

class BuiltEngine {
 public:
  explicit BuiltEngine(config::Config from) : config(std::move(from)), engine(options(config)) {
    std::vector<config::Problem> errors;
    assets.commit(PolicyAssets::prepare(config, errors));
    EXPECT_EQ(lines_of(errors), "");
    for (TunnelNumber i = 0; i < config.tunnels.size(); ++i) {
      config::Tunnel keyless = config.tunnels[i];
      keyless.private_key = {};
      for (config::Peer& peer : keyless.peers) {
        peer.preshared_key = {};
      }
      numbers[keyless.name] = i;
      const auto change = build_tunnel(config, keyless, no_addresses);
      EXPECT_TRUE(change.has_value() && engine.apply(*change, i).has_value()) << keyless.name;
      engine.set_up(true, i);
    }
    auto built = build_policy(config, numbers, engine, assets);
    EXPECT_TRUE(built.has_value()) << built.error().text;
    names = std::move(built->names);
    probed = std::move(built->probed);
    engine.set_policy(std::move(built->policy));
  }
  explicit BuiltEngine(const std::string& text) : BuiltEngine(config_of(text)) {}

  const Policy& policy() const { return *engine.policy(); }
  uint32_t tag(const std::string& tunnel, const std::string& peer) const {
    for (const auto& [tag, place] : names.peers) {
      if (place.tunnel == tunnel && place.name == peer) {
        return tag;
      }
    }
    ADD_FAILURE() << "no tag for " << tunnel << "/" << peer;
    return PeerTags::kNone;
  }

  config::Config config;
  PolicyAssets assets;  // outlives the policy
  Engine engine;
  TunnelNumbers numbers;
  PolicyNames names;
  std::vector<uint32_t> probed;

 private:
  static EngineOptions options(const config::Config& config) {
    EngineOptions options;
    options.buffers_per_worker = 1;
    options.staging_blocks = 16;
    options.tunnels = static_cast<unsigned>(config.tunnels.size());
    return options;
  }
};

}  // namespace sallyport::test
