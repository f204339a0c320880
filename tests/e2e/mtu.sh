#!/usr/bin/env bash
# At MTU 1280, 1420 and 9000, packets of exactly the MTU pass unfragmented in both families, one byte
# more is refused by the host, and TCP runs. The MTU is changed on the living tunnel.
#
#   left  wgl (ours) ------- wire of 9100, then each MTU + 80 ------- wgr (theirs)  right
source "$(dirname "$0")/lib.sh"

WIRE_MTU=9100 pair ours theirs
listen_iperf right
for mtu in 1280 1420 9000; do
  for iface in eth0 "wg"; do
    [[ "${iface}" == eth0 ]] && size=$((mtu + 80)) left="eth0" right="eth0"
    [[ "${iface}" == wg ]] && size="${mtu}" left="wgl" right="wgr"
    on left ip link set "${left}" mtu "${size}"
    on right ip link set "${right}" mtu "${size}"
  done
  ping_ok left 10.9.0.2 3 -M 'do' -s $((mtu - 28))
  ping_ok right 10.9.0.1 3 -M 'do' -s $((mtu - 28))
  ping_ok left fd09::2 3 -M 'do' -s $((mtu - 48))
  ! on left ping -c 1 -W 1 -M 'do' -s $((mtu - 27)) 10.9.0.2 >/dev/null 2>&1 ||
    fail "a packet of $((mtu + 1)) bytes passed an MTU of ${mtu}"
  bps="$(iperf_bps left 10.9.0.2 -t 1)"
  tell "MTU ${mtu}: $((bps / 1000000)) Mbit/s"
  ((bps > 10000000)) || fail "TCP hardly moves at MTU ${mtu}: ${bps} bit/s"
done
