#!/usr/bin/env bash
# `wg syncconf` many times while TCP runs and a ping ticks: neither stalls. (Some pings may
# be lost to the queue of TCP at the other end; what we lose has a name, and is counted.)
#
#   left  wgl (ours)  192.0.2.1 ------------- 192.0.2.2  wgr (theirs)  right
source "$(dirname "$0")/lib.sh"

pair ours theirs
ping_ok left 10.9.0.2
listen_iperf right

wg showconf wgl >"${T}/one.conf"
{ cat "${T}/one.conf"; for ((i = 1; i <= 20; i++)); do
  printf '\n[Peer]\nPublicKey = %s\nAllowedIPs = 10.%d.0.0/16\nEndpoint = 192.0.2.2:%d\n' "$(pub "p${i}")" $((50 + i)) "${i}"
done; } >"${T}/many.conf"

ip netns exec left iperf3 -J -c 10.9.0.2 -p 5201 -t 6 -b 30M -i 0.5 >"${T}/iperf.json" &
iperf=$!
ip netns exec left ping -n -q -c 100 -i 0.05 -W 3 fd09::2 >"${T}/ping.log" &
ping=$!
rounds=0
while alive "${iperf}"; do
  wg syncconf wgl "${T}/many.conf"
  wg syncconf wgl "${T}/one.conf"
  rounds=$((rounds + 1))
done
wait "${iperf}" || fail "iperf3: $(jq -r .error "${T}/iperf.json")"
wait "${ping}" || fail "ping gives up: $(tail -n 2 "${T}/ping.log")"
tell "${rounds} times to 21 peers and back"
lost="$(sed -n 's/.* \([0-9]*\)% packet loss.*/\1/p' "${T}/ping.log")"
# What stays configured is never gone in between. (A packet or two of IPv6's own chatter has no peer.)
drops="$("${SALLYPORT}" status wgl --json | jq -c '.totals.drops')"
tell "losses by name: ${drops}"
equal "packets lost to the changes" "$(jq '.source_not_allowed // 0' <<<"${drops}")" 0
(($(jq '.no_peer // 0' <<<"${drops}") <= 5)) || fail "the peer was gone in between: ${drops}"
((lost <= 10)) || fail "${lost} of 100 pings lost meanwhile"
slowest="$(jq '[.intervals[].sum.bits_per_second] | min | floor' "${T}/iperf.json")"
tell "the slowest half second moved $((slowest / 1000000)) Mbit/s of 30"
((slowest > 3000000 / E2E_SLOWNESS)) || fail "TCP stalls while the configuration changes"
equal "peers in the end" "$(wg show wgl peers)" "$(pub wgr)"
