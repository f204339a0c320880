#!/usr/bin/env bash
# The demo (./dev demo), which is a test too: Sallyport brought up by wg-quick against wireguard-go brought
# up by wg-quick, looked at with wg show, tried with ping and iperf3.
#
#   left   wgl (Sallyport)     10.9.0.1  fd09::1        right  wgr (wireguard-go)  10.9.0.2  fd09::2
#          eth0 192.0.2.1 ------------------------------------ eth0 192.0.2.2
source "$(dirname "$0")/lib.sh"

say() { printf '\n-- %s\n' "$*"; }

# config HOST IFACE ADDRESS PEER ENDPOINT PEER_ADDRESSES
config() {
  mkdir -p "${T}/$1"
  cat >"${T}/$1/$2.conf" <<CONF
[Interface]
PrivateKey = $(cat "$(key "$2")")
ListenPort = 51820
Address = $3
[Peer]
PublicKey = $(pub "$4")
Endpoint = $5
AllowedIPs = $6
CONF
}

say "Two hosts on one wire: left 192.0.2.1, right 192.0.2.2"
host left right
wire left eth0 right eth0
address left eth0 192.0.2.1/24
address right eth0 192.0.2.2/24
config left wgl "10.9.0.1/24, fd09::1/64" wgr 192.0.2.2:51820 "10.9.0.2/32, fd09::2/128"
config right wgr "10.9.0.2/24, fd09::2/64" wgl 192.0.2.1:51820 "10.9.0.1/32, fd09::1/128"

say "left: wg-quick up, on Sallyport"
quick left "${SALLYPORT}" up "${T}/left/wgl.conf" 2>&1
say "right: wg-quick up, on wireguard-go"
quick right "${WGGO}" up "${T}/right/wgr.conf" 2>&1 |
  grep -Ev '[│┌└]'

say "ping through the tunnel, IPv4 and IPv6"
on left ping -c 3 -i 0.3 10.9.0.2
on left ping -c 3 -i 0.3 fd09::2

say "wg show wgl"
wg show wgl

say "iperf3, left to right, then right to left"
listen_iperf right
on left iperf3 -c 10.9.0.2 -t "${DEMO_SECONDS:-4}" -i 1 --forceflush
idle_iperf
on left iperf3 -c 10.9.0.2 -t "${DEMO_SECONDS:-4}" -i 1 --forceflush -R

say "sallyport status"
"${SALLYPORT}" status

say "wg-quick down"
quick left "${SALLYPORT}" down "${T}/left/wgl.conf" 2>&1
quick right "${WGGO}" down "${T}/right/wgr.conf" 2>&1
wait_for "the daemons to end" 5 sh -c '! ls /run/wireguard/*.sock'

say "Portals: two sites, each the other's exit at once (docs/examples/portals-a.toml, portals-b.toml), a third one with wireguard-go and nft"
source "$(dirname "$0")/portal_sites.sh"
gateway a "${T}/a.toml" a
gateway b "${T}/b.toml" b
wait_for "a's exit by b" 10 sh -c "[ \"\$(RUNTIME_DIRECTORY=/run/gateways/a ${SALLYPORT} show exits --json | jq -r '.[] | select(.name == \"b\") | .alive')\" = true ]"
say "a web server on the internet says whom it sees"
echo "10.1.0.2 behind a is seen as        $(seen_as lana 198.18.0.1 --interface 10.1.0.2)   (b's address)"
echo "10.1.0.3 behind a is seen as        $(seen_as lana 198.18.0.1 --interface 10.1.0.3)  (c's: a rule by source)"
echo "10.2.0.2 behind b is seen as        $(seen_as lanb 198.18.0.1)     (a's address)"
echo "fd02::2  behind b is seen as        $(seen_as lanb 2001:db8:18::1) (a's address)"
say "b: sallyport explain --from 10.1.0.2 --to 198.18.0.1 --proto tcp --sport 40000 --dport 8080 --peer a"
ask b explain --from 10.1.0.2 --to 198.18.0.1 --proto tcp --sport 40000 --dport 8080 --peer a
stop a
stop b

say "Nothing is left: no link, no socket, no process. The demo is over."
