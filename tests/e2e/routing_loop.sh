#!/usr/bin/env bash
# A routing loop: once the session stands, the route to the peer's endpoint is turned into the tunnel, so
# every outer datagram comes back as an inner one, larger each time. It must die down, not grow.
#
#   left  wgl (ours) <-+  192.0.2.1 ------------- 192.0.2.2  wgr (theirs)  right
#          |           |
#          +- outer ---+
source "$(dirname "$0")/lib.sh"

pair ours theirs
wg set wgl peer "$(pub wgr)" allowed-ips 0.0.0.0/0,fd09::2/128
ping_ok left 10.9.0.2

tun_bytes() { on left cat /sys/class/net/wgl/statistics/tx_bytes; }
on left ip route add 192.0.2.2/32 dev wgl
before="$(transfer wgl "$(pub wgr)" tx)"
before_tun="$(tun_bytes)"
on left ping -n -q -c 10 -f -W 1 10.9.0.2 >/dev/null 2>&1 || true
quiet() {
  local first second
  first="$(tun_bytes)"
  sleep 0.5
  second="$(tun_bytes)"
  ((first == second))
}
wait_for "the loop to die down" 5 quiet
sent=$(($(transfer wgl "$(pub wgr)" tx) - before))
looped=$(($(tun_bytes) - before_tun))
tell "ten pings became ${sent} bytes sealed, ${looped} bytes through the TUN"
((sent <= 70000)) || fail "the loop feeds on itself: ${sent} bytes sealed for ten pings"

on left ip route delete 192.0.2.2/32 dev wgl
ping_back left 10.9.0.2 10
