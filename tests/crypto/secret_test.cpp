#include "crypto/secret.h"

#include <gtest/gtest.h>

#include <new>
#include <type_traits>

#include "tests/crypto/hex.h"

namespace sallyport::crypto {
namespace {

static_assert(!std::is_copy_constructible_v<Key> && !std::is_copy_assignable_v<Key>);
static_assert(std::is_nothrow_move_constructible_v<Key> && std::is_nothrow_move_assignable_v<Key>);

Key counting_key() {
  return Key(std::span<const uint8_t, 32>(counting_bytes(32)));
}

TEST(Secret, StartsAsZero) {
  EXPECT_TRUE(Key().is_zero());
}

TEST(Secret, MovingZeroesTheSource) {
  Key source = counting_key();
  Key target = std::move(source);
  EXPECT_TRUE(source.is_zero());  // NOLINT(bugprone-use-after-move): that is the point
  EXPECT_EQ(to_hex(target), to_hex(counting_bytes(32)));

  Key third;
  third = std::move(target);
  EXPECT_TRUE(target.is_zero());  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(to_hex(third), to_hex(counting_bytes(32)));
}

TEST(Secret, MovingOntoItselfKeepsIt) {
  Key key = counting_key();
  Key& same = key;
  key = std::move(same);
  EXPECT_EQ(to_hex(key), to_hex(counting_bytes(32)));
}

TEST(Secret, DestructionZeroes) {
  alignas(Key) uint8_t storage[sizeof(Key)];
  Key* key = new (storage) Key(counting_key());
  key->~Key();
  for (const uint8_t byte : storage) {
    EXPECT_EQ(byte, 0);
  }
}

TEST(Secret, EqualityLooksAtEveryByte) {
  const Key key = counting_key();
  EXPECT_TRUE(equal_constant_time(key, key.clone()));
  for (size_t i = 0; i < Key::size(); ++i) {
    Key other = key.clone();
    other.data()[i] ^= 0x80;
    EXPECT_FALSE(equal_constant_time(key, other)) << i;
  }
}

TEST(Secret, IsZeroLooksAtEveryByte) {
  for (size_t i = 0; i < Key::size(); ++i) {
    Key key;
    key.data()[i] = 1;
    EXPECT_FALSE(key.is_zero()) << i;
    key.clear();
    EXPECT_TRUE(key.is_zero());
  }
}

}  // namespace
}  // namespace sallyport::crypto
