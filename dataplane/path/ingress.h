// ingress: frames become work.
//
// From the plain side, each frame is one run. From the outer side, each frame is a train that falls apart into data
// datagrams of ours (to `open`), those of another worker (to its mailbox) and handshake messages (to the handshaker's).
#pragma once

#include "dataplane/path/context.h"

namespace sallyport {

// Appends a run for each frame that holds an IP packet.
void ingress_plain(Context& context, std::span<const RxFrame> frames);

// Where in a frame ingress_outer stopped: a train may be longer than a burst.
struct OuterCursor {
  size_t frame = 0;
  uint32_t offset = 0;
};

// Fills context.datagrams from `frames`, beginning at the cursor, and moves it. True while there is more.
bool ingress_outer(Context& context, std::span<const RxFrame> frames, OuterCursor& cursor);

// A datagram, or several of one stride, travel by mailbox in a buffer of their own with an RxFrame in its headroom.
RxFrame* boxed_frame(Buffer* buffer);
bool post_datagrams(Context& context, Mailbox& mailbox, const RxFrame& frame, uint32_t offset,
                    uint32_t length);

}  // namespace sallyport
