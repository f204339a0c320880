#!/usr/bin/env bash
# Sallyport at both ends: ping in both families, TCP both ways, counters that agree.
#
#   left  wgl (ours)  192.0.2.1 ------------- 192.0.2.2  wgr (ours)  right
source "$(dirname "$0")/lib.sh"

pair ours ours
ping_ok left 10.9.0.2
ping_ok right fd09::1
ping_ok left 10.9.0.2 200 -i 0.01 -s 1000

agree() {
  [[ "$(transfer wgl "$(pub wgr)" tx)" == "$(transfer wgr "$(pub wgl)" rx)" ]] &&
    [[ "$(transfer wgl "$(pub wgr)" rx)" == "$(transfer wgr "$(pub wgl)" tx)" ]]
}
wait_for "the counters of both ends to agree" 5 agree

listen_iperf right
forth="$(iperf_bps left 10.9.0.2 -t 2 -P 2)"
back="$(iperf_bps left fd09::2 -t 2 -R)"
tell "$((forth / 1000000)) Mbit/s forth, $((back / 1000000)) Mbit/s back over IPv6"
((forth > 20000000 && back > 20000000)) || fail "TCP hardly moves"
