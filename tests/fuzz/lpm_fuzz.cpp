// Drives the LPM table and LpmModel with the same operations, taken from the input, and compares
// every answer.
//
// Input: one byte for the family, then operations of one byte each and their arguments. Addresses
// come from few bytes and differ from the one before in few bits, so that prefixes meet. What
// disagrees aborts.
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "dataplane/table/lpm.h"
#include "tests/dataplane/table/lpm_model.h"

namespace {

using sallyport::kLpmMiss;
using sallyport::LpmValue;

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : data_(data), end_(data + size) {}
  bool is_empty() const { return data_ == end_; }
  uint8_t next() { return is_empty() ? 0 : *data_++; }

 private:
  const uint8_t* data_;
  const uint8_t* end_;
};

void require(bool is_so) {
  if (!is_so) {
    std::abort();
  }
}

template <class Table>
class Duel {
 public:
  using Address = typename Table::Address;
  using Model = sallyport::LpmModel<Table>;

  explicit Duel(Bytes bytes) : bytes_(bytes) {}

  void run() {
    while (!bytes_.is_empty()) {
      operate(bytes_.next());
    }
    compare_all();
  }

 private:
  void operate(uint8_t operation) {
    switch (operation % 8) {
      case 0:
      case 1:
      case 2: {
        const Address address = next_address();
        const unsigned length = next_length();
        const LpmValue value = bytes_.next();
        require(table_.insert(address, length, value) == model_.insert(address, length, value));
        compare(address);
        break;
      }
      case 3: {
        const Address address = next_address();
        const unsigned length = next_length();
        require(table_.remove(address, length) == model_.remove(address, length));
        compare(address);
        break;
      }
      case 4:
        compare(next_address());
        break;
      case 5:
        grow(operation / 8u);
        break;
      case 6:
        if (++full_comparisons_ < 4) {  // they cost what hundreds of operations do
          compare_all();
        }
        break;
      case 7:
        if (operation == 0xff) {
          table_.clear();
          model_.clear();
        }
        break;
    }
  }

  // Many at once, so that short inputs reach every form. Each has its neighbours' bits.
  void grow(unsigned count) {
    const unsigned length = next_length();
    const uint8_t stride = bytes_.next();
    for (unsigned i = 0; i < count * 8; ++i) {
      flip(stride + i * 7);
      require(table_.insert(address_, length, i) == model_.insert(address_, length, i));
    }
  }

  void flip(unsigned bit) {
    bit %= Table::kBits;
    if constexpr (Table::kBits == 32) {
      address_ ^= 1u << (31 - bit);
    } else {
      (bit < 64 ? address_.high : address_.low) ^= uint64_t{1} << (63 - bit % 64);
    }
  }

  Address next_address() {
    const uint8_t flips = bytes_.next();
    for (unsigned i = 0; i < flips % 4u; ++i) {
      flip(bytes_.next());
    }
    if (flips >= 0xf0) {
      address_ = Address{};
    }
    return address_;
  }

  unsigned next_length() { return bytes_.next() % (Table::kBits + 1); }

  void compare(const Address& address) {
    require(table_.lookup(address) == model_.lookup(address));
  }

  void compare_all() {
    const auto expected = model_.all();
    require(table_.size() == expected.size());
    size_t i = 0;
    std::vector<Address> addresses;
    table_.walk([&](const Address& address, unsigned length, LpmValue value) {
      require(i < expected.size() && expected[i].address == address);
      require(expected[i].length == length && expected[i].value == value);
      require(table_.find(address, length) == value);
      addresses.push_back(address);
      ++i;
    });
    require(i == expected.size());
    std::vector<LpmValue> values(addresses.size());
    table_.lookup_many(addresses.data(), values.data(), addresses.size());
    for (i = 0; i < addresses.size(); i += 1 + addresses.size() / 64) {
      require(values[i] == model_.lookup(addresses[i]));
    }
  }

  Bytes bytes_;
  Table table_;
  Model model_;
  Address address_{};
  unsigned full_comparisons_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > 1024) {
    return 0;
  }
  if (data[0] % 2 == 0) {
    Duel<sallyport::Lpm4>(Bytes(data + 1, size - 1)).run();
  } else {
    Duel<sallyport::Lpm6>(Bytes(data + 1, size - 1)).run();
  }
  return 0;
}
