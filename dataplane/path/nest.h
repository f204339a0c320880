// nest: tunnels whose outer datagrams are packets of another tunnel (`via`), to any depth, in one loop.
//
//     wg1 via wg0:   packet -> seal in wg1 -> [IP UDP | datagrams] -> advance in wg0 -> seal -> socket
//                    socket -> open in wg0 -> unwrap: for wg1's port -> open in wg1 -> advance
//
// A train that seal made for wg1 becomes one run of wg0, as if the host had sent it there: a head of our own, the train as its piece, to be
// cut again by wg0's seal. So trains stay trains, and nothing is copied but heads. What comes out of wg0 for the address of wg0
// and the port of wg1 never gets to the rules; it goes through ingress, open and advance as from a socket.
//
// Each layer works in a Context of its own (Context::deeper), since the one above is in the middle of its burst. Beyond the last
// of them a packet is dropped (nested_too_deep).
//
// Checksums: UDP's is left out on IPv4 (RFC 768), where the datagram is authenticated twice anyway; on IPv6 it is there.
// What is sent to an inner tunnel in fragments is not put together: outer tunnels carry their own MTU, and path_mtu is learned instead.
// Thread rules: on the thread of the context, an RCU reader.
#pragma once

#include <span>

#include "dataplane/path/context.h"

namespace sallyport {

// IP and UDP headers of a datagram of `payload` bytes; returns their length. The UDP checksum is left zero.
inline constexpr uint32_t kOuterHeadBytesMax = 48;
uint32_t write_outer_head(uint8_t* out, const IpAddress& source, uint16_t source_port,
                          const Endpoint& to, uint8_t tos, uint32_t payload);

// Frames of the outer side of the tunnel that was entered, to the end of the line.
void receive(Context& context, std::span<const RxFrame> frames);

// Sends the context's trains, all of one tunnel, into the tunnel that it goes through. Frames get their errors.
void send_through(Context& context, std::span<TxFrame> frames);

// Takes out of the burst what is for a tunnel within this one, and carries it to its end.
void unwrap(Context& context);

}  // namespace sallyport
