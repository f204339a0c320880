#include "tun/memory_port.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace sallyport {

std::vector<MemoryPort::Bytes> MemoryPort::Frame::segments() const {
  if (segment_bytes == 0) {
    return {bytes};
  }
  std::vector<Bytes> out;
  for (size_t at = 0; at < bytes.size(); at += segment_bytes) {
    const size_t end = std::min(at + segment_bytes, bytes.size());
    out.emplace_back(bytes.begin() + static_cast<ptrdiff_t>(at),
                     bytes.begin() + static_cast<ptrdiff_t>(end));
  }
  return out;
}

MemoryPort::MemoryPort(std::string name, Events events) : name_(std::move(name)) {
  if (events == Events::eventfd) {
    event_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  }
}

MemoryPort::~MemoryPort() {
  if (event_ >= 0) {
    close(event_);
  }
}

size_t MemoryPort::rx(std::span<RxFrame> frames, BufferCache& cache) {
  const std::lock_guard lock(mutex_);
  size_t count = 0;
  while (count < frames.size() && !in_.empty() && !gone_) {
    Buffer* buffer = cache.take();
    if (buffer == nullptr) {
      break;
    }
    const Frame& from = in_.front();
    RxFrame& frame = frames[count++];
    frame = {};
    frame.buffer = buffer;
    frame.data = buffer->data();
    frame.length = static_cast<uint32_t>(from.bytes.size());
    std::memcpy(frame.data, from.bytes.data(), from.bytes.size());
    frame.segment_bytes = from.segment_bytes == 0 ? frame.length : from.segment_bytes;
    frame.offload = from.offload;
    frame.from = from.endpoint;
    frame.tos = from.tos;
    in_.pop_front();
  }
  if (in_.empty()) {
    set_event(false);
  }
  return count;
}

void MemoryPort::tx(std::span<TxFrame> frames) {
  const std::lock_guard lock(mutex_);
  for (TxFrame& frame : frames) {
    frame.source_refused = false;
    frame.error = accept(frame);
  }
}

int MemoryPort::accept(TxFrame& frame) {
  if (gone_) {
    return EBADFD;
  }
  if (failures_ > 0) {
    --failures_;
    return failure_;
  }
  if (out_.size() >= kQueueMax) {
    return ENOBUFS;
  }
  Frame out;
  out.bytes.reserve(frame.length);
  for (const Slice& slice : frame.slices) {
    out.bytes.insert(out.bytes.end(), slice.data, slice.data + slice.length);
  }
  out.segment_bytes = frame.segment_bytes;
  out.offload = frame.offload;
  out.tos = frame.tos;
  if (frame.to != nullptr) {
    out.endpoint = *frame.to;
    if (refuse_sources_ && out.endpoint.local.is_set()) {
      out.endpoint.local = {};
      frame.source_refused = true;
    }
  }
  out_.push_back(std::move(out));
  return 0;
}

bool MemoryPort::gone() const {
  const std::lock_guard lock(mutex_);
  return gone_;
}

bool MemoryPort::takes(Gso kind) const {
  const std::lock_guard lock(mutex_);
  return takes_[static_cast<size_t>(kind)];
}

PortStatus MemoryPort::status() const {
  PortStatus status;
  status.driver = "memory";
  status.name = name_;
  constexpr const char* kNames[] = {"", "tso4", "tso6", "uso"};
  for (const Gso kind : {Gso::tcp4, Gso::tcp6, Gso::udp}) {
    const bool on = takes(kind);
    status.offloads.push_back({kNames[static_cast<size_t>(kind)], on, on ? "" : "not asked for"});
  }
  return status;
}

bool MemoryPort::inject(Frame frame) {
  if (frame.bytes.empty() || frame.bytes.size() > Buffer::kDataBytes) {
    return false;
  }
  const std::lock_guard lock(mutex_);
  if (in_.size() >= kQueueMax) {
    return false;
  }
  in_.push_back(std::move(frame));
  if (in_.size() == 1) {
    set_event(true);
  }
  return true;
}

bool MemoryPort::inject(Bytes packet) {
  Frame frame;
  frame.bytes = std::move(packet);
  return inject(std::move(frame));
}

bool MemoryPort::inject(Bytes datagram, const Endpoint& from, uint8_t tos) {
  return inject_train(std::move(datagram), 0, from, tos);
}

bool MemoryPort::inject_train(Bytes train, uint32_t segment_bytes, const Endpoint& from,
                              uint8_t tos) {
  Frame frame;
  frame.bytes = std::move(train);
  frame.segment_bytes = segment_bytes;
  frame.endpoint = from;
  frame.tos = tos;
  return inject(std::move(frame));
}

std::vector<MemoryPort::Frame> MemoryPort::sent() {
  const std::lock_guard lock(mutex_);
  return std::exchange(out_, {});
}

size_t MemoryPort::sent_count() const {
  const std::lock_guard lock(mutex_);
  return out_.size();
}

size_t MemoryPort::waiting() const {
  const std::lock_guard lock(mutex_);
  return in_.size();
}

void MemoryPort::set_takes(Gso kind, bool yes) {
  const std::lock_guard lock(mutex_);
  takes_[static_cast<size_t>(kind)] = yes;
}

void MemoryPort::fail_next(size_t count, int error) {
  const std::lock_guard lock(mutex_);
  failures_ = count;
  failure_ = error;
}

void MemoryPort::refuse_sources(bool yes) {
  const std::lock_guard lock(mutex_);
  refuse_sources_ = yes;
}

void MemoryPort::set_gone() {
  const std::lock_guard lock(mutex_);
  gone_ = true;
  set_event(true);
}

// Sets or clears the descriptor; the counter's value does not matter.
void MemoryPort::set_event(bool readable) {
  if (event_ < 0) {
    return;
  }
  uint64_t count = 1;
  const ssize_t done =
      readable ? write(event_, &count, sizeof(count)) : read(event_, &count, sizeof(count));
  static_cast<void>(done);  // EAGAIN: it was in that state already
}

}  // namespace sallyport
