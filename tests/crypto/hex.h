// Hex in tests: vectors are written as their documents print them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sallyport::crypto {

inline std::vector<uint8_t> from_hex(std::string_view text) {
  const auto digit = [](char c) { return static_cast<uint8_t>(c >= 'a' ? c - 'a' + 10 : c - '0'); };
  std::vector<uint8_t> bytes(text.size() / 2);
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<uint8_t>(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
  }
  return bytes;
}

inline std::string to_hex(std::span<const uint8_t> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

inline std::vector<uint8_t> bytes_of(std::string_view text) {
  return std::vector<uint8_t>(text.begin(), text.end());
}

// 00 01 02 ...
inline std::vector<uint8_t> counting_bytes(size_t size, uint8_t first = 0) {
  std::vector<uint8_t> bytes(size);
  for (uint8_t& byte : bytes) {
    byte = first++;
  }
  return bytes;
}

}  // namespace sallyport::crypto
