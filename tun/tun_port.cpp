#include "tun/tun_port.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace sallyport {

TunPort::TunPort(int fd, std::string name, TunFeatures features, bool receives, TunCalls calls)
    : fd_(fd), name_(std::move(name)), features_(std::move(features)), receives_(receives) {
  if (calls == TunCalls::single) {
    why_no_ring_ = "not asked for";
    return;
  }
  Result<std::unique_ptr<Uring>> ring = Uring::open(fd);
  if (ring) {
    ring_ = std::move(*ring);
  } else {
    why_no_ring_text_ = ring.error().text;
    why_no_ring_ = why_no_ring_text_.c_str();
  }
}

TunPort::~TunPort() {
  ring_.reset();
  close(fd_);
}

// Beyond this the port makes its calls one by one; what was not sent or read is tried again so.
void TunPort::give_up_batches() {
  ring_.reset();
  why_no_ring_.store("the kernel stopped taking calls", std::memory_order_relaxed);
}

void TunPort::note(int error) {
  if (error == EBADFD) {
    gone_.store(true, std::memory_order_relaxed);
  }
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

// As many as were there the last time and one more, or twice as many when all of them found something.
size_t TunPort::reads_at_once(size_t room, size_t gathered) const {
  const size_t by_bytes = 1 + (kRxBytesMax - gathered) / last_bytes_;
  return std::min({room, wanted_, by_bytes, kReadsMax});
}

// One read into each buffer; the outcome of each: bytes, or -errno. Returns how many were made: after the first that finds
// nothing there need be no more.
size_t TunPort::read_all(std::span<Buffer* const> buffers, int* outcomes) {
  const size_t before = features_.vnet_header ? kVnetHeaderBytes : 0;
  if (ring_ != nullptr && buffers.size() > 1) {
    for (Buffer* buffer : buffers) {
      ring_->read(buffer->data() - before, before + Buffer::kDataBytes);
    }
    const std::span<const int> done = ring_->run();
    if (!done.empty()) {
      std::copy(done.begin(), done.end(), outcomes);
      return done.size();
    }
    give_up_batches();
  }
  for (size_t i = 0; i < buffers.size(); ++i) {
    const ssize_t got = read(fd_, buffers[i]->data() - before, before + Buffer::kDataBytes);
    outcomes[i] = got >= 0 ? static_cast<int>(got) : -errno;
    if (got < 0) {
      return i + 1;
    }
  }
  return buffers.size();
}

size_t TunPort::rx(std::span<RxFrame> frames, BufferCache& cache) {
  size_t count = 0;
  size_t gathered = 0;
  bool more = receives_;
  while (more && count < frames.size() && gathered < kRxBytesMax) {
    Buffer* buffers[kReadsMax];
    int outcomes[kReadsMax];
    const size_t wanted = reads_at_once(frames.size() - count, gathered);
    size_t ready = 0;
    while (ready < wanted && (buffers[ready] = cache.take()) != nullptr) {
      ++ready;
    }
    const size_t made = read_all({buffers, ready}, outcomes);
    size_t found = 0;
    for (size_t i = 0; i < made; ++i) {
      if (outcomes[i] < 0) {  // a later one may have found what came in between
        note(-outcomes[i]);
        continue;
      }
      ++found;
      last_bytes_ = std::max<size_t>(1, static_cast<size_t>(outcomes[i]));
      gathered += last_bytes_;
      if (describe(buffers[i], static_cast<size_t>(outcomes[i]), frames[count])) {
        ++count;
        buffers[i] = nullptr;
      } else {
        discarded_.store(discarded_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      }
    }
    for (size_t i = ready; i > 0; --i) {
      if (buffers[i - 1] != nullptr) {
        cache.give(buffers[i - 1]);
      }
    }
    more = ready > 0 && found == ready;
    wanted_ = std::min(more ? 2 * wanted_ : std::max<size_t>(found + 1, 2), kReadsMax);
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

// Fills `parts`, whose first points to room for a part more than the frame has slices; 0, or an errno.
int TunPort::split(const TxFrame& frame, Parts& parts) const {
  if (frame.slices.size() > kFrameSlicesMax) {
    return EMSGSIZE;
  }
  parts.count = 0;
  if (features_.vnet_header) {
    parts.header = write_vnet(frame.offload);
    parts.first[parts.count++] = {&parts.header, sizeof(parts.header)};
  } else if (frame.offload.needs_checksum && !complete_checksum(frame.slices, frame.offload)) {
    return EINVAL;
  }
  for (const Slice& slice : frame.slices) {
    parts.first[parts.count++] = {slice.data, slice.length};
  }
  return 0;
}

int TunPort::send(const TxFrame& frame) {
  Parts parts;
  parts.first = parts_;
  if (const int error = split(frame, parts); error != 0) {
    return error;
  }
  if (writev(fd_, parts.first, static_cast<int>(parts.count)) >= 0) {
    return 0;
  }
  const int error = errno;
  note(error);
  return error;
}

// As many frames as there is room for parts go in one batch.
void TunPort::send_batch(std::span<TxFrame> frames) {
  Parts parts[Uring::kCallsMax];
  TxFrame* queued[Uring::kCallsMax];
  size_t count = 0;
  for (TxFrame& frame : frames) {
    parts[count].first = count == 0 ? parts_ : parts[count - 1].first + parts[count - 1].count;
    frame.error = split(frame, parts[count]);
    if (frame.error == 0) {
      ring_->write(parts[count].first, parts[count].count);
      queued[count++] = &frame;
    }
  }
  if (count == 0) {
    return;
  }
  const std::span<const int> done = ring_->run();
  if (done.empty()) {
    give_up_batches();
    for (size_t i = 0; i < count; ++i) {
      queued[i]->error = EIO;  // it may have gone out, or not: better lost than twice
    }
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    queued[i]->error = done[i] < 0 ? -done[i] : 0;
    note(queued[i]->error);
  }
}

void TunPort::tx(std::span<TxFrame> frames) {
  for (size_t first = 0; first < frames.size();) {
    size_t end = first;
    size_t used = 0;
    while (end < frames.size() && end - first < Uring::kCallsMax &&
           used + frames[end].slices.size() < kPartsMax) {
      used += frames[end].slices.size() + 1;
      ++end;
    }
    if (ring_ != nullptr && end - first > 1) {
      send_batch(frames.subspan(first, end - first));
      first = end;
    } else {
      frames[first].error = send(frames[first]);
      ++first;
    }
  }
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
  const char* why_no_ring = why_no_ring_.load(std::memory_order_relaxed);
  add("io_uring", why_no_ring == nullptr, why_no_ring == nullptr ? "" : why_no_ring);
  add("multi_queue", features_.multi_queue, features_.why_no_multi_queue);
  return status;
}

}  // namespace sallyport
