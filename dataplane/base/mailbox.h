// Mailbox: how one thread leaves another a note. Many senders, one receiver, bounded, no lock (Boost.Lockfree).
//
// A full mailbox refuses; the sender decides what that means (a counted drop, or a scan by the receiver). The bell is an
// eventfd, rung only while the receiver sleeps, so a busy receiver costs its senders no system call.
#pragma once

#include <atomic>
#include <boost/lockfree/queue.hpp>
#include <cstdint>

namespace sallyport {

struct Buffer;

struct Message {
  enum class Kind : uint16_t {
    datagrams,  // buffer: an RxFrame stands at its front (path/ingress.h); the receiver owns it now
    flush_staged,  // peer: its session is confirmed, send what waits
    keepalive,     // peer: send what waits, or an empty packet
    request,       // peer: it has PeerRequest bits raised
    packet,        // peer, buffer as for datagrams: a plain packet of ours for that peer
    from_host,     // buffer as for datagrams: a plain packet as if the host sent it into the tunnel
  };
  Kind kind = Kind::request;
  uint16_t tunnel = 0;
  // A slot: may have been given to another peer meanwhile, to whom the note then does no harm.
  uint32_t peer = 0;
  Buffer* buffer = nullptr;
};

class Mailbox {
 public:
  static constexpr size_t kMessages = 4096;

  Mailbox();
  ~Mailbox();
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  bool post(const Message& message);
  bool take(Message& message) { return messages_.pop(message); }
  bool empty() const { return messages_.empty(); }

  // The receiver says so before it sleeps, then looks once more at everything it waits for.
  void going_to_sleep();
  void awake() { asleep_.store(false, std::memory_order_relaxed); }
  void quiet();  // the bell was heard
  void ring();   // wakes the receiver if it sleeps
  bool asleep() const { return asleep_.load(std::memory_order_relaxed); }
  int bell() const { return bell_; }

 private:
  boost::lockfree::queue<Message, boost::lockfree::capacity<kMessages>> messages_;
  std::atomic<bool> asleep_{false};
  int bell_;
};

}  // namespace sallyport
