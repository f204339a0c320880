#include "crypto/secret.h"

#include <sodium.h>

namespace sallyport::crypto {

void secure_zero(void* bytes, size_t size) {
  sodium_memzero(bytes, size);
}

bool equal_constant_time(const void* left, const void* right, size_t size) {
  return sodium_memcmp(left, right, size) == 0;
}

}  // namespace sallyport::crypto
