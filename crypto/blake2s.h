// BLAKE2s (RFC 7693) as WireGuard uses it: plain, keyed, and inside HMAC (RFC 2104); over libb2.
//
// A hash of several pieces is the hash of their concatenation. Outputs may be 1 to 32 bytes where a
// span of free size is taken. Values only: no thread rules. The state is wiped when it goes out of
// scope.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

namespace sallyport::crypto {

inline constexpr size_t kHashSize = 32;
inline constexpr size_t kHashBlockSize = 64;
inline constexpr size_t kMacSize = 16;  // WireGuard's mac1 and mac2

using Bytes = std::span<const uint8_t>;
using HashPieces = std::initializer_list<Bytes>;

class Blake2s {
 public:
  explicit Blake2s(size_t output_size = kHashSize);
  Blake2s(size_t output_size, Bytes key);  // key of 1 to 32 bytes
  ~Blake2s();
  Blake2s(const Blake2s&) = delete;
  Blake2s& operator=(const Blake2s&) = delete;

  void update(Bytes piece);
  void finish(std::span<uint8_t> output);  // output_size bytes; once

 private:
  static constexpr size_t kStateSize = 512;
  alignas(64) uint8_t state_[kStateSize];
};

// HASH(a || b || ...)
void blake2s(std::span<uint8_t, kHashSize> output, HashPieces pieces);

// MAC(key, a || b || ...): keyed BLAKE2s, 16 or 32 bytes by the size of output.
void blake2s_mac(std::span<uint8_t> output, Bytes key, HashPieces pieces);

// HMAC(key, a || b || ...), RFC 2104 over BLAKE2s. Keys over 64 bytes are hashed first.
void hmac_blake2s(std::span<uint8_t, kHashSize> output, Bytes key, HashPieces pieces);

}  // namespace sallyport::crypto
