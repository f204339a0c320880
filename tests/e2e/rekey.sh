#!/usr/bin/env bash
# slow: a session is replaced after 120 seconds, without losing a ping, whichever end began it.
#
#   left  wgl (ours)  192.0.2.1 ------------- 192.0.2.2  wgr (theirs)  right
source "$(dirname "$0")/lib.sh"

pair ours theirs
ping_ok left 10.9.0.2
first="$(handshake_time wgl "$(pub wgr)")"
ping_ok left 10.9.0.2 1400
second="$(handshake_time wgl "$(pub wgr)")"
tell "the first session stood for $((second - first)) s"
((second - first >= 119 && second - first <= 126)) || fail "rekey after $((second - first)) s"
