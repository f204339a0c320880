#include "crypto/kdf.h"

namespace sallyport::crypto {

namespace {

// t_n = HMAC(t0, t_{n-1} || n), with t_0 absent from the first.
void expand(const Key& extracted, Bytes previous, uint8_t number, Key& output) {
  Key next;
  hmac_blake2s(next, extracted, {previous, Bytes(&number, 1)});
  output = std::move(next);
}

}  // namespace

void kdf1(Bytes key, Bytes input, Key& first) {
  Key extracted;
  hmac_blake2s(extracted, key, {input});
  expand(extracted, {}, 1, first);
}

void kdf2(Bytes key, Bytes input, Key& first, Key& second) {
  Key extracted;
  hmac_blake2s(extracted, key, {input});
  expand(extracted, {}, 1, first);
  expand(extracted, first, 2, second);
}

void kdf3(Bytes key, Bytes input, Key& first, Key& second, Key& third) {
  Key extracted;
  hmac_blake2s(extracted, key, {input});
  expand(extracted, {}, 1, first);
  expand(extracted, first, 2, second);
  expand(extracted, second, 3, third);
}

}  // namespace sallyport::crypto
