# shellcheck shell=bash
# The sites of portals.sh and of the demo: hosts, wires and configurations; no test of its own. docs/examples/portals-*.toml with this
# run's keys are in $T/a.toml and $T/b.toml afterwards.
#
#                                          net: 198.18.0.1 198.18.0.2 2001:db8:18::1, a web server; it has no way back to any LAN
#   .2 .3  lana ------ a  sallyport run     192.0.2.1        10.1.0.0/24 fd01::/64   wga 10.9.0.1 fd09::1
#   .2     lanb ------ b  sallyport run     203.0.113.1      10.2.0.0/24 fd02::/64   wgb 10.9.0.2 fd09::2
#                      c  wireguard-go, nft 198.51.100.1                             wgc 10.9.0.3 fd09::3

host net a b c lana lanb
site() {  # NAME NETWORK NETWORK6
  wire net "to_$1" "$1" wan0
  address net "to_$1" "$2.254/24" "$3::fe/64"
  address "$1" wan0 "$2.1/24" "$3::1/64"
  on "$1" ip route add default via "$2.254"
  on "$1" ip -6 route add default via "$3::fe"
}
site a 192.0.2 2001:db8:a
site b 203.0.113 2001:db8:b
site c 198.51.100 2001:db8:c
address net lo 198.18.0.1/32 198.18.0.2/32 2001:db8:18::1/128
lan() {  # HOST GATE NUMBER
  wire "$1" eth0 "$2" lan0
  address "$1" eth0 "10.$3.0.2/24" "10.$3.0.3/24" "fd0$3::2/64"
  address "$2" lan0 "10.$3.0.1/24" "fd0$3::1/64"
  on "$1" ip route add default via "10.$3.0.1"
  on "$1" ip -6 route add default via "fd0$3::1"
  # Their LANs are routed by the sites as by any router; what NAT needs of the way out is for the daemon to ask for.
  on "$2" sh -c 'echo 1 >/proc/sys/net/ipv4/conf/lan0/forwarding; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
}
lan lana a 1
lan lanb b 2
on net sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
tell_who net
tell_who lanb
# What the hosts were before, to be compared at the end.
for name in a b; do host_state "${name}" >"${T}/before-${name}"; done

# The far end that nobody here wrote.
tunnel c wgc theirs 10.9.0.3/24 fd09::3/64
wg set wgc peer "$(pub wga)" allowed-ips 10.9.0.1/32,fd09::1/128,10.1.0.0/24,fd01::/64 endpoint 192.0.2.1:51820
on c sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
on c nft -f - <<'NFT'
table inet exit {
  chain post {
    type nat hook postrouting priority srcnat
    oifname "wan0" masquerade
  }
}
NFT
on c ip route add 10.1.0.0/24 dev wgc
on c ip -6 route add fd01::/64 dev wgc

# portal NAME: its example, with keys. A peer is called by its site.
portal() {
  key "wg$1" >/dev/null
  sed -e "/^name = \"a\"/{n;s|.*|public_key = \"$(pub wga)\"|}" -e "/^name = \"b\"/{n;s|.*|public_key = \"$(pub wgb)\"|}" \
    -e "/^name = \"c\"/{n;s|.*|public_key = \"$(pub wgc)\"|}" "${REPO}/docs/examples/portals-$1.toml" >"${T}/$1.toml"
  require "check accepts ${1}" "${SALLYPORT}" check "${T}/$1.toml"
}
portal a
portal b
