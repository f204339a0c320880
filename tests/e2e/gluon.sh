#!/usr/bin/env bash
# docs/examples/gluon.toml: WireGuard and the names of its endpoints go by the WAN, everything else by the mesh, v4 and v6.
# The router answers in the place of whoever a packet should have reached through the tunnel.
#
#   client ------ node (sallyport run)     router: the WAN's resolver, knows gw1 and gw2; decoys of 10.31.0.1 198.18.0.1 fd31::1
#   10.20.0.2  br0 10.20.0.1               |
#   fd20::2        fd20::1                 +- 198.51.100.1 ------ .7  gw1  10.30.0.53 (a resolver that lies), 10.31.0.1 fd31::1
#              wan0 192.168.1.2 --- 192.168.1.1
#                   2001:db8:1::2 ----- ::1 +- 2001:db8:b::1 --- ::7  gw2  198.18.0.1 2001:db8:198::1 (the internet)
source "$(dirname "$0")/lib.sh"
command -v dnsmasq >/dev/null || skip "needs dnsmasq"

host client node router gw1 gw2
wire client eth0 node br0
wire node wan0 router lan0
wire gw1 eth0 router gw1
wire gw2 eth0 router gw2
address client eth0 10.20.0.2/24 fd20::2/64
address node br0 10.20.0.1/24 fd20::1/64
on node ip address add 192.168.1.2/24 dev wan0 noprefixroute
on node ip address add 2001:db8:1::2/64 dev wan0 noprefixroute
address router lan0 192.168.1.1/24 2001:db8:1::1/64
address router gw1 198.51.100.1/24
address router gw2 2001:db8:b::1/64
address router lo 10.31.0.1/32 198.18.0.1/32 fd31::1/128 2001:db8:198::1/128
address gw1 eth0 198.51.100.7/24
address gw1 lo 10.30.0.53/32 10.31.0.1/32 fd31::1/128
address gw2 eth0 2001:db8:b::7/64
address gw2 lo 198.18.0.1/32 2001:db8:198::1/128
for name in node router; do
  on "${name}" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
done
on client ip route add default via 10.20.0.1
on client ip -6 route add default via fd20::1
on gw1 ip route add default via 198.51.100.1
on gw2 ip -6 route add default via 2001:db8:b::1

tell "the WAN's routes are in table 1, for what has bit 1 in its mark"
on node ip route add 192.168.1.0/24 dev wan0 table 1
on node ip route add default via 192.168.1.1 table 1
on node ip -6 route add 2001:db8:1::/64 dev wan0 table 1
on node ip -6 route add default via 2001:db8:1::1 table 1
on node ip rule add fwmark 0x1/0x1 lookup 1 pref 1000
on node ip -6 rule add fwmark 0x1/0x1 lookup 1 pref 1000
host_state node >"${T}/before"
echo "nameserver 10.30.0.53" >"${T}/resolv.conf"
mount --bind "${T}/resolv.conf" /etc/resolv.conf

tunnel gw1 wg1 ours 10.30.0.2/24 fd30::2/64
tunnel gw2 wg2 theirs 10.30.0.3/24 fd30::3/64
for each in "gw1 wg1" "gw2 wg2"; do
  read -r name iface <<<"${each}"
  wg set "${iface}" peer "$(pub meshvpn)" allowed-ips 10.30.0.1/32,fd30::1/128,10.20.0.0/24,fd20::/64
  on "${name}" ip route add 10.20.0.0/24 dev "${iface}"
  on "${name}" ip -6 route add fd20::/64 dev "${iface}"
done
for name in router gw1 gw2; do
  tell_who "${name}"
done

# resolver HOST ADDRESS RECORDS: a dnsmasq that knows only these; SIGHUP makes it read them again.
resolver() {
  ip netns exec "$1" dnsmasq --conf-file=/dev/null --keep-in-foreground --no-resolv --no-hosts --user=root --pid-file= \
    --bind-interfaces --listen-address="$2" --local=/example/ --local-ttl=1 --addn-hosts="$3" --log-queries --log-facility=- \
    >"${T}/dns-$1.log" 2>&1 &
  resolver_pid=$!
  wait_for "the resolver of $1" 5 on "$1" sh -c 'ss -Hlun sport = :53 | grep -q .'
}
printf '%s\n' "203.0.113.66 gw1.example gw2.example" "10.31.0.1 www.example" >"${T}/mesh.hosts"
resolver gw1 10.30.0.53 "${T}/mesh.hosts"

# (What 192.168.1.2 is told by ICMP is of the question that nobody took yet, and of gw2's old address.)
capture router lan0 "${T}/wan" "not arp and not ip6 multicast and not (icmp6 and ip6[40] >= 133) and not udp port 51820
  and not (host 192.168.1.1 and udp port 53) and not (icmp and src host 192.168.1.1 and dst host 192.168.1.2)"
wan=${capture_pid}
capture gw1 any "${T}/mesh-dns" "udp port 53"
mesh_dns=${capture_pid}

tell "it starts without any DNS"
sed -e "0,/public_key = .*/s||public_key = \"$(pub wg1)\"|" "${REPO}/docs/examples/gluon.toml" |
  sed -e "/name = \"gw2\"/,\$s|public_key = .*|public_key = \"$(pub wg2)\"|" >"${T}/gluon.toml"
key meshvpn >/dev/null
gateway node "${T}/gluon.toml"
equal "no endpoint yet" "$(wg show meshvpn endpoints | awk '{ print $2 }' | sort -u)" "(none)"
sleep 1

tell "DNS comes up, with an old address for gw2: gw1 is there, gw2 follows its name"
printf '%s\n' "198.51.100.7 gw1.example" "198.51.100.99 gw2.example" >"${T}/wan.hosts"
resolver router 192.168.1.1 "${T}/wan.hosts"
wan_resolver=${resolver_pid}
who_is node 10.31.0.1 gw1 10
equal "the mesh from behind it" "$(who client 10.31.0.1)" gw1
equal "the mesh, v6" "$(who client fd31::1)" gw1
gw2_is_at() { wg show meshvpn endpoints | grep -qF "$1"; }
wait_for "gw2's first address" 10 gw2_is_at 198.51.100.99:51820
equal "gw2 is not there" "$(who node 198.18.0.1)" nobody
printf '%s\n' "198.51.100.7 gw1.example" "2001:db8:b::7 gw2.example" >"${T}/wan.hosts"
kill -HUP "${wan_resolver}"
who_is node 198.18.0.1 gw2 15
gw2_is_at '[2001:db8:b::7]:51820' || fail "gw2 is at $(wg show meshvpn endpoints)"
for name in node client; do
  equal "the internet from ${name}" "$(who "${name}" 198.18.0.1)" gw2
  equal "the internet, v6, from ${name}" "$(who "${name}" 2001:db8:198::1)" gw2
  equal "the mesh, v6, from ${name}" "$(who "${name}" fd31::1)" gw1
done
equal "a name of the mesh, by the mesh's resolver" "$(on node curl -s -m 5 http://www.example:8080/)" gw1
equal "the router itself is not for the node" "$(who node 192.168.1.1)" nobody

tell "explain: marks and tables"
explained="$("${SALLYPORT}" explain --from 10.20.0.2 --to 10.31.0.1 --proto tcp --dport 8080)"
matches "the mark's rule" "${explained}" "gluon.toml:$(grep -n 'name = "the mesh.s own' "${T}/gluon.toml" | cut -d: -f1 | awk '{ print $1 - 2 }')"
matches "the mark" "${explained}" '0x10'
matches "the table" "${explained}" 'table mesh: .*exit gw1'
matches "the outer way" "${explained}" 'via 192.168.1.1 dev wan0'
matches "the other table" "$("${SALLYPORT}" explain --from fd20::2 --to 2001:db8:198::1)" 'table internet: .*exit gw2.*2001:db8:b::7'

end_capture "${wan}"
captured_nothing "${T}/wan" || fail "leaves by the WAN: $(head -n 2 "${T}/wan")"
ping_ok node 192.168.1.1 1 -m 1  # what is marked does, since the host says so
end_capture "${mesh_dns}"
matches "the mesh's resolver was asked" "$(cat "${T}/mesh-dns")" 'www.example'
! grep -E 'gw[12]\.example' "${T}/mesh-dns" || fail "the mesh was asked for an endpoint's name"
! grep -E 'www\.example' "${T}/dns-router.log" || fail "the WAN was asked for a name of the mesh"

tell "gw2 moves under a living session, and says nothing: the tunnel follows its name"
ip netns exec client ping -n -q -i 0.5 198.18.0.1 >/dev/null &
moved=${SECONDS}
on gw2 ip -6 address delete 2001:db8:b::7/64 dev eth0
address gw2 eth0 2001:db8:b::8/64
printf '%s\n' "198.51.100.7 gw1.example" "2001:db8:b::8 gw2.example" >"${T}/wan.hosts"
kill -HUP "${wan_resolver}"
equal "gw1 meanwhile" "$(who client 10.31.0.1)" gw1
who_is client 198.18.0.1 gw2 40
tell "after $((SECONDS - moved)) s"

stop gateway
state_is node "${T}/before"
