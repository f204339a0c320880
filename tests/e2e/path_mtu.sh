#!/usr/bin/env bash
# MTU (docs/mtu.md): a router with a small link between two ends. Outer datagrams are never cut; what the router says lowers the peer's
# path MTU, and what is inside is told, cut or clamped so that it fits.
#
#   lan ---------- gate (sallyport run, wgx) --- router ===== 1400 ===== far  (wireguard-go, then ours)
#   10.1.0.2       192.0.2.1                     .254 .254   198.51.100.1     wgf 10.9.0.2 fd09::2
source "$(dirname "$0")/lib.sh"

for impl in theirs ours; do
  if [[ "${impl}" == ours ]]; then
    stop gateway
    stop wgf
    for name in lan gate router far; do ip netns delete "${name}"; done
  fi
  tell "the far end is ${impl}"
  host lan gate router far
  wire lan eth0 gate lan0
  wire gate eth0 router gate0
  wire router far0 far eth0 1400
  address lan eth0 10.1.0.2/24 fd01::2/64
  address gate lan0 10.1.0.1/24 fd01::1/64
  address gate eth0 192.0.2.1/24
  address router gate0 192.0.2.254/24
  address router far0 198.51.100.254/24
  address far eth0 198.51.100.1/24
  on lan ip route add default via 10.1.0.1
  on lan ip -6 route add default via fd01::1
  on gate ip route add default via 192.0.2.254
  on far ip route add default via 198.51.100.254
  for name in gate router; do
    on "${name}" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
  done
  TUNNEL_MTU=1340 tunnel far wgf "${impl}" 10.9.0.2/24 fd09::2/64
  key wgx >/dev/null
  wg set wgf peer "$(pub wgx)" allowed-ips 10.9.0.1/32,10.1.0.0/24,fd09::1/128,fd01::/64
  on far ip route add 10.1.0.0/24 dev wgf
  on far ip -6 route add fd01::/64 dev wgf
  cat >"${T}/x.toml" <<TOML
[tunnel.wgx]
private_key_file = "wgx.key"
listen_port = 51820
address = ["10.9.0.1/24", "fd09::1/64"]
capture = ["10.9.0.0/24", "fd09::/64"]
[[tunnel.wgx.peer]]
name = "far"
public_key = "$(pub wgf)"
endpoint = "198.51.100.1:51820"
allowed_ips = ["0.0.0.0/0", "::/0"]
[exit.far]
peer = "far"
[[rule]]
priority = 1
iif = "host"
exit = "far"
TOML
  gateway gate "${T}/x.toml"
  equal "the interface's MTU" "$(on gate cat /sys/class/net/wgx/mtu)" 1420
  ping_ok lan 10.9.0.2

  tell "what is too big for the way is lost once, and from then on its sender is told"
  capture far eth0 "${T}/fragments" "ip[6:2] & 0x3fff != 0"
  on lan ping -n -c 2 -i 0.3 -W 1 -s 1372 -M want 10.9.0.2 >/dev/null 2>&1 || true
  told="$(on lan ping -n -c 2 -i 0.3 -W 1 -s 1372 -M do 10.9.0.2 2>&1 || true)"
  matches "who may not be cut" "${told}" '(mtu ?= ?1340|message too long, mtu=1340)'
  on lan ip route flush cache
  ping_ok lan 10.9.0.2 3 -s 1372 -M dont
  on lan ping -n -c 2 -i 0.3 -W 1 -s 1300 -M do fd09::2 >/dev/null 2>&1 || true
  matches "IPv6" "$(on lan ip -6 route get fd09::2)" 'mtu 1340'
  end_capture
  captured_nothing "${T}/fragments" || fail "an outer datagram came in pieces: $(head -n 2 "${T}/fragments")"

  tell "TCP asks for what fits, both ways"
  capture far wgf "${T}/syns" "tcp[tcpflags] & tcp-syn != 0"
  capture lan eth0 "${T}/back" "tcp[tcpflags] & tcp-syn != 0 and src host 10.9.0.2"
  back=${capture_pid}
  on far ip link set wgf mtu 1420  # so that it asks for too much
  listen_iperf far
  bps="$(iperf_bps lan 10.9.0.2 -t 1)"
  ((bps > 1000000)) || fail "iperf3: ${bps} bit/s"
  wait_for "the SYN" 5 grep -q 'mss 1300' "${T}/syns"
  wait_for "the SYN-ACK" 5 grep -q 'mss 1300' "${T}/back"
  end_capture "${back}"
done
