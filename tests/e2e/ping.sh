#!/usr/bin/env bash
# One ping each way between Sallyport and wireguard-go, with IPv4 and IPv6 inside and outside.
#
#   left   wgl (ours)   10.9.0.1  fd09::1        right  wgr (theirs)  10.9.0.2  fd09::2
#          192.0.2.1  2001:db8::1 --------------------- 192.0.2.2  2001:db8::2
source "$(dirname "$0")/lib.sh"

pair ours theirs
ping_ok left 10.9.0.2
ping_ok left fd09::2
ping_ok right 10.9.0.1
ping_ok right fd09::1

tell "over IPv6 outside"
OUTER=6 introduce
ping_ok left 10.9.0.2
ping_ok left fd09::2
ping_ok right fd09::1
matches "the endpoint" "$(wg show wgl endpoints)" '\[2001:db8::2\]:51820'
