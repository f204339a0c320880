#!/usr/bin/env bash
# ECN by RFC 6040: the inner bits show outside, a mark set on the way shows inside; the DSCP stays inside
# except that handshakes carry 0x88. IPv4 and IPv6 inside and outside.
#
#   left  wgl (ours)  192.0.2.1 ------------- 192.0.2.2  wgr (theirs, or ours where it must open)  right
source "$(dirname "$0")/lib.sh"

# seen REGEX: some packet was captured that matches.
seen() { grep -Eq "$1" "${T}/wire"; }

pair ours ours
for outer in 4 6; do
  OUTER="${outer}" introduce
  capture right eth0 "${T}/wire" "udp port 51820 and (src host 192.0.2.1 or src host 2001:db8::1)"
  tos="tos 0x" class="class 0x"
  [[ "${outer}" == 4 ]] && mark="${tos}" || mark="${class}"
  wg set wgl peer "$(pub wgr)" remove
  OUTER="${outer}" introduce
  ping_back left 10.9.0.2 10
  wait_for "a handshake with DSCP 0x88, outer v${outer}" 3 seen "${mark}88"
  for ecn in 1 2 3; do
    ping_ok left 10.9.0.2 2 -Q "0x$(printf '%x' $((0xb8 + ecn)))"
    wait_for "inner v4 ECN ${ecn} on outer v${outer}, without the DSCP" 3 seen "${mark}0?${ecn}[ ,]"
    : >"${T}/wire"
    ping_ok left fd09::2 2 -Q "0x$(printf '%x' $((0xb8 + ecn)))"
    wait_for "inner v6 ECN ${ecn} on outer v${outer}, without the DSCP" 3 seen "${mark}0?${ecn}[ ,]"
    : >"${T}/wire"
  done
  ! seen "${mark}b" || fail "the inner DSCP shows outside"
  end_capture
done

tell "a mark set on the way"
OUTER=4 introduce
ping_ok left 10.9.0.2
on left nft 'add table inet way; add chain inet way out { type filter hook output priority 0; }'
on left nft 'add rule inet way out udp sport 51820 ip ecn set ce'
capture right wgr "${T}/wire" "icmp or icmp6"
ping_ok left 10.9.0.2 2 -Q 2
wait_for "an inner v4 packet marked CE" 3 seen 'tos 0x3'
ping_ok left fd09::2 2 -Q 2
wait_for "an inner v6 packet marked CE" 3 seen 'class 0x03|class 0x3'
