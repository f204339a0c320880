#!/usr/bin/env bash
# A preshared key works when both ends have it and keeps the tunnel shut when they differ.
#
#   left  wgl (ours)  192.0.2.1 ------------- 192.0.2.2  wgr (theirs)  right
source "$(dirname "$0")/lib.sh"

wg genpsk >"${T}/psk"
wg genpsk >"${T}/other-psk"

pair ours theirs
wg set wgl peer "$(pub wgr)" preshared-key "${T}/psk"
wg set wgr peer "$(pub wgl)" preshared-key "${T}/other-psk"
ping_dead left 10.9.0.2
ping_dead right 10.9.0.1
equal "handshakes with different keys" "$(handshake_time wgl "$(pub wgr)")" 0

wg set wgr peer "$(pub wgl)" preshared-key "${T}/psk"
ping_back left 10.9.0.2 15
ping_ok right 10.9.0.1
equal "the preshared key shown" "$(wg show wgl preshared-keys | cut -f2)" "$(cat "${T}/psk")"

# The handshake now is younger than the key, so it was made with it; taking it away shows as none.
wg set wgl peer "$(pub wgr)" preshared-key /dev/null
equal "no preshared key shown" "$(wg show wgl preshared-keys | cut -f2)" "(none)"
