// Configurations, keys and lists as files: paths, kinds, modes, limits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "control/config.h"
#include "control/limits.h"
#include "control/uapi.h"
#include "tests/control/config_texts.h"

namespace sallyport::config {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class ConfigFiles : public testing::Test {
 protected:
  ConfigFiles() {
    char name[] = "/tmp/config_files_test.XXXXXX";
    directory_ = mkdtemp(name);
  }
  ~ConfigFiles() override {
    std::filesystem::remove_all(directory_);
    unsetenv("CREDENTIALS_DIRECTORY");
  }

  std::string write(const std::string& name, const std::string& text, mode_t mode = 0600) {
    const std::string path = directory_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << text;
    chmod(path.c_str(), mode);
    return path;
  }

  std::string directory_;
};

TEST_F(ConfigFiles, TheEndingSaysTheKind) {
  const std::string conf = write("home.conf", "[Interface]\nPrivateKey = " + kKeyA + "\n");
  const ReadResult wg = read_file(conf);
  ASSERT_TRUE(wg.ok()) << all(wg.errors);
  EXPECT_EQ(wg.config.tunnels.at(0).name, "home");
  EXPECT_EQ(wg.config.file, conf);
  const ReadResult toml = read_file(write("any.thing", "[host]\ntable = 7\n"));
  ASSERT_TRUE(toml.ok()) << all(toml.errors);
  EXPECT_EQ(toml.config.host.table, 7u);
}

TEST_F(ConfigFiles, WhatCannotBeReadIsAnErrorOfLineZero) {
  for (const std::string& path :
       {directory_ + "/none.toml", directory_, std::string("/dev/zero")}) {
    const ReadResult result = read_file(path);
    ASSERT_THAT(result.errors, SizeIs(1)) << path;
    EXPECT_EQ(result.errors[0].where.file, path);
    EXPECT_EQ(result.errors[0].where.line, 0u);
    EXPECT_THAT(to_text(result.errors[0]), HasSubstr("cannot read"));
  }
}

TEST_F(ConfigFiles, WarnsOfSecretsThatEverybodyMayRead) {
  const std::string text = "[tunnel.wg0]\nprivate_key = \"" + kKeyA + "\"\n";
  EXPECT_THAT(read_file(write("a.toml", text, 0600)).warnings, IsEmpty());
  EXPECT_THAT(read_file(write("b.toml", text, 0640)).warnings, IsEmpty());
  EXPECT_THAT(all(read_file(write("c.toml", text, 0644)).warnings), HasSubstr("chmod 600"));
  EXPECT_THAT(read_file(write("d.toml", "[tunnel.wg0]\nprivate_key_file = \"k\"\n", 0644)).warnings,
              IsEmpty());
}

TEST_F(ConfigFiles, AConfIsReadNextToItsConfig) {
  write("wg/wg0.conf",
        "[Interface]\nPrivateKey = " + kKeyA + "\nAddress = 10.9.0.1/24\nListenPort = 5\nDNS = " +
            "192.0.2.1\n# laptop\n[Peer]\nPublicKey = " + kKeyB + "\nAllowedIPs = 10.9.0.2/32\n");
  const std::string path =
      write("main.toml",
            "[tunnel.vpn]\nconf = \"wg/wg0.conf\"\nlisten_port = "
            "6\ncapture = \"off\"\n"
            "[[tunnel.vpn.peer]]\npublic_key = \"" +
                kKeyB + "\"\nlan = \"deny\"\n" + "[[tunnel.vpn.peer]]\npublic_key = \"" + kKeyC +
                "\"\n[exit.a]\npeer = \"laptop\"\n");
  const ReadResult result = read_file(path);
  ASSERT_TRUE(result.ok()) << all(result.errors);
  const Tunnel& tunnel = result.config.tunnels.at(0);
  EXPECT_EQ(tunnel.name, "vpn");
  EXPECT_EQ(tunnel.private_key.text, kKeyA);
  EXPECT_EQ(tunnel.listen_port, 6) << "the TOML file has the last word";
  EXPECT_FALSE(tunnel.capture.any());
  ASSERT_THAT(tunnel.peers, SizeIs(2)) << "one is added to, one is new";
  EXPECT_EQ(tunnel.peers[0].name, "laptop");
  EXPECT_EQ(tunnel.peers[0].lan, Peer::Lan::deny);
  EXPECT_THAT(tunnel.peers[0].allowed_ips, SizeIs(1));
  EXPECT_EQ(tunnel.peers[1].name, "gN65BkIK");
  EXPECT_EQ(result.config.exits.at(0).tunnel, "vpn");
  EXPECT_THAT(all(result.warnings), HasSubstr("wg/wg0.conf:5: Interface.DNS"));
}

TEST_F(ConfigFiles, AConfsErrorsAreItsOwn) {
  const std::string conf = write("wg0.conf", "[Interface]\nPrivateKey = " + kKeyA +
                                                 "\nPostUp = ip rule add table 5\n[Peer]\n");
  const ReadResult result =
      read_file(write("main.toml", "\n\n[tunnel.vpn]\nconf = \"wg0.conf\"\n"));
  ASSERT_THAT(result.errors, SizeIs(2)) << all(result.errors);
  EXPECT_EQ(to_text(result.errors[0].where), conf + ":3");
  EXPECT_EQ(to_text(result.errors[1].where), conf + ":4");
}

TEST_F(ConfigFiles, PeersOfBothFilesAreNumberedInTheirOwn) {
  write("wg0.conf", "[Interface]\nPrivateKey = " + kKeyA + "\n[Peer]\nPublicKey = " + kKeyB + "\n");
  const ReadResult result = read_file(write(
      "main.toml", "[tunnel.vpn]\nconf = \"wg0.conf\"\n\n[[tunnel.vpn.peer]]\npublic_key = \"" +
                       kKeyC + "\"\nlan = \"only:x\"\n"));
  ASSERT_THAT(result.errors, SizeIs(1)) << all(result.errors);
  EXPECT_EQ(result.errors[0].key, "tunnel.vpn.peer[1].lan");
  EXPECT_EQ(result.errors[0].where.line, 6u);
}

// -- Keys

TEST_F(ConfigFiles, LoadsKeysFromWhereTheyAre) {
  const std::string config = directory_ + "/main.toml";
  write("keys/a", kKeyA + "\n");
  using Kind = KeySource::Kind;
  const auto text_of = [](const KeySource& source) {
    const auto key = load_key(source);
    return key ? base64_of(*key) : key.error().text;
  };
  EXPECT_EQ(text_of({Kind::inline_text, kKeyB, {config, 3}}), kKeyB);
  EXPECT_EQ(text_of({Kind::file, "keys/a", {config, 3}}), kKeyA);
  EXPECT_EQ(text_of({Kind::file, directory_ + "/keys/a", {"elsewhere/x.toml", 3}}), kKeyA);
  setenv("CREDENTIALS_DIRECTORY", (directory_ + "/keys").c_str(), 1);
  EXPECT_EQ(text_of({Kind::credential, "a", {config, 3}}), kKeyA);
  EXPECT_EQ(*load_key({}), KeyBytes{}) << "none is all zero";
}

TEST_F(ConfigFiles, SaysWhichKeyCannotBeLoaded) {
  const std::string config = directory_ + "/main.toml";
  const std::string secret = "sEcReTsEcReTsEcReTsEcReTsEcReTsEcReTsEcReTs!";
  write("bad", secret);
  write("long", std::string(5000, 'A'));
  using Kind = KeySource::Kind;
  const auto error_of = [&](Kind kind, const std::string& text) {
    const auto key = load_key({kind, text, {config, 3}});
    return key ? std::string() : key.error().text;
  };
  EXPECT_THAT(error_of(Kind::file, "none"), HasSubstr(config + ":3: cannot read " + directory_));
  EXPECT_THAT(error_of(Kind::file, "bad"), HasSubstr("/bad: a key"));
  EXPECT_EQ(error_of(Kind::file, "bad").find("sEcReT"), std::string::npos);
  EXPECT_THAT(error_of(Kind::file, "long"), HasSubstr("larger than 4096"));
  EXPECT_THAT(error_of(Kind::inline_text, "x"), HasSubstr("44 characters"));
  EXPECT_THAT(error_of(Kind::credential, "a"), HasSubstr("LoadCredential="));
  setenv("CREDENTIALS_DIRECTORY", directory_.c_str(), 1);
  EXPECT_THAT(error_of(Kind::credential, ".."), HasSubstr("no credential's name"));
  EXPECT_THAT(error_of(Kind::credential, "a/b"), HasSubstr("no credential's name"));
  EXPECT_THAT(error_of(Kind::credential, "none"), HasSubstr("cannot read"));
}

TEST_F(ConfigFiles, EveryKeyIsReadAsItIsPrinted) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (int i = 0; i < 2000; ++i) {
    KeyBytes key;
    for (uint8_t& byte : key) {
      byte = static_cast<uint8_t>(random());
    }
    std::string text = base64_of(key);
    const auto read = load_key({KeySource::Kind::inline_text, text, {}});
    ASSERT_TRUE(read) << text;
    EXPECT_EQ(*read, key);
    const size_t at = random() % 43;
    text[at] = static_cast<char>(random());
    const auto changed = load_key({KeySource::Kind::inline_text, text, {}});
    const bool letter = kAlphabet.find(text[at]) != std::string_view::npos;
    EXPECT_TRUE(letter || !changed) << at;
    EXPECT_TRUE(!letter || at == 42 || changed) << at;
  }
}

// -- Lists

TEST_F(ConfigFiles, ReadsLists) {
  const std::string path = write("list",
                                 "# a list\n10.0.0.0/8\n\n  !10.1.0.0/16 # a hole\r\n"
                                 "2001:db8::/32\n192.0.2.7\n! 192.0.2.8");
  std::vector<Problem> errors;
  const auto entries = read_set_list(path, errors);
  EXPECT_EQ(all(errors), "");
  ASSERT_THAT(entries, SizeIs(5));
  EXPECT_EQ(to_text(entries[0].prefix), "10.0.0.0/8");
  EXPECT_TRUE(entries[1].hole);
  EXPECT_EQ(to_text(entries[3].prefix), "192.0.2.7/32");
  EXPECT_TRUE(entries[4].hole);
}

TEST_F(ConfigFiles, NamesTwentyBadLinesOfAList) {
  std::string text = "10.0.0.0/8\n";
  for (int i = 0; i < 30; ++i) {
    text += "x\n";
  }
  std::vector<Problem> errors;
  EXPECT_THAT(read_set_list(write("list", text), errors), SizeIs(1));
  ASSERT_THAT(errors, SizeIs(kSetListErrorsMax + 1));
  EXPECT_EQ(errors[0].where.line, 2u);
  EXPECT_THAT(errors.back().text, HasSubstr("and 10 more"));
}

TEST_F(ConfigFiles, AListThatIsNotThereIsAnError) {
  std::vector<Problem> errors;
  EXPECT_THAT(read_set_list(directory_ + "/none", errors), IsEmpty());
  EXPECT_THAT(all(errors), HasSubstr("No such file"));
}

TEST_F(ConfigFiles, PathsStartWhereTheirFileLies) {
  EXPECT_EQ(beside("/etc/sallyport/main.toml", "a"), "/etc/sallyport/a");
  EXPECT_EQ(beside("/etc/main.toml", "/srv/a"), "/srv/a");
  EXPECT_EQ(beside("main.toml", "a"), "a");
  EXPECT_EQ(beside("/main.toml", "a"), "/a");
}

}  // namespace
}  // namespace sallyport::config
