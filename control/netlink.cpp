#include "control/netlink.h"

#include <netlink/attr.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace sallyport {
namespace {

constexpr size_t kAttributeBytesMax = 256;  // of one message: a route's take 36, a rule's 40
constexpr size_t kBatchBytes = 64 * 1024;   // of one sendmsg; well below the default send buffer
constexpr size_t kReceiveBytes =
    64 * 1024;  // the kernel packs at most 32 KiB of a dump into one read
constexpr int kReceiveBuffer = 4 * 1024 * 1024;  // a refusal takes about 1 KiB of it
constexpr size_t kShrink = 8;  // a batch whose answers were lost comes again in so many parts
constexpr timeval kAnswerWait{30,
                              0};  // answers are there when sendmsg returns; this is a last resort

// errno's word for it, and the kernel's own where it gave one.
Error refusal_of(const nlmsghdr& message, int code) {
  Error error{std::strerror(code), code};
  const auto* answer = static_cast<const nlmsgerr*>(nlmsg_data(&message));
  size_t skip = sizeof(nlmsgerr);
  if ((message.nlmsg_flags & NLM_F_CAPPED) == 0) {
    skip += answer->msg.nlmsg_len - NLMSG_HDRLEN;
  }
  if ((message.nlmsg_flags & NLM_F_ACK_TLVS) == 0 ||
      skip >= static_cast<size_t>(nlmsg_datalen(&message))) {
    return error;
  }
  const NetlinkAttributes<NLMSGERR_ATTR_MAX> attributes(message, skip);
  if (const nlattr* text = attributes.get(NLMSGERR_ATTR_MSG);
      text != nullptr && nla_len(text) > 1) {
    std::string words(
        static_cast<const char*>(nla_data(text)),
        strnlen(static_cast<const char*>(nla_data(text)), static_cast<size_t>(nla_len(text))));
    while (!words.empty() && words.back() == '.') {
      words.pop_back();
    }
    error.text += " (" + words + ")";
  }
  return error;
}

int code_of(const nlmsghdr& message) {
  if (nlmsg_datalen(&message) < static_cast<int>(sizeof(nlmsgerr))) {
    return EBADMSG;
  }
  return -static_cast<const nlmsgerr*>(nlmsg_data(&message))->error;
}

// Calls `take` for each message of a datagram until it returns false.
template <class Take>
void for_each_message(std::vector<char>& bytes, size_t length, Take take) {
  int left = static_cast<int>(length);
  for (auto* message = reinterpret_cast<nlmsghdr*>(bytes.data()); nlmsg_ok(message, left);
       message = nlmsg_next(message, &left)) {
    if (!take(*message)) {
      return;
    }
  }
}

}  // namespace

NetlinkMessage::NetlinkMessage(uint16_t type, int flags, size_t header_bytes, int)
    : message_(nlmsg_alloc_size(NLMSG_HDRLEN + NLMSG_ALIGN(header_bytes) + kAttributeBytesMax)) {
  if (message_ == nullptr ||
      nlmsg_put(message_.get(), 0, 0, type, 0, flags | NLM_F_REQUEST) == nullptr) {
    std::abort();  // some hundred bytes are not to be had
  }
}

void NetlinkMessage::append(const void* data, size_t bytes) {
  if (nlmsg_append(message_.get(), const_cast<void*>(data), bytes, NLMSG_ALIGNTO) != 0) {
    std::abort();  // every message of ours fits
  }
}

NetlinkMessage& NetlinkMessage::put(int attribute, const void* data, size_t bytes) {
  if (nla_put(message_.get(), attribute, static_cast<int>(bytes), data) != 0) {
    std::abort();
  }
  return *this;
}

NetlinkMessage& NetlinkMessage::put(int attribute, const IpAddress& address) {
  return put(attribute, address.bytes.data(), address.bits() / 8);
}

IpAddress netlink_address(const void* data, size_t bytes) {
  return bytes == 4 ? IpAddress::v4(data) : bytes == 16 ? IpAddress::v6(data) : IpAddress{};
}

Result<Netlink> Netlink::open() {
  Netlink made(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  const int fd = made.socket_.get();
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  socklen_t length = sizeof(address);
  if (fd < 0 || bind(fd, reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return fail_errno("cannot open a netlink socket");
  }
  made.port_ = address.nl_pid;
  const int on = 1;
  // An old kernel without one of these still works: it says less, or dumps more than asked for.
  setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
  setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
  setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kAnswerWait, sizeof(kAnswerWait));
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer, sizeof(kReceiveBuffer)) != 0) {
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &kReceiveBuffer, sizeof(kReceiveBuffer));
  }
  return made;
}

Netlink::Netlink(int fd) : socket_(fd), buffer_(kReceiveBytes) {}

Netlink::Netlink(Netlink&& other) noexcept
    : socket_(other.socket_.release()),
      port_(other.port_),
      sequence_(other.sequence_),
      buffer_(std::move(other.buffer_)) {}

void Netlink::stamp(const NetlinkMessage& message) {
  message.header()->nlmsg_seq = ++sequence_;
}

Result<void> Netlink::send_bytes(const void* data, size_t bytes) {
  ssize_t sent;
  do {
    sent = ::send(socket_.get(), data, bytes, 0);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) {
    return fail_errno("cannot send a netlink request");
  }
  return {};
}

Result<size_t> Netlink::receive() {
  ssize_t length;
  do {
    length = recv(socket_.get(), buffer_.data(), buffer_.size(), 0);
  } while (length < 0 && errno == EINTR);
  if (length < 0) {
    const int code = errno == EAGAIN ? ETIMEDOUT : errno;
    return fail_errno("no answer by netlink", code);
  }
  return static_cast<size_t>(length);
}

void Netlink::drain() {
  while (recv(socket_.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT) >= 0 ||
         errno == ENOBUFS || errno == EINTR) {
  }
}

// Reads until the answer to `last`. Answers to anything older than `sequence` are left over from a request given up.
Result<Netlink::Heard> Netlink::hear(size_t first, uint32_t sequence, uint32_t last,
                                     bool (*harmless)(int code), std::optional<Refusal>& refused) {
  for (bool done = false; !done;) {
    const Result<size_t> length = receive();
    if (!length && length.error().code == ENOBUFS) {
      drain();
      return Heard::lost;
    }
    if (!length) {
      return std::unexpected(length.error());
    }
    for_each_message(buffer_, *length, [&](const nlmsghdr& message) {
      const uint32_t offset = message.nlmsg_seq - sequence;
      if (message.nlmsg_type != NLMSG_ERROR || offset > last - sequence) {
        return true;
      }
      done = message.nlmsg_seq == last;
      const int code = code_of(message);
      if (code != 0 && !harmless(code) && !refused) {
        refused = Refusal{first + offset, refusal_of(message, code)};
      }
      return true;
    });
  }
  return Heard::all;
}

Result<void> Netlink::change(const NetlinkMessage& message) {
  stamp(message);
  nlmsghdr* header = message.header();
  header->nlmsg_flags |= NLM_F_ACK;
  if (auto sent = send_bytes(header, header->nlmsg_len); !sent) {
    return sent;
  }
  std::optional<Refusal> refused;
  const auto heard = hear(
      0, sequence_, sequence_, [](int) { return false; }, refused);
  if (!heard) {
    return std::unexpected(heard.error());
  }
  if (refused) {
    return std::unexpected(std::move(refused->error));
  }
  return {};
}

Result<std::vector<char>> Netlink::ask(const NetlinkMessage& message) {
  stamp(message);
  if (auto sent = send_bytes(message.header(), message.header()->nlmsg_len); !sent) {
    return std::unexpected(sent.error());
  }
  for (;;) {
    const Result<size_t> length = receive();
    if (!length) {
      return std::unexpected(length.error());
    }
    std::optional<Result<std::vector<char>>> answer;
    for_each_message(buffer_, *length, [&](const nlmsghdr& found) {
      if (found.nlmsg_seq != sequence_) {
        return true;
      }
      if (found.nlmsg_type == NLMSG_ERROR) {
        answer = std::unexpected(refusal_of(found, code_of(found)));
      } else {
        const auto* bytes = reinterpret_cast<const char*>(&found);
        answer = std::vector<char>(bytes, bytes + found.nlmsg_len);
      }
      return false;
    });
    if (answer) {
      return std::move(*answer);
    }
  }
}

Result<bool> Netlink::dump_once(const NetlinkMessage& message,
                                const std::function<void(const nlmsghdr&)>& take) {
  stamp(message);
  message.header()->nlmsg_flags |= NLM_F_DUMP;
  if (auto sent = send_bytes(message.header(), message.header()->nlmsg_len); !sent) {
    return std::unexpected(sent.error());
  }
  bool whole = true;
  std::optional<Error> failed;
  for (bool done = false; !done;) {
    const Result<size_t> length = receive();
    if (!length) {
      return std::unexpected(length.error());
    }
    for_each_message(buffer_, *length, [&](const nlmsghdr& found) {
      if (found.nlmsg_seq != sequence_) {
        return true;
      }
      whole = whole && (found.nlmsg_flags & NLM_F_DUMP_INTR) == 0;
      if (found.nlmsg_type == NLMSG_ERROR) {
        failed = refusal_of(found, code_of(found));
      } else if (found.nlmsg_type == NLMSG_DONE &&
                 nlmsg_datalen(&found) >= static_cast<int>(sizeof(int))) {
        if (const int code = -*static_cast<const int*>(nlmsg_data(&found)); code > 0) {
          failed = Error{std::strerror(code), code};
        }
      } else if (found.nlmsg_type != NLMSG_DONE) {
        take(found);
        return true;
      }
      done = true;
      return false;
    });
  }
  if (failed) {
    return std::unexpected(std::move(*failed));
  }
  return whole;
}

// A datagram at a time: as many messages as it and `limit` allow.
Netlink::Batch Netlink::change_many(size_t count, const std::function<NetlinkMessage(size_t)>& make,
                                    bool (*harmless)(int code)) {
  Batch batch;
  std::vector<char> bytes;
  bytes.reserve(kBatchBytes + 2 * kAttributeBytesMax);
  for (size_t limit = count; batch.sent < count && !batch.refused;) {
    bytes.clear();
    size_t next = batch.sent, last_at = 0;
    for (; next < count && next - batch.sent < limit && bytes.size() < kBatchBytes; ++next) {
      const NetlinkMessage message = make(next);
      stamp(message);
      const auto* from = reinterpret_cast<const char*>(message.header());
      last_at = bytes.size();
      bytes.insert(bytes.end(), from, from + NLMSG_ALIGN(message.header()->nlmsg_len));
    }
    reinterpret_cast<nlmsghdr*>(bytes.data() + last_at)->nlmsg_flags |= NLM_F_ACK;
    const size_t amount = next - batch.sent;
    const Result<void> sent = send_bytes(bytes.data(), bytes.size());
    const Result<Heard> heard =
        sent ? hear(batch.sent, sequence_ - static_cast<uint32_t>(amount) + 1, sequence_, harmless,
                    batch.refused)
             : std::unexpected(sent.error());
    const bool lost = heard ? *heard == Heard::lost : heard.error().code == ENOBUFS;
    if (lost && amount > 1) {
      batch.refused.reset();  // it comes again
      limit = std::max<size_t>(1, amount / kShrink);
      continue;
    }
    if (lost || !heard) {
      batch.refused = Refusal{
          batch.sent, heard ? Error{"no room for the kernel's answer", ENOBUFS} : heard.error()};
    }
    batch.sent = next;
  }
  return batch;
}

}  // namespace sallyport
