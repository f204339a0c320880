#include "crypto/blake2s.h"

#include <blake2.h>

#include <array>
#include <cstring>
#include <new>

#include "crypto/secret.h"

namespace sallyport::crypto {

namespace {

blake2s_state* native(uint8_t* state) {
  return std::launder(reinterpret_cast<blake2s_state*>(state));
}

}  // namespace

Blake2s::Blake2s(size_t output_size) {
  static_assert(sizeof(blake2s_state) <= kStateSize && alignof(blake2s_state) <= 64);
  blake2s_init(new (state_) blake2s_state, output_size);
}

Blake2s::Blake2s(size_t output_size, Bytes key) {
  blake2s_init_key(new (state_) blake2s_state, output_size, key.data(), key.size());
}

Blake2s::~Blake2s() {
  secure_zero(state_, sizeof(blake2s_state));
}

void Blake2s::update(Bytes piece) {
  if (!piece.empty()) {
    blake2s_update(native(state_), piece.data(), piece.size());
  }
}

void Blake2s::finish(std::span<uint8_t> output) {
  blake2s_final(native(state_), output.data(), output.size());
}

void blake2s(std::span<uint8_t, kHashSize> output, HashPieces pieces) {
  Blake2s hash;
  for (const Bytes piece : pieces) {
    hash.update(piece);
  }
  hash.finish(output);
}

void blake2s_mac(std::span<uint8_t> output, Bytes key, HashPieces pieces) {
  Blake2s hash(output.size(), key);
  for (const Bytes piece : pieces) {
    hash.update(piece);
  }
  hash.finish(output);
}

void hmac_blake2s(std::span<uint8_t, kHashSize> output, Bytes key, HashPieces pieces) {
  Secret<kHashBlockSize> block;
  if (key.size() > kHashBlockSize) {
    blake2s(std::span<uint8_t, kHashSize>(block.data(), kHashSize), {key});
  } else if (!key.empty()) {
    std::memcpy(block.data(), key.data(), key.size());
  }

  for (uint8_t& byte : block) {
    byte ^= 0x36;
  }
  Blake2s inner;
  inner.update(block);
  for (const Bytes piece : pieces) {
    inner.update(piece);
  }
  Key inner_hash;
  inner.finish(inner_hash);

  for (uint8_t& byte : block) {
    byte ^= 0x36 ^ 0x5c;
  }
  blake2s(output, {Bytes(block), Bytes(inner_hash)});
}

}  // namespace sallyport::crypto
