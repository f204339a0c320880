// Netlink: a request socket to the kernel's rtnetlink: single requests, dumps, and batches of hundreds of thousands of
// changes.
//
// Messages are built and parsed with libnl; the exchange is our own, because libnl's waits for one answer a message. The
// kernel works a whole datagram of messages off within sendmsg, in order, and answers unasked only where it refuses; so a
// batch asks for an acknowledgement of its last message alone and costs one round trip. Errors carry the kernel's own
// words (NETLINK_EXT_ACK) behind errno's.
//
// Assumes that repeating a message does no harm: when answers were lost (ENOBUFS) the batch is sent again in smaller
// parts. Cannot: listen to notifications (LinkWatch and HostRoutes have sockets of their own for that).
//
// Thread rules: one thread at a time; it blocks. It speaks to the network namespace it was opened in, wherever the thread
// goes later. Sources: netlink(7), rtnetlink(7).
#pragma once

#include <linux/netlink.h>
#include <netlink/msg.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/base/descriptor.h"
#include "dataplane/base/result.h"
#include "dataplane/net/address.h"

namespace sallyport {

// One message under construction: the family's header, then attributes.
class NetlinkMessage {
 public:
  template <class Header>
  NetlinkMessage(uint16_t type, int flags, const Header& header)
      : NetlinkMessage(type, flags, sizeof(header), 0) {
    append(&header, sizeof(header));
  }
  NetlinkMessage(uint16_t type, int flags, const void* body, size_t bytes)
      : NetlinkMessage(type, flags, bytes, 0) {
    append(body, bytes);
  }

  NetlinkMessage& put(int attribute, const void* data, size_t bytes);
  NetlinkMessage& put(int attribute, uint32_t value) {
    return put(attribute, &value, sizeof(value));
  }
  NetlinkMessage& put(int attribute, const IpAddress& address);
  nlmsghdr* header() const { return nlmsg_hdr(message_.get()); }

 private:
  struct Free {
    void operator()(nl_msg* message) const { nlmsg_free(message); }
  };
  NetlinkMessage(uint16_t type, int flags, size_t header_bytes, int);
  void append(const void* data, size_t bytes);

  std::unique_ptr<nl_msg, Free> message_;
};

// The attributes of a message that arrived. What is missing or too short reads as nothing.
template <int kMax>
class NetlinkAttributes {
 public:
  NetlinkAttributes(const nlmsghdr& message, size_t header_bytes) {
    if (nlmsg_parse(const_cast<nlmsghdr*>(&message), static_cast<int>(header_bytes), table_.data(),
                    kMax, nullptr) < 0) {
      table_.fill(nullptr);
    }
  }
  const nlattr* get(int attribute) const { return table_[static_cast<size_t>(attribute)]; }
  bool has(int attribute) const { return get(attribute) != nullptr; }
  std::optional<uint32_t> u32(int attribute) const;
  std::optional<uint8_t> u8(int attribute) const;
  IpAddress address(int attribute) const;  // of the family its length says; unset otherwise

 private:
  std::array<nlattr*, kMax + 1> table_{};
};

IpAddress netlink_address(const void* data, size_t bytes);

class Netlink {
 public:
  static Result<Netlink> open();
  Netlink(Netlink&& other) noexcept;
  Netlink& operator=(Netlink&&) = delete;

  // Under this number notifications name the changes that were made through this socket.
  uint32_t port() const { return port_; }
  int descriptor() const { return socket_.get(); }

  // One change, done when it returns.
  Result<void> change(const NetlinkMessage& message);

  // One question with one answer: the answer, whole.
  Result<std::vector<char>> ask(const NetlinkMessage& message);

  // Everything there is of a kind; `parse` turns a message into an optional<T>. A dump during which things changed is
  // asked for again a few times; then it is taken as it is, and may lack or repeat what was being changed.
  template <class T, class Parse>
  Result<std::vector<T>> dump(const NetlinkMessage& message, Parse parse);

  struct Refusal {
    size_t index = 0;
    Error error;
  };
  struct Batch {
    size_t sent = 0;  // messages that the kernel has seen, or may have seen
    std::optional<Refusal> refused;
  };
  // Sends make(0) ... make(count - 1). Refusals with an errno for which `harmless` is true are passed over; at another one
  // it stops, when the datagram with that message is through.
  Batch change_many(size_t count, const std::function<NetlinkMessage(size_t)>& make,
                    bool (*harmless)(int code));

 private:
  enum class Heard { all, lost };
  static constexpr int kDumpTriesMax = 5;

  explicit Netlink(int fd);
  void stamp(const NetlinkMessage& message);
  Result<void> send_bytes(const void* data, size_t bytes);
  Result<size_t> receive();  // into buffer_
  Result<Heard> hear(size_t first, uint32_t sequence, uint32_t last, bool (*harmless)(int code),
                     std::optional<Refusal>& refused);
  Result<bool> dump_once(const NetlinkMessage& message,
                         const std::function<void(const nlmsghdr&)>& take);  // false: interrupted
  void drain();

  Descriptor socket_;
  uint32_t port_ = 0;
  uint32_t sequence_ = 0;
  std::vector<char> buffer_;
};

template <int kMax>
std::optional<uint32_t> NetlinkAttributes<kMax>::u32(int attribute) const {
  const nlattr* found = get(attribute);
  if (found == nullptr || nla_len(found) < static_cast<int>(sizeof(uint32_t))) {
    return std::nullopt;
  }
  return nla_get_u32(found);
}

template <int kMax>
std::optional<uint8_t> NetlinkAttributes<kMax>::u8(int attribute) const {
  const nlattr* found = get(attribute);
  if (found == nullptr || nla_len(found) < 1) {
    return std::nullopt;
  }
  return nla_get_u8(found);
}

template <int kMax>
IpAddress NetlinkAttributes<kMax>::address(int attribute) const {
  const nlattr* found = get(attribute);
  return found == nullptr ? IpAddress{}
                          : netlink_address(nla_data(found), static_cast<size_t>(nla_len(found)));
}

template <class T, class Parse>
Result<std::vector<T>> Netlink::dump(const NetlinkMessage& message, Parse parse) {
  for (int tried = 1;; ++tried) {
    std::vector<T> found;
    const Result<bool> whole = dump_once(message, [&](const nlmsghdr& header) {
      if (std::optional<T> one = parse(header)) {
        found.push_back(std::move(*one));
      }
    });
    if (!whole) {
      return std::unexpected(whole.error());
    }
    if (*whole || tried == kDumpTriesMax) {
      return found;
    }
  }
}

}  // namespace sallyport
