#include "tun/tun_port.h"

#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "tun/vnet.h"

namespace sallyport {

TunPort::TunPort(int fd, std::string name, TunFeatures features, bool receives)
    : fd_(fd), name_(std::move(name)), features_(std::move(features)), receives_(receives) {}

TunPort::~TunPort() {
  close(fd_);
}

bool TunPort::takes(Gso kind) const {
  switch (kind) {
    case Gso::none:
      return true;
    case Gso::tcp4:
      return features_.tso4;
    case Gso::tcp6:
      return features_.tso6;
    case Gso::udp:
      return features_.uso;
  }
  return false;
}

size_t TunPort::rx(std::span<RxFrame> frames, BufferCache& cache) {
  const size_t before = features_.vnet_header ? kVnetHeaderBytes : 0;
  size_t count = 0;
  size_t gathered = 0;
  Buffer* buffer = nullptr;
  while (receives_ && count < frames.size() && gathered < kRxBytesMax) {
    if (buffer == nullptr && (buffer = cache.take()) == nullptr) {
      break;
    }
    const ssize_t got = read(fd_, buffer->data() - before, before + Buffer::kDataBytes);
    if (got < 0) {
      if (errno == EBADFD) {
        gone_.store(true, std::memory_order_relaxed);
      }
      break;
    }
    gathered += static_cast<size_t>(got);
    if (describe(buffer, static_cast<size_t>(got), frames[count])) {
      ++count;
      buffer = nullptr;
    } else {
      discarded_.store(discarded_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
  }
  if (buffer != nullptr) {
    cache.give(buffer);
  }
  return count;
}

// From what was read to a frame; false when it is no packet or its header makes no sense.
bool TunPort::describe(Buffer* buffer, size_t bytes, RxFrame& frame) const {
  frame = {};
  frame.buffer = buffer;
  frame.data = buffer->data();
  if (!features_.vnet_header) {
    frame.length = static_cast<uint32_t>(bytes);
    return bytes > 0 && bytes <= kIpPacketMax;
  }
  if (bytes <= kVnetHeaderBytes) {
    return false;
  }
  frame.length = static_cast<uint32_t>(bytes - kVnetHeaderBytes);
  VnetHeader header;
  std::memcpy(&header, frame.data - kVnetHeaderBytes, sizeof(header));
  return read_vnet(header, {frame.data, frame.length}, frame.offload);
}

void TunPort::tx(std::span<TxFrame> frames) {
  for (TxFrame& frame : frames) {
    frame.error = send(frame);
  }
}

int TunPort::send(const TxFrame& frame) {
  iovec parts[kFrameSlicesMax + 1];
  VnetHeader header;
  int count = 0;
  if (frame.slices.size() > kFrameSlicesMax) {
    return EMSGSIZE;
  }
  if (features_.vnet_header) {
    header = write_vnet(frame.offload);
    parts[count++] = {&header, sizeof(header)};
  } else if (frame.offload.needs_checksum && !complete_checksum(frame.slices, frame.offload)) {
    return EINVAL;
  }
  for (const Slice& slice : frame.slices) {
    parts[count++] = {slice.data, slice.length};
  }
  if (writev(fd_, parts, count) >= 0) {
    return 0;
  }
  const int error = errno;
  if (error == EBADFD) {
    gone_.store(true, std::memory_order_relaxed);
  }
  return error;
}

PortStatus TunPort::status() const {
  PortStatus status;
  status.driver = "tun";
  status.name = name_;
  status.discarded = discarded_.load(std::memory_order_relaxed);
  const auto add = [&status](const char* name, bool on, const std::string& reason) {
    status.offloads.push_back({name, on, on ? std::string() : reason});
  };
  const std::string refused =
      features_.vnet_header ? "the kernel refused TUNSETOFFLOAD" : features_.why_no_vnet_header;
  add("vnet_header", features_.vnet_header, features_.why_no_vnet_header);
  add("checksum", features_.checksum, refused);
  add("tso4", features_.tso4, refused);
  add("tso6", features_.tso6, refused);
  add("uso", features_.uso,
      features_.vnet_header ? features_.why_no_uso : features_.why_no_vnet_header);
  add("multi_queue", features_.multi_queue, features_.why_no_multi_queue);
  return status;
}

}  // namespace sallyport
