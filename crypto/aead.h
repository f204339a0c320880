// The AEAD of data messages: ChaCha20-Poly1305 (RFC 8439) with WireGuard's nonce, four zero bytes
// and a 64-bit little-endian counter, and no additional data (whitepaper, section 5.4.6). The unit
// is the burst.
//
// Several implementations stand behind seal_many() and open_many(); select_aead() picks one for the
// process after a self-test (crypto/selftest.h). Before it is called the portable one (libsodium)
// serves.
//
// The plaintext of a packet to seal is head | body | pad zero bytes, so that segmentation writes a
// fresh header beside a payload that stays where the kernel put it:
//
//      body - 256        body                body + body_len   + 16
//      +- - - - - - - - -+===================+- - - - - - - - -+      head: up to 256 bytes
//      anywhere | may be written  |  read, unchanged  | may be written  |      out:  head_len +
//      body_len + pad bytes of |  and put back   |                   |  and put back   |
//      ciphertext, then the 16-byte tag
//      +- - - - - - - - -+===================+- - - - - - - - -+
//
// Assumed of the caller:
// * The dashed margins are addressable bytes of a buffer that only this thread touches during the
// call. An
//   implementation may write into them and puts the old bytes back. Where head_len and pad are both
//   0 the margins are not touched, except that in place the tag is written behind the body.
// * out either does not overlap [body - 256, body + body_len + 16) at all, or head_len is 0 and out
// == body: in place.
// * One item's out overlaps no other item's head, body or out. Bodies, and margins with bodies, of
// several items may overlap:
//   they are slices of one super-packet.
// * A (key, counter) pair is sealed once, ever.
//
// Order inside a call is not promised; nothing is retained after it. A tag is compared in constant
// time, and when it is wrong the data is left as it was or zeroed, never plaintext. The time
// depends on lengths, not on keys or bytes.
//
// Threads: any number at once, on distinct items. A worker calls aead_thread_init() before its
// first burst, so that the burst itself allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "crypto/blake2s.h"
#include "crypto/secret.h"

namespace sallyport::crypto {

inline constexpr size_t kTagSize = 16;
inline constexpr size_t kHeadMax = 256;     // longest head of a SealItem
inline constexpr size_t kPadMax = 15;       // longest pad of a SealItem
inline constexpr size_t kBodyMargin = 256;  // writable bytes before body
inline constexpr size_t kBodyTail = 16;     // writable bytes behind it

// A session key. Expanded by no implementation: all take the 32 bytes as they are.
struct AeadKey {
  AeadKey() = default;
  explicit AeadKey(std::span<const uint8_t, 32> key) { assign(key); }
  ~AeadKey() { clear(); }
  AeadKey(const AeadKey&) = delete;
  AeadKey& operator=(const AeadKey&) = delete;

  void assign(std::span<const uint8_t, 32> key) { std::memcpy(bytes, key.data(), sizeof(bytes)); }
  void clear() { secure_zero(bytes, sizeof(bytes)); }

  alignas(64) uint8_t bytes[32] = {};
};

struct SealItem {
  const AeadKey* key;
  uint64_t counter;
  const uint8_t* head;
  uint32_t head_len;  // at most kHeadMax
  uint8_t* body;
  uint32_t body_len;
  uint32_t pad;  // at most kPadMax
  uint8_t* out;

  size_t plain_len() const { return size_t{head_len} + body_len + pad; }
};

struct OpenItem {
  const AeadKey* key;
  uint64_t counter;
  uint8_t* data;  // ciphertext and tag; plaintext after, in place, if ok
  uint32_t len;   // with the tag; less than 16 is never ok
  bool ok;        // written by open_many
};

void seal_many(std::span<SealItem> items);
void open_many(std::span<OpenItem> items);

// Takes what this thread's implementation needs (ipsec-mb: a manager) now rather than inside its
// first burst.
void aead_thread_init();

struct AeadImplementation {
  const char* name;
  void (*seal_many)(std::span<SealItem> items);
  void (*open_many)(std::span<OpenItem> items);
  // The same with every packet in vector lanes, for tests and for measuring what routing is worth.
  // Null where there is no difference.
  void (*seal_lanes)(std::span<SealItem> items);
  void (*open_lanes)(std::span<OpenItem> items);
  void (*thread_init)();  // may be null
  bool usable;
  const char* reason;  // why it is not usable; "" where it is
};

// Every implementation of this build, best first, each self-tested once at the first call.
std::span<const AeadImplementation> aead_implementations();

// Makes the named implementation, or with an empty name the best usable one, that of the process.
// False, and nothing changes, if there is no such name or it is not usable. Call it before workers
// start.
[[nodiscard]] bool select_aead(std::string_view name = {});

// The implementation in use.
const char* aead_name();

// One message with additional data, through libsodium: the encrypted fields of handshake messages.
// sealed has 16 bytes more than plain. They may start at the same address.
void aead_seal_with_ad(std::span<uint8_t> sealed, Bytes plain, Bytes ad,
                       std::span<const uint8_t, 32> key, uint64_t counter);

// False if the tag is wrong or the sizes do not match; plain is then zero.
[[nodiscard]] bool aead_open_with_ad(std::span<uint8_t> plain, Bytes sealed, Bytes ad,
                                     std::span<const uint8_t, 32> key, uint64_t counter);

}  // namespace sallyport::crypto
