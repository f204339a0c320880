// Secret<N>: N bytes nobody should see.
//
// Not copyable, so that a key exists where it was put and nowhere else; moving zeroes the source;
// the destructor zeroes the bytes in a way the optimiser may not drop. Comparisons take the same
// time whatever the bytes are. A copy that is really meant is spelled clone().
//
// Cannot do: hide from swap or a core dump (the control room locks memory and disables dumps), or
// from copies that a caller makes of data(). No thread rules: it is a value.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace sallyport::crypto {

// Zeroes memory even where the compiler can see that nobody reads it afterwards.
void secure_zero(void* bytes, size_t size);

// True if both hold the same bytes. The time depends on the size alone. Sizes must match.
bool equal_constant_time(const void* left, const void* right, size_t size);

template <size_t N>
class Secret {
 public:
  Secret() = default;  // all zero
  explicit Secret(std::span<const uint8_t, N> bytes) {
    std::memcpy(bytes_.data(), bytes.data(), N);
  }
  ~Secret() { secure_zero(bytes_.data(), N); }

  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;

  Secret(Secret&& source) noexcept { take(source); }
  Secret& operator=(Secret&& source) noexcept {
    if (this != &source) {
      take(source);
    }
    return *this;
  }

  Secret clone() const { return Secret(std::span<const uint8_t, N>(bytes_)); }

  void assign(std::span<const uint8_t, N> bytes) { std::memmove(bytes_.data(), bytes.data(), N); }
  void clear() { secure_zero(bytes_.data(), N); }

  uint8_t* data() { return bytes_.data(); }
  const uint8_t* data() const { return bytes_.data(); }
  static constexpr size_t size() { return N; }
  uint8_t* begin() { return bytes_.data(); }
  uint8_t* end() { return bytes_.data() + N; }
  const uint8_t* begin() const { return bytes_.data(); }
  const uint8_t* end() const { return bytes_.data() + N; }

  operator std::span<uint8_t, N>() { return std::span<uint8_t, N>(bytes_); }
  operator std::span<const uint8_t, N>() const { return std::span<const uint8_t, N>(bytes_); }

  bool is_zero() const {
    static constexpr std::array<uint8_t, N> kZero{};
    return equal_constant_time(bytes_.data(), kZero.data(), N);
  }

 private:
  void take(Secret& source) {
    std::memcpy(bytes_.data(), source.bytes_.data(), N);
    source.clear();
  }

  std::array<uint8_t, N> bytes_{};
};

template <size_t N>
bool equal_constant_time(const Secret<N>& left, const Secret<N>& right) {
  return equal_constant_time(left.data(), right.data(), N);
}

using Key = Secret<32>;

}  // namespace sallyport::crypto
