#!/usr/bin/env bash
# iperf3 against wireguard-go: TCP with four streams each way, and UDP, which must arrive nearly whole
# at a rate both ends can carry.
#
#   left  wgl (ours)  192.0.2.1 ------------- 192.0.2.2  wgr (theirs)  right
source "$(dirname "$0")/lib.sh"

pair ours theirs
listen_iperf right
forth="$(iperf_bps left 10.9.0.2 -t 3 -P 4)"
tell "TCP, four streams, to wireguard-go: $((forth / 1000000)) Mbit/s"
back="$(iperf_bps left 10.9.0.2 -t 3 -P 4 -R)"
tell "TCP, four streams, from wireguard-go: $((back / 1000000)) Mbit/s"
((forth > 20000000 && back > 20000000)) || fail "TCP hardly moves"

for direction in "" -R; do
  # shellcheck disable=SC2086
  iperf_bps left fd09::2 -u -b 20M -l 1300 -t 2 ${direction} >/dev/null
  lost="$(jq -r '.end.sum.lost_percent | floor' "${T}/iperf.json")"
  tell "UDP at 20 Mbit/s ${direction:-forth}: ${lost} % lost"
  ((lost < 5)) || fail "${lost} % of a slow UDP stream is lost"
done
