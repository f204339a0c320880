// PortBlocks: candidates for a translated port (or ICMP id), for one worker. Whether one is free only FlowTable::insert knows.
//
//     PortSearch search = ports.search(towards, source_port, keep_parity);
//     while (auto port = search.next()) {
//       if (table.insert(... *port ...) is not reply_taken) { ports.found(search); break; }
//     }
//     if there was none: ports.failed(search) says why
//
// In this order, each at most once: the port the sender uses itself, if it is in the range (most keep it: RFC 4787 calls that port
// preservation); then ports of the same parity (its REQ-4), if asked, then the others. Their order is a random
// permutation of the range with a secret of each worker, beginning at a random place of the worker's own block of it (RFC 6056),
// so workers that look for ports at once seldom want the same one.
//
// A port is taken only towards a destination: `towards` is a hash of external address, protocol, destination and its port. While
// most ports towards it are free, a few tries find one: nine tenths taken, ten on average. A search ends after kTries nevertheless,
// since a packet may not cost more; then the next search for that destination goes on where this one ended, instead of anywhere. Once
// searches have gone through the whole range without success, that is called exhausted, and further ones get kTriesExhausted each: they
// still notice what becomes free, in their turn. So `busy` is honest: not all were tried yet; a sender that tries again has
// the rest tried. With a share f of the ports free a search fails with (1 - f) ^ kTries: 0.1 % at nine tenths taken, 3.8 % at 95 %.
//
// Costs: some ten nanoseconds a candidate, a table of 12 KiB. Two destinations that share one of its 1,024 entries share a
// place to go on, which harms neither, and their misses, so that `exhausted` may be said early, which a success of either takes back.
// Threads: one worker's own.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace sallyport {

class PortSearch {
 public:
  std::optional<uint16_t> next();
  unsigned tries() const { return tries_; }

 private:
  friend class PortBlocks;

  // The ports of one parity, or all of them: first, first + step, ...
  struct Part {
    uint32_t first = 0, step = 1, count = 0;
  };
  uint32_t permuted(const Part& part, uint32_t index) const;

  uint32_t total() const { return parts_[0].count + parts_[1].count; }

  Part parts_[2];  // one after the other, each from `start_` round to it
  uint64_t secret_ = 0;
  size_t place_ = 0;
  int32_t preferred_ = -1;
  uint32_t start_ = 0;
  uint32_t step_ = 0;  // 0 to total(): of that walk
  uint32_t walked_ = 0;
  unsigned tries_ = 0;
  unsigned tries_max_ = 0;
};

enum class PortFailure : uint8_t { busy, exhausted };

class PortBlocks {
 public:
  static constexpr unsigned kTries = 64;
  static constexpr unsigned kTriesExhausted = 8;

  // Ports first to last, both included, first not above last; worker 0 to workers - 1; a random secret.
  PortBlocks(uint16_t first, uint16_t last, unsigned worker, unsigned workers, uint64_t secret);

  PortSearch search(uint64_t towards, uint16_t preferred, bool keep_parity);
  // How it ended: a search that nobody concludes only was for nothing.
  void found(const PortSearch& search);
  PortFailure failed(const PortSearch& search);

  uint32_t size() const { return uint32_t{last_} - first_ + 1; }

 private:
  static constexpr size_t kPlaces = 1024;
  // What is known of a destination, by parity asked for: their walks are different ones.
  struct Place {
    uint32_t start = 0, step = 0;  // where the next search goes on, if the last one failed
    uint32_t missed = 0;           // steps since the last success
  };
  PortSearch::Part part_of(unsigned parity) const;
  uint64_t random();

  const uint16_t first_, last_;
  const unsigned worker_, workers_;
  const uint64_t secret_;
  uint64_t random_;
  std::array<Place, kPlaces> places_ = {};
};

}  // namespace sallyport
