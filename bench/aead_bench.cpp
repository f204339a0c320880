// What a packet costs to seal and to open: every implementation of crypto/aead.h and OpenSSL, side
// by side.
//
// Rounds are interleaved, so that a slow moment of the machine hits all alike; a figure is the
// median of its rounds in ns per packet, a ratio the median of the rounds' ratios. Bursts lie in
// the second-level cache, and what is opened is sealed anew between rounds, untimed. Figures of two
// runs do not compare; ratios of one run do.
//
//   aead_bench             the table, then the targets with met or not; exit status 1 if one is not
//   aead_bench --every     the same for every batch size from 1 to 64
//   aead_bench --routing   the costs that crypto/aead_groups.cpp routes by
#include <openssl/evp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "bench/report.h"
#include "crypto/aead.h"
#include "crypto/x25519.h"

namespace sallyport::crypto {
namespace {

using bench::median;

constexpr size_t kRounds = 201;
constexpr size_t kCacheBytes = 128 * 1024;
constexpr size_t kTargetBatch = 32;
constexpr double kNoise = 1.03;  // two medians closer than this are equal

struct Contender {
  std::string name;
  void (*seal)(std::span<SealItem> items);
  void (*open)(std::span<OpenItem> items);
  bool library;  // somebody else's: what ours must not be slower than
};

EVP_CIPHER_CTX* openssl_context() {
  static EVP_CIPHER_CTX* context = [] {
    EVP_CIPHER_CTX* fresh = EVP_CIPHER_CTX_new();
    EVP_CipherInit_ex(fresh, EVP_chacha20_poly1305(), nullptr, nullptr, nullptr, 1);
    return fresh;
  }();
  return context;
}

void openssl_start(const AeadKey& key, uint64_t counter, int seal) {
  uint8_t nonce[12] = {};
  std::memcpy(nonce + 4, &counter, 8);
  EVP_CipherInit_ex(openssl_context(), nullptr, nullptr, key.bytes, nonce, seal);
}

void openssl_seal(std::span<SealItem> items) {
  for (SealItem& item : items) {
    openssl_start(*item.key, item.counter, 1);
    int len = 0;
    EVP_CipherUpdate(openssl_context(), item.out, &len, item.body, static_cast<int>(item.body_len));
    EVP_CipherFinal_ex(openssl_context(), item.out + len, &len);
    EVP_CIPHER_CTX_ctrl(openssl_context(), EVP_CTRL_AEAD_GET_TAG, kTagSize,
                        item.out + item.body_len);
  }
}

void openssl_open(std::span<OpenItem> items) {
  for (OpenItem& item : items) {
    openssl_start(*item.key, item.counter, 0);
    const int size = static_cast<int>(item.len - kTagSize);
    EVP_CIPHER_CTX_ctrl(openssl_context(), EVP_CTRL_AEAD_SET_TAG, kTagSize, item.data + size);
    int len = 0;
    EVP_CipherUpdate(openssl_context(), item.data, &len, item.data, size);
    item.ok = EVP_CipherFinal_ex(openssl_context(), item.data + len, &len) == 1;
  }
}

std::vector<Contender> contenders() {
  std::vector<Contender> all;
  for (const AeadImplementation& each : aead_implementations()) {
    if (each.usable) {
      all.push_back({each.name, each.seal_many, each.open_many, each.seal_lanes == nullptr});
    } else {
      std::fprintf(stderr, "%s: not measured, %s\n", each.name, each.reason);
    }
  }
  all.push_back({"openssl", openssl_seal, openssl_open, true});
  return all;
}

// Bursts of one shape, as many as fit the cache.
class Bursts {
 public:
  Bursts(size_t batch, const std::vector<size_t>& lengths) : batch_(batch) {
    const size_t longest = *std::max_element(lengths.begin(), lengths.end());
    const size_t slot = kBodyMargin + longest + 64;
    bursts_ = std::max<size_t>(1, kCacheBytes / (batch * slot));
    random_bytes(key_.bytes);
    memory_.resize(bursts_ * batch * slot);
    for (size_t i = 0; i < bursts_ * batch; ++i) {
      uint8_t* data = memory_.data() + i * slot + kBodyMargin;
      const uint32_t len = static_cast<uint32_t>(lengths[i % batch % lengths.size()]);
      seals_.push_back({&key_, i, nullptr, 0, data, len, 0, data});
      opens_.push_back({&key_, i, data, len + static_cast<uint32_t>(kTagSize), false});
    }
  }

  // ns per packet of one pass over all bursts.
  double seal(const Contender& contender) {
    return time([&](size_t first) { contender.seal({seals_.data() + first, batch_}); });
  }

  double open(const Contender& contender) {
    for (size_t i = 0; i < seals_.size(); i += batch_) {
      seal_many({seals_.data() + i, batch_});
    }
    return time([&](size_t first) { contender.open({opens_.data() + first, batch_}); });
  }

 private:
  template <class Run>
  double time(const Run& run) {
    const auto start = std::chrono::steady_clock::now();
    for (size_t i = 0; i < seals_.size(); i += batch_) {
      run(i);
    }
    const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - start;
    return spent.count() / static_cast<double>(seals_.size());
  }

  size_t batch_;
  size_t bursts_;
  AeadKey key_;
  std::vector<uint8_t> memory_;
  std::vector<SealItem> seals_;
  std::vector<OpenItem> opens_;
};

using Rounds = std::vector<std::vector<double>>;  // ns per packet, by contender and round

// One line of the table: all contenders on one shape of burst.
struct Row {
  bool sealing;
  size_t size;
  size_t batch;
  Rounds rounds;
  std::vector<double> ns;  // their medians

  Row(bool seals, size_t bytes, size_t packets, Rounds measured)
      : sealing(seals), size(bytes), batch(packets), rounds(std::move(measured)) {
    for (const std::vector<double>& each : rounds) {
      ns.push_back(median(each));
    }
  }

  // How many times faster the first is than another: by round, since neighbours in time share the
  // machine's moods.
  double lead_over(size_t other) const {
    std::vector<double> ratios;
    for (size_t round = 0; round < kRounds; ++round) {
      ratios.push_back(rounds[other][round] / rounds[0][round]);
    }
    return median(std::move(ratios));
  }
};

Rounds measure(const std::vector<Contender>& all, bool sealing, size_t batch,
               const std::vector<size_t>& lengths) {
  Bursts bursts(batch, lengths);
  Rounds rounds(all.size());
  for (size_t round = 0; round <= kRounds; ++round) {
    for (size_t i = 0; i < all.size(); ++i) {
      const size_t which = (i + round) % all.size();  // nobody always runs after the same one
      const double ns = sealing ? bursts.seal(all[which]) : bursts.open(all[which]);
      if (round != 0) {
        rounds[which].push_back(ns);
      }
    }
  }
  return rounds;
}

size_t index_of(const std::vector<Contender>& all, const std::string& name) {
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Contender& c) { return c.name == name; });
  return static_cast<size_t>(found - all.begin());
}

size_t fastest_library(const std::vector<Contender>& all, const Row& row) {
  size_t fastest = all.size() - 1;
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].library && row.ns[i] < row.ns[fastest]) {
      fastest = i;
    }
  }
  return fastest;
}

void print_table(const std::vector<Contender>& all, const std::vector<Row>& rows) {
  const size_t reference = index_of(all, "ipsecmb");
  std::printf("%-5s %5s %5s", "", "bytes", "batch");
  for (const Contender& contender : all) {
    std::printf(" %9s", contender.name.c_str());
  }
  std::printf("   %s vs ipsecmb, vs fastest library\n", all[0].name.c_str());
  for (const Row& row : rows) {
    std::printf("%-5s %5zu %5zu", row.sealing ? "seal" : "open", row.size, row.batch);
    for (const double ns : row.ns) {
      std::printf(" %9.1f", ns);
    }
    if (reference < all.size()) {
      std::printf("   %5.2fx", row.lead_over(reference));
    }
    std::printf(" %5.2fx\n", row.lead_over(fastest_library(all, row)));
  }
}

// The AEAD's targets: sealing in batches of 32 against ipsec-mb, and never slower than a library.
int print_targets(const std::vector<Contender>& all, const std::vector<Row>& rows) {
  bench::Report report;
  for (const Row& row : rows) {
    const std::string what = std::string(row.sealing ? "seal " : "open ") +
                             std::to_string(row.size) + " B, batches of " +
                             std::to_string(row.batch);
    for (size_t i = 0; i < all.size(); ++i) {
      report.figure(what + ": " + all[i].name, row.ns[i], "ns");
    }
  }
  const size_t reference = index_of(all, "ipsecmb");
  struct Target {
    size_t size;
    double factor;
  };
  for (const Target& target : {Target{64, 4.2}, Target{256, 2.5}, Target{1420, 1.3}}) {
    for (const Row& row : rows) {
      if (row.size == target.size && row.batch == kTargetBatch && reference < all.size()) {
        report.at_least(std::string(row.sealing ? "seal " : "open ") + std::to_string(row.size) +
                            " B, batches of " + std::to_string(row.batch) + ", against ipsec-mb",
                        row.lead_over(reference), target.factor);
      }
    }
  }
  const auto lead = [&](const Row& row) { return row.lead_over(fastest_library(all, row)); };
  const Row& worst = *std::min_element(
      rows.begin(), rows.end(), [&](const Row& a, const Row& b) { return lead(a) < lead(b); });
  std::printf("\nthe worst row: %s %zu B, batch %zu\n", worst.sealing ? "seal" : "open", worst.size,
              worst.batch);
  report.at_least("any batch against the best library, but for noise", lead(worst), 1 / kNoise);
  return report.finish();
}

// A cost that grows with the number of 64-byte blocks, from two points.
void print_line(const std::string& name, double packets, double short_ns, double long_ns) {
  constexpr double kBlocks[] = {1, 16};
  const double slope = (long_ns - short_ns) * packets / (kBlocks[1] - kBlocks[0]);
  std::printf("%-14s fixed %8.1f ns, each column %7.1f ns\n", name.c_str(),
              short_ns * packets - slope, slope);
}

void print_routing() {
  std::vector<Contender> all;
  std::vector<size_t> packets;
  for (const AeadImplementation& each : aead_implementations()) {
    if (!each.usable) {
      continue;
    }
    if (each.seal_lanes == nullptr) {
      all.push_back({std::string(each.name) + " alone", each.seal_many, each.open_many, true});
      packets.push_back(1);
    } else {
      all.push_back({std::string(each.name) + " group", each.seal_lanes, each.open_lanes, false});
      packets.push_back(std::strcmp(each.name, "avx2") == 0 ? 8 : 16);
    }
  }
  for (const bool sealing : {true, false}) {
    std::printf("%s\n", sealing ? "seal" : "open");
    for (size_t i = 0; i < all.size(); ++i) {
      // A group one packet short, since that is the kind the decision is about.
      const size_t used = std::max<size_t>(1, packets[i] - 1);
      const double small = median(measure({all[i]}, sealing, used, {64})[0]);
      const double large = median(measure({all[i]}, sealing, used, {1024})[0]);
      print_line(all[i].name, static_cast<double>(used), small, large);
    }
  }
}

int run(int argc, char** argv) {
  const auto has_flag = [&](const char* flag) {
    return std::any_of(argv + 1, argv + argc,
                       [&](const char* arg) { return std::strcmp(arg, flag) == 0; });
  };
  static_cast<void>(select_aead());
  if (has_flag("--routing")) {
    print_routing();
    return 0;
  }
  std::vector<size_t> batches = {1, 4, 16, 32, 64};
  if (has_flag("--every")) {
    batches.clear();
    for (size_t batch = 1; batch <= 64; ++batch) {
      batches.push_back(batch);
    }
  }
  const std::vector<Contender> all = contenders();
  std::vector<Row> rows;
  for (const bool sealing : {true, false}) {
    for (const size_t size : {64, 256, 1420}) {
      for (const size_t batch : batches) {
        rows.emplace_back(sealing, size, batch, measure(all, sealing, batch, {size}));
      }
    }
  }
  print_table(all, rows);
  return print_targets(all, rows);
}

}  // namespace
}  // namespace sallyport::crypto

int main(int argc, char** argv) {
  return sallyport::crypto::run(argc, argv);
}
