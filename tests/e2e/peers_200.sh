#!/usr/bin/env bash
# One Sallyport with 200 peers. Fifty of them live, each a wireguard-go of its own (inotify instances
# are scarce, or it would be all), all pinging the hub; then it pings some of them back, and loses half
# of its peers without disturbing the rest.
#
#   clients  wg1..wg50 (theirs)   192.0.2.1 ------------- 192.0.2.2  hub (ours)
#            10.9.1.N                                                10.9.0.1
source "$(dirname "$0")/lib.sh"

peers=200
living=$((50 / E2E_SLOWNESS))
export LOG_LEVEL=error GOMAXPROCS=1

host clients hub
wire clients eth0 hub eth0
address clients eth0 192.0.2.1/24
address hub eth0 192.0.2.2/24
tunnel hub wgh ours 10.9.0.1/16

config="${T}/hub.conf"
for ((i = 1; i <= peers; i++)); do
  printf '[Peer]\nPublicKey = %s\nAllowedIPs = 10.9.1.%d/32\n' "$(pub "wg${i}")" "${i}"
done >"${config}"
wg addconf wgh "${config}"
equal "peers of the hub" "$(wg show wgh peers | wc -l)" "${peers}"

for ((i = 1; i <= living; i++)); do
  ip netns exec clients "${WGGO}" -f "wg${i}" >/dev/null 2>&1 &
done
# Each client is alone behind its own routing table, since all reach the same hub address.
for ((i = 1; i <= living; i++)); do
  wait_for "client ${i}" 20 uapi_answers "wg${i}"
  wg set "wg${i}" private-key "$(key "wg${i}")" peer "$(pub wgh)" endpoint 192.0.2.2:51820 \
    allowed-ips 10.9.0.1/32
  echo "address add 10.9.1.${i}/32 dev wg${i}"
  echo "link set wg${i} up"
  echo "route add 10.9.0.1/32 dev wg${i} table ${i}"
  echo "rule add from 10.9.1.${i} table ${i}"
done >"${T}/clients.ip"
on clients ip -batch "${T}/clients.ip"
tell "${living} clients run"

for ((i = 1; i <= living; i++)); do
  on clients ping -n -q -c 1 -W $((5 * E2E_SLOWNESS)) -I "10.9.1.${i}" 10.9.0.1 >/dev/null ||
    fail "client ${i} of ${living} gets no answer"
done
equal "peers with a handshake" "$(wg show wgh latest-handshakes | awk '$2 > 0' | wc -l)" "${living}"
for i in 1 $((living / 3)) $((living / 2)) "${living}"; do
  ping_ok hub "10.9.1.${i}"
done

# Every other one, the first included.
for ((i = 1; i <= peers; i += 2)); do
  printf 'public_key=%s\nremove=true\n' "$(hex "$(pub "wg${i}")")"
done | { echo "set=1"; cat; echo; } | uapi wgh >"${T}/answer"
matches "removing half" "$(cat "${T}/answer")" '^errno=0'
equal "peers left" "$(wg show wgh peers | wc -l)" "$((peers - peers / 2))"
ping_ok hub 10.9.1.2
ping_dead hub 10.9.1.1
