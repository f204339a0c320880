#!/usr/bin/env bash
# A persistent keepalive keeps an idle tunnel talking once a second, with empty data packets of 32 bytes,
# and begins the handshake by itself; switched off, the line falls silent.
#
#   left  wgl (ours)  192.0.2.1 ------------- 192.0.2.2  wgr (theirs)  right
source "$(dirname "$0")/lib.sh"

ONLY=left pair ours theirs
capture right eth0 "${T}/wire" "dst host 192.0.2.2 and udp port 51820 and udp[4:2] = 40 and udp[8] = 4"
keepalives() { grep -c 'UDP, length 32' "${T}/wire" || true; }
at_least() { (($(keepalives) >= $1)); }

wg set wgl peer "$(pub wgr)" persistent-keepalive 1
wait_for "three keepalives" 6 at_least 3
matches "the handshake it began" "$(handshake_time wgr "$(pub wgl)")" '^[1-9]'
equal "what show says" "$(wg show wgl persistent-keepalive | cut -f2)" 1

wg set wgl peer "$(pub wgr)" persistent-keepalive off
sleep 1.2
before="$(keepalives)"
sleep 2.5
equal "keepalives after switching off" "$(keepalives)" "${before}"
