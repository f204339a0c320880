#!/usr/bin/env bash
# release only: the wait for 300,000 routes says nothing about an instrumented build
# A set of 300,000 prefixes into WireGuard, v4 and v6, replaced whole under a running connection, and taken back.
#
#   host  wglan (sallyport run)  192.0.2.1 ------- 192.0.2.2  wgr (theirs)  right   10.1.0.1
#                                2001:db8::1 --- 2001:db8::2                        lots of 20.0.0.0/6 and 2a00::/16
source "$(dirname "$0")/lib.sh"

host host right
wire host eth0 right eth0
address host eth0 192.0.2.1/24 2001:db8::1/64
address right eth0 192.0.2.2/24 2001:db8::2/64
address right lo 10.1.0.1/32
on host ip route add default via 192.0.2.2
on host ip -6 route add default via 2001:db8::2
on right ip route add local 20.0.0.0/6 dev lo
on right ip -6 route add local 2a00::/16 dev lo
on right sh -c 'echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind'
tunnel right wgr theirs 10.9.0.2/24 fd09::2/64
wg set wgr peer "$(pub wglan)" allowed-ips 10.9.0.1/32,fd09::1/128
key wglan >/dev/null
host_state host >"${T}/before"

# list ODD: 200,000 /25 of 20.0.0.0/6 and 100,000 /48 of 2a00::/16, each with a neighbour that is in the other list only.
list() {
  python3 - "$1" <<'PYTHON'
import ipaddress, sys
odd = int(sys.argv[1])
print("10.1.0.0/16\n192.0.2.0/24")
first, first6 = 20 << 24, 0x2a00 << 32
for i in range(200000):
    print(f"{ipaddress.ip_address(first + ((2 * i + odd) << 7))}/25")
for i in range(100000):
    n = first6 + 2 * i + odd
    print(f"{n >> 32:x}:{n >> 16 & 0xffff:x}:{n & 0xffff:x}::/48")
PYTHON
}
list 0 >"${T}/even.txt"
list 1 >"${T}/odd.txt"
cp "${T}/even.txt" "${T}/sites.txt"
cat >"${T}/wglan.toml" <<TOML
[tunnel.wglan]
private_key_file = "wglan.key"
address = ["10.9.0.1/24", "fd09::1/64"]
capture = "@sites"
[[tunnel.wglan.peer]]
name = "right"
public_key = "$(pub wgr)"
endpoint = "192.0.2.2:51820"
allowed_ips = ["0.0.0.0/0", "::/0"]
[set.sites]
file = "sites.txt"
TOML

# timed WHAT COMMAND...
timed() {
  local what="$1" begun=${EPOCHREALTIME/./}
  shift
  "$@"
  tell "${what}: $(((${EPOCHREALTIME/./} - begun) / 1000)) ms"
}
routes() { echo $(($(on host ip route show table 180 | wc -l) + $(on host ip -6 route show table 180 | wc -l))); }
# way ADDRESS: the device by which the host sends there.
way() { on host ip route get "$1" | grep -o 'dev [^ ]*' | head -n 1; }
# EVEN: what an address of the even list, and its neighbour in the odd one, take.
ways() {
  equal "20.0.0.1" "$(way 20.0.0.1)" "dev $1"
  equal "20.0.0.129" "$(way 20.0.0.129)" "dev $2"
  equal "23.13.63.1" "$(way 23.13.63.1)" "dev $1"
  equal "23.13.63.129" "$(way 23.13.63.129)" "dev $2"
  equal "2a00:3:d3e::1" "$(way 2a00:3:d3e::1)" "dev $1"
  equal "2a00:3:d3f::1" "$(way 2a00:3:d3f::1)" "dev $2"
  equal "24.0.0.1" "$(way 24.0.0.1)" "dev eth0"
}

begun=${SECONDS}
timed "start" gateway host "${T}/wglan.toml"
equal "show sets" "$("${SALLYPORT}" show sets --json | jq -c '.[] | [.prefixes, .holes]')" '[300002,0]'
equal "routes in table 180" "$(routes)" 300002
ways wglan eth0
ping_ok host 20.0.0.1
ping_ok host 2a00:3:d3e::1
capture host eth0 "${T}/clear" "(net 20.0.0.0/6 or ip6 net 2a00::/16)"
ping_ok host 23.13.63.1
end_capture
captured_nothing "${T}/clear" || fail "a member leaves in clear: $(head -n 2 "${T}/clear")"
matches "explain" "$("${SALLYPORT}" explain --from 10.9.0.1 --to 23.13.63.1)" 'wglan/right'

listen_iperf right
ip netns exec host iperf3 -J -c 10.1.0.1 -p 5201 -t 30 -b 20M -i 0.5 >"${T}/iperf.json" &
iperf=$!
sleep 0.5
cp "${T}/odd.txt" "${T}/sites.txt"
timed "replaced" "${SALLYPORT}" reload
ways eth0 wglan
equal "routes in table 180" "$(routes)" 300002
alive "${iperf}" || fail "iperf3 ended meanwhile: $(jq -r .error "${T}/iperf.json")"
sleep 0.5
kill -INT "${iperf}"  # it writes what it has
wait "${iperf}" || true
slowest="$(jq '[.intervals[:-1][].sum.bits_per_second] | min | floor' "${T}/iperf.json")"
tell "the slowest half second moved $((slowest / 1000000)) Mbit/s of 20"
((slowest > 1000000 / E2E_SLOWNESS)) || fail "the connection stalls while the set is replaced"

timed "stop" stop gateway
state_is host "${T}/before"
tell "$((SECONDS - begun)) s"
