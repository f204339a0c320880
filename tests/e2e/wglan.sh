#!/usr/bin/env bash
# docs/examples/wglan.toml: a set of destinations, v4 and v6, goes into WireGuard to two peers; one peer's endpoint is a member.
# Everything that the tunnel should carry has a decoy in the net that answers in its place when the packet goes the plain way.
#
#   client ------------- host (sallyport run)        net  (decoys of 10.1 10.2 10.5 fd01:: fd02::; 203.0.113.99)
#   10.7.0.2  10.7.0.1   wglan 10.9.0.1 fd09::1       |
#   fd07::2    fd07::1   eth0  192.0.2.1 --- 192.0.2.2 +-- 2001:db8:a::1 --- ::7           alpha  wga (ours)
#                        2001:db8::1 ---- 2001:db8::2  |                     10.1.0.1 10.1.9.1 10.5.0.1 fd01::1
#                                                      +-- 198.51.100.1 --- 198.51.100.7   beta   wgb (theirs)
#                                                                            10.2.0.1 fd02::1
source "$(dirname "$0")/lib.sh"

host client host net alpha beta
wire client eth0 host lan0
wire host eth0 net host0
wire alpha eth0 net alpha0
wire beta eth0 net beta0
address client eth0 10.7.0.2/24 fd07::2/64
address host lan0 10.7.0.1/24 fd07::1/64
address host eth0 192.0.2.1/24 2001:db8::1/64
address net host0 192.0.2.2/24 2001:db8::2/64
address net alpha0 203.0.113.1/24 2001:db8:a::1/64
address net beta0 198.51.100.1/24
address alpha eth0 203.0.113.7/24 2001:db8:a::7/64
address beta eth0 198.51.100.7/24
address net lo 10.1.0.1/32 10.1.9.1/32 10.2.0.1/32 10.5.0.1/32 203.0.113.99/32 fd01::1/128 fd02::1/128 fd05::1/128
address alpha lo 10.1.0.1/32 10.1.9.1/32 10.5.0.1/32 fd01::1/128
address beta lo 10.2.0.1/32 fd02::1/128
for name in host net; do
  on "${name}" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
done
on client ip route add default via 10.7.0.1
on client ip -6 route add default via fd07::1
on net ip route add 10.7.0.0/24 via 192.0.2.1
on net ip -6 route add fd07::/64 via 2001:db8::1
on alpha ip -6 route add default via 2001:db8:a::1
on beta ip route add default via 198.51.100.1

tunnel alpha wga ours 10.9.0.2/24 fd09::2/64
tunnel beta wgb theirs 10.9.0.3/24 fd09::3/64
for each in "alpha wga" "beta wgb"; do
  read -r name iface <<<"${each}"
  wg set "${iface}" peer "$(pub wglan)" allowed-ips 10.9.0.1/32,fd09::1/128,10.7.0.0/24,fd07::/64
  on "${name}" ip route add 10.7.0.0/24 dev "${iface}"
  on "${name}" ip -6 route add fd07::/64 dev "${iface}"
done
for name in net alpha beta; do
  tell_who "${name}"
done

tell "the host has routes and rules of its own, one of them in table 180"
on host ip route add default via 192.0.2.2
on host ip -6 route add default via 2001:db8::2
on host ip route add 10.66.0.0/16 via 192.0.2.2 table 66
on host ip route add 10.88.0.0/16 via 192.0.2.2 table 180 proto static
on host ip -6 route add fd88::/32 via 2001:db8::2 table 180
on host ip rule add from 10.66.0.0/16 lookup 66 pref 100
on host ip rule add fwmark 0x1234/0xffff lookup 66 pref 5180
on host ip -6 rule add from fd66::/16 lookup 66 pref 7000
host_state host >"${T}/before"

sed -e "0,/public_key = .*/s||public_key = \"$(pub wga)\"|" "${REPO}/docs/examples/wglan.toml" |
  sed -e "/name = \"beta\"/,\$s|public_key = .*|public_key = \"$(pub wgb)\"|" >"${T}/wglan.toml"
cp "${REPO}/docs/examples/sites.txt" "${T}/sites.txt"
key wglan >/dev/null
gateway host "${T}/wglan.toml"
matches "the mark" "$(wg show wglan fwmark)" 0x51820
matches "the rule" "$(on host ip rule)" '5180:[[:space:]]not from all fwmark 0x51820 lookup 180'
matches "the v6 rule" "$(on host ip -6 rule)" '5180:[[:space:]]not from all fwmark 0x51820 lookup 180'
matches "the table" "$(on host ip route show table 180 type throw)" '10.1.9.0/24'

tell "members go through their peer, from the host and from behind it; a hole and everything else by the host's own routes"
everything_right() {
  local from
  for from in host client; do
    equal "10.1.0.1 from ${from}" "$(who "${from}" 10.1.0.1)" alpha
    equal "fd01::1 from ${from}" "$(who "${from}" fd01::1)" alpha
    equal "10.2.0.1 from ${from}" "$(who "${from}" 10.2.0.1)" beta
    equal "fd02::1 from ${from}" "$(who "${from}" fd02::1)" beta
    equal "the hole from ${from}" "$(who "${from}" 10.1.9.1)" net
    equal "203.0.113.99 from ${from}" "$(who "${from}" 203.0.113.99)" net
    equal "fd05::1 from ${from}" "$(who "${from}" fd05::1)" net
  done
}
ping_back host 10.1.0.1 10
ping_back host 10.2.0.1 10
everything_right

tell "tcpdump on each hop: nothing in clear outside, the endpoint's own datagrams not inside"
members="(net 10.0.0.0/8 and not net 10.1.9.0/24 and not src net 10.7.0.0/24) or ip6 net fd01::/32 or ip6 net fd02::/32"
capture host eth0 "${T}/clear" "(${members}) or (host 198.51.100.7 and not udp port 51820)"
clear=${capture_pid}
capture host wglan "${T}/looped" "udp port 51820"
looped=${capture_pid}
capture host wglan "${T}/inside" "icmp or icmp6"
inside=${capture_pid}
capture beta eth0 "${T}/beta-outer" "udp port 51820"
beta_outer=${capture_pid}
capture beta wgb "${T}/beta-inner" "icmp and host 198.51.100.7"
beta_inner=${capture_pid}
capture alpha wga "${T}/alpha-strays" "host 10.2.0.1 or host 198.51.100.7"
alpha_strays=${capture_pid}
ping_ok host 10.1.0.1
ping_ok host fd01::1
ping_ok client 10.2.0.1
ping_ok client fd02::1
ping_ok host 198.51.100.7  # the endpoint itself, as a destination like any other of the set
sleep 0.2
for pid in "${clear}" "${looped}" "${inside}" "${beta_outer}" "${beta_inner}" "${alpha_strays}"; do
  end_capture "${pid}"
done
captured_nothing "${T}/clear" || fail "in clear on the wire: $(head -n 2 "${T}/clear")"
captured_nothing "${T}/looped" || fail "an outer datagram in the tunnel: $(head -n 2 "${T}/looped")"
captured_nothing "${T}/alpha-strays" || fail "alpha sees what is beta's: $(head -n 2 "${T}/alpha-strays")"
(($(grep -c 'echo request' "${T}/inside") == 15)) || fail "not every ping came by the tunnel: $(cat "${T}/inside")"
(($(grep -c 'echo request' "${T}/beta-inner") == 3)) || fail "the pings of the endpoint did not come out at beta"
(($(grep -c '192.0.2.1.51820 > 198.51.100.7.51820' "${T}/beta-outer") >= 9)) || fail "too few datagrams at beta"

tell "explain says what the packets did"
equal "explain, a member" "$("${SALLYPORT}" explain --from 10.9.0.1 --to 10.1.0.1 --proto icmp --json |
  jq -r '.outer.to, .outer.mark')" $'[2001:db8:a::7]:51820\n0x51820'
equal "explain, the endpoint" "$("${SALLYPORT}" explain --from 10.9.0.1 --to 198.51.100.7 --json | jq -r '.outer.to')" \
  198.51.100.7:51820
matches "explain, the endpoint's outer way" "$("${SALLYPORT}" explain --from 10.9.0.1 --to 198.51.100.7 --json |
  jq -r '.outer.host')" 'via 192.0.2.2 dev eth0'
matches "explain, v6" "$("${SALLYPORT}" explain --from fd09::1 --to fd02::1)" 'wglan/beta'
matches "explain, a hole" "$("${SALLYPORT}" explain --from 192.0.2.1 --to 10.1.9.1)" 'via 192.0.2.2 dev eth0.*hole'
matches "explain, a hole" "$(said --from 192.0.2.1 --to 10.1.9.1)" 'host'
matches "explain, a stranger" "$("${SALLYPORT}" explain --from 192.0.2.1 --to 203.0.113.99)" 'via 192.0.2.2 dev eth0.*not captured'
matches "explain, what comes back" "$(said --from 10.1.0.1 --to 10.9.0.1 --iif wglan)" 'host'
matches "explain, offline" "$("${SALLYPORT}" explain --config "${T}/wglan.toml" --from 10.9.0.1 --to 10.2.0.1)" 'wglan/beta'

tell "show"
equal "show sets" "$("${SALLYPORT}" show sets --json | jq -c '.[] | [.name, .prefixes, .holes, .error]')" '["sites",5,1,""]'
equal "show peers" "$("${SALLYPORT}" show peers --json | jq -r '.[] | .tunnel + "/" + .name + " " + .endpoint' | sort)" \
  $'wglan/alpha [2001:db8:a::7]:51820\nwglan/beta 198.51.100.7:51820'
equal "show tunnels" "$("${SALLYPORT}" show tunnels --json | jq -c '.[] | [.name, .up, .listen_port, .fwmark, .peers]')" \
  '["wglan",true,51820,"0x51820",2]'
for what in "" rules sets tables exits peers drops tunnels; do
  # shellcheck disable=SC2086
  [[ -n "$("${SALLYPORT}" show ${what})" ]] || fail "show ${what} says nothing"
  # shellcheck disable=SC2086
  "${SALLYPORT}" show ${what} --json | jq -e . >/dev/null || fail "show ${what} --json is no JSON"
done
! "${SALLYPORT}" show nonsense >/dev/null 2>&1 || fail "show nonsense is accepted"

tell "check names file and line"
sed 's/^capture = /captrue = /; s/10\.2\.0\.0\/16/10.2.0.0\/61/' "${T}/wglan.toml" >"${T}/broken.toml"
! "${SALLYPORT}" check "${T}/broken.toml" >"${T}/check" 2>&1 || fail "check accepts a broken file"
matches "check, a word" "$(cat "${T}/check")" "broken.toml:$(grep -n captrue "${T}/broken.toml" | cut -d: -f1): .*captrue.*capture"
matches "check, a prefix" "$(cat "${T}/check")" "broken.toml:$(grep -n '/61' "${T}/broken.toml" | cut -d: -f1): .*10.2.0.0/61"
require "check accepts the good one" "${SALLYPORT}" check "${T}/wglan.toml"

tell "the set is swapped under a running connection: by the watch, and by reload"
listen_iperf alpha
ip netns exec host iperf3 -J -c 10.1.0.1 -p 5201 -t 6 -b 20M -i 0.5 >"${T}/iperf.json" &
iperf=$!
sleep 0.5
sed -e 's/^10\.2\.0\.0/10.5.0.0/' "${T}/sites.txt" >"${T}/sites.new"
equal "10.5.0.1 before" "$(who host 10.5.0.1)" net
mv "${T}/sites.new" "${T}/sites.txt"
who_is host 10.5.0.1 alpha 5
who_is host 10.2.0.1 net 5
equal "what stays" "$(who host fd02::1)" beta
sed -i 's/^watch = .*//' "${T}/wglan.toml"
"${SALLYPORT}" reload >"${T}/reload.log" || fail "reload does not succeed"
sed -i -e 's/^10\.5\.0\.0/10.2.0.0/' -e 's/^fd02::/fd05::/' "${T}/sites.txt"
sleep 0.3
equal "10.5.0.1 without a watch" "$(who host 10.5.0.1)" alpha
"${SALLYPORT}" reload >>"${T}/reload.log" || fail "reload does not succeed"
equal "10.5.0.1 after reload" "$(who host 10.5.0.1)" net
equal "10.2.0.1 after reload" "$(who host 10.2.0.1)" beta
equal "fd02::1 after reload" "$(who host fd02::1)" net
alive "${iperf}" || fail "iperf3 ended meanwhile: $(jq -r .error "${T}/iperf.json")"
wait "${iperf}" || fail "iperf3: $(jq -r .error "${T}/iperf.json")"
slowest="$(jq '[.intervals[].sum.bits_per_second] | min | floor' "${T}/iperf.json")"
tell "its slowest half second moved $((slowest / 1000000)) Mbit/s of 20"
((slowest > 5000000 / E2E_SLOWNESS)) || fail "the connection stalls while the set is swapped"
cp "${REPO}/docs/examples/sites.txt" "${T}/sites.txt"

tell "kill -9 leaves rules behind; the next start takes them over, SIGTERM takes everything back"
die_gateway
matches "left behind" "$(on host ip rule)" 'lookup 180'
gateway host "${T}/wglan.toml"
equal "rules of ours" "$(on host ip rule | grep -c 'lookup 180')" 1
ping_back host 10.1.0.1 10
ping_back host 10.2.0.1 10
everything_right

tell "under a strict reverse path filter the endpoint in the set is routed around, and nobody sets a sysctl"
filter() { on host sh -c "for each in /proc/sys/net/ipv4/conf/*/rp_filter; do echo $1 >\"\${each}\"; done"; }
around() { on host ip route show table 180 | grep -q 'throw 198.51.100.7 '; }
not_around() { ! around; }
filter 1
wait_for "a way around the endpoint" 10 around
ping_back host 10.2.0.1 10
everything_right
filter 0
wait_for "the way through again" 10 not_around
stop gateway
state_is host "${T}/before"
[[ ! -e /run/sallyport/control.sock ]] || fail "the control socket is left behind"
equal "and then" "$(who host 10.1.0.1)" net
