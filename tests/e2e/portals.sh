#!/usr/bin/env bash
# Portals (seed 001): two sites, each the other's exit at the same time, and a third one that runs wireguard-go and nft. LAN hosts
# behind each; no iptables line, no MASQUERADE, no rp_filter, one tunnel with two 0.0.0.0/0 peers. portal_sites.sh draws it.
#
#   lana ---- a ----.         .---- b ---- lanb
#                   +-- net --+
#                             '---- c (wireguard-go and nft)
source "$(dirname "$0")/lib.sh"
source "$(dirname "$0")/portal_sites.sh"
gateway a "${T}/a.toml" a
gateway b "${T}/b.toml" b
alive_is() { [[ "$(ask a show exits --json | jq -r --arg name "$1" '.[] | select(.name == $name) | .alive')" == "$2" ]]; }
wait_for "b to be alive" 10 alive_is b true
wait_for "c to be alive" 10 alive_is c true

tell "each is the other's exit, at the same time"
equal "lana by b" "$(seen_as lana 198.18.0.1 --interface 10.1.0.2)" 203.0.113.1
equal "lanb by a" "$(seen_as lanb 198.18.0.1 --interface 10.2.0.2)" 192.0.2.1
equal "lana by b, IPv6" "$(seen_as lana 2001:db8:18::1)" 2001:db8:b::1
equal "lanb by a, IPv6" "$(seen_as lanb 2001:db8:18::1)" 2001:db8:a::1

tell "a source, and a destination, that go out at c, where wireguard-go and nft are"
equal "10.1.0.3 by c" "$(seen_as lana 198.18.0.1 --interface 10.1.0.3)" 198.51.100.1
equal "198.18.0.2 by c" "$(seen_as lana 198.18.0.2 --interface 10.1.0.2)" 198.51.100.1

tell "ping and traceroute through the masquerading exits, both families"
ping_ok lana 198.18.0.1 3 -I 10.1.0.2
ping_ok lana 2001:db8:18::1
ping_ok lanb 198.18.0.1
hop() { on lana ping -n -c 1 -t "$1" -W 2 "${@:3}" "$2" 2>/dev/null | sed -nE 's/^(From|64 bytes from) ([0-9a-f.:]+).*/\2/p' | sed 's/:$//' | head -n 1 || true; }
equal "hop 1" "$(hop 1 198.18.0.1 -I 10.1.0.2)" 10.1.0.1
equal "hop 2" "$(hop 2 198.18.0.1 -I 10.1.0.2)" 203.0.113.1
equal "hop 3" "$(hop 3 198.18.0.1 -I 10.1.0.2)" 198.18.0.1
equal "hop 1, IPv6" "$(hop 1 2001:db8:18::1)" fd01::1
equal "hop 3, IPv6" "$(hop 3 2001:db8:18::1)" 2001:db8:18::1

tell "TCP is asked for no more than the tunnel carries, before it gets to the internet"
capture net to_b "${T}/syn" "tcp[tcpflags] & tcp-syn != 0 and src host 203.0.113.1"
seen_as lana 198.18.0.1 --interface 10.1.0.2 >/dev/null
wait_for "the SYN" 5 grep -q 'mss 1380' "${T}/syn"
end_capture

tell "hosts on the other LAN keep their addresses"
equal "lana at lanb" "$(seen_as lana 10.2.0.2 --interface 10.1.0.2)" 10.1.0.2

tell "a port of b's forwarded through the tunnel to a host behind a, the client's address preserved"
tell_who lana
equal "net at b:8888" "$(on net curl -s -m 5 http://203.0.113.1:8888/)" lana
equal "as whom" "$(on net curl -s -m 5 --interface 198.18.0.2 http://203.0.113.1:8888/you)" 198.18.0.2

tell "a datagram to a masquerading port that nobody asked for is refused, and goes nowhere"
capture net to_b "${T}/unasked" "udp and host 203.0.113.1 and not port 51820 or icmp"
on net python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"?", ("203.0.113.1", 62000))'
wait_for "the refusal" 5 grep -q 'udp port 62000 unreachable' "${T}/unasked"
end_capture
equal "datagrams on the wire, and in the refusal" "$(grep -c '> 203.0.113.1.62000' "${T}/unasked")" 2
matches "drops" "$(ask b show drops)" unsolicited

tell "show flows has the mapping, and a flushed flow begins anew"
equal "lana by b" "$(seen_as lana 198.18.0.1 --interface 10.1.0.2)" 203.0.113.1
flows="$(ask b show flows from 10.1.0.2 ipproto tcp dport 8080)"
matches "show flows" "${flows}" '10\.1\.0\.2'
matches "its mapping" "${flows}" '203\.0\.113\.1'
(("$(ask b show flows --json from 10.1.0.2 | jq '.flows | length')" > 0)) || fail "no flow in JSON"
ask b flush flows from 10.1.0.2 >/dev/null
equal "flows after flush" "$(ask b show flows --json from 10.1.0.2 ipproto tcp | jq '.flows | length')" 0
matches "a filter that is none" "$(ask b show flows from nowhere 2>&1 || true)" 'nowhere'

tell "explain says it"
text="$(ask b explain --from 10.1.0.2 --to 198.18.0.1 --proto tcp --dport 8080 --peer a)"
matches "explain" "${text}" 'masquerade: source 203\.0\.113\.1'

tell "nothing leaves with an address of a LAN or the tunnel"
leaks=()
for name in a b c; do
  capture net "to_${name}" "${T}/leaks-${name}" "net 10.0.0.0/8 or net fd00::/8"
  leaks+=("${capture_pid}")
done
listen_iperf net 198.18.0.1
for options in "" "-R" "-u -b 20M"; do
  # shellcheck disable=SC2086
  bps="$(iperf_bps lana 198.18.0.1 -t 2 -B 10.1.0.2 ${options})"
  ((bps > 1000000)) || fail "iperf3 ${options} through the portal: ${bps} bit/s"
done
for pid in "${leaks[@]}"; do end_capture "${pid}"; done
for name in a b c; do
  captured_nothing "${T}/leaks-${name}" || fail "on the wire of ${name}: $(head -n 3 "${T}/leaks-${name}")"
done

tell "an exit lost while flows run: new ones take the other, and those stay there when it is back"
stop b
wait_for "b to be seen dead" 10 alive_is b false
equal "lana by c" "$(seen_as lana 198.18.0.1 --interface 10.1.0.2)" 198.51.100.1
ip netns exec lana curl -s -N -m 60 --interface 10.1.0.2 http://198.18.0.1:8080/slow >"${T}/slow" 2>/dev/null &
slow=$!
wait_for "the slow one to run" 5 grep -q '^\.' "${T}/slow"
gateway b "${T}/b.toml" b
wait_for "b to be back" 15 alive_is b true
lines="$(wc -l <"${T}/slow")"
wait_for "the flow to go on" 5 sh -c "[ \$(wc -l <'${T}/slow') -gt $((lines + 5)) ]"
alive "${slow}" || fail "the flow by c died when b came back"
kill "${slow}"
wait "${slow}" 2>/dev/null || true

tell "nothing is left behind at the end"
stop a
stop b
state_is a "${T}/before-a"
state_is b "${T}/before-b"
