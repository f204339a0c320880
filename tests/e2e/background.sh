#!/usr/bin/env bash
# Into the background: who starts it may go on at once, and nothing of the starter's is held on to; a
# start that fails says why and leaves nothing; one tunnel down and up again at once works.
#
#   one host, no traffic
source "$(dirname "$0")/lib.sh"

host left
start() { on left "${SALLYPORT}" wgb; }
stop_it() {
  on left ip link delete wgb
  wait_for "the socket to go" 5 test ! -e /run/wireguard/wgb.sock
}

tell "ready when the command returns"
start || fail "does not start in the background"
require "the TUN is there" on left ip link show wgb
require "the socket answers" uapi_answers wgb
stop_it

tell "no descriptor of the starter's stays open"
output="$(timeout 10 bash -c 'exec 7>&1; exec ip netns exec left "$0" wgb' "${SALLYPORT}")" ||
  fail "a pipe of the starter's is still open: ${output}"
flock "${T}/lock" ip netns exec left "${SALLYPORT}" wgc
require "the starter's lock is free again" flock --nonblock "${T}/lock" true
on left ip link delete wgc
stop_it

tell "deleted and started again at once, ten times"
start
for _ in {1..10}; do
  on left ip link delete wgb
  start || fail "does not start while the one before is ending"
done
stop_it

tell "a start that fails is said so, and leaves nothing"
WG_THREADS=0 start 2>"${T}/wrong.log" && fail "WG_THREADS=0 is accepted"
matches "the reason" "$(cat "${T}/wrong.log")" 'WG_THREADS'
equal "sockets left behind" "$(ls /run/wireguard)" ""
equal "links left behind" "$(on left ip -o link | grep -vc ' lo:' || true)" 0
