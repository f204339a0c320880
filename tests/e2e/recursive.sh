#!/usr/bin/env bash
# Recursive WireGuard (seed 003): a gateway in the cloud gives all ports of its address but its own to a server at home, through a tunnel
# within the tunnel of a router that is behind a carrier's NAT. docs/examples/recursive-*.toml. Then the server runs wireguard-go.
#
#   client 203.0.113.7 --- net --- 198.51.100.1 cloud   wgo 10.8.0.1 :51820    wgi 10.99.0.1 via wgo :51821
#                           |
#                         cgnat (nft masquerade) 192.0.2.9
#                           |
#                         home 100.64.0.2   wgh 10.8.0.2          a router, no more
#                           |    10.2.0.1
#                           +--- 10.2.0.9  server   wgs 10.99.0.2, calls 10.8.0.1:51821
#                           '--- 10.2.0.20 box      a web server, no tunnel
source "$(dirname "$0")/lib.sh"

host client net cloud cgnat home server box
wire net to_client client eth0
wire net to_cloud cloud eth0
wire net to_cgnat cgnat eth0
wire cgnat inside home wan0
wire home to_server server eth0
wire home to_box box eth0
address net to_client 203.0.113.1/24
address client eth0 203.0.113.7/24
address net to_cloud 198.51.100.254/24
address cloud eth0 198.51.100.1/24
address net to_cgnat 192.0.2.1/24
address cgnat eth0 192.0.2.9/24
address cgnat inside 100.64.0.1/24
address home wan0 100.64.0.2/24
on home ip link add lan type bridge
on home ip link set lan up
on home ip link set to_server master lan
on home ip link set to_box master lan
address home lan 10.2.0.1/24
address server eth0 10.2.0.9/24
address box eth0 10.2.0.20/24
on client ip route add default via 203.0.113.1
on cloud ip route add default via 198.51.100.254
on cgnat ip route add default via 192.0.2.1
on home ip route add default via 100.64.0.1
on server ip route add default via 10.2.0.1
on box ip route add default via 10.2.0.1
for name in net cgnat; do on "${name}" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'; done
on home sh -c 'echo 1 >/proc/sys/net/ipv4/conf/lan/forwarding; echo 1 >/proc/sys/net/ipv4/conf/wan0/forwarding'
on cgnat nft -f - <<'NFT'
table ip carrier {
  chain post {
    type nat hook postrouting priority srcnat
    oifname "eth0" masquerade
  }
}
NFT
tell_who client
tell_who server
tell_who box
ip netns exec cloud socat TCP-LISTEN:2222,fork,reuseaddr SYSTEM:'echo the gateway itself' >/dev/null 2>&1 &
host_state cloud >"${T}/before"

filled() {  # FILE, then NAME KEY for each of its peers
  local file="$1" text
  text="$(cat "${REPO}/docs/examples/recursive-${file}.toml")"
  shift
  while (($# > 0)); do
    text="$(sed "/^name = \"$1\"/{n;s|.*|public_key = \"$2\"|}" <<<"${text}")"
    shift 2
  done
  echo "${text}" >"${T}/${file}.toml"
  require "check accepts ${file}" "${SALLYPORT}" check "${T}/${file}.toml"
}
for name in wgo wgi wgh wgs; do key "${name}" >/dev/null; done
filled cloud home "$(pub wgh)" server "$(pub wgs)"
filled home cloud "$(pub wgo)"
filled server cloud "$(pub wgi)"
gateway cloud "${T}/cloud.toml" cloud
gateway home "${T}/home.toml" home

for impl in ours theirs; do
  tell "the server is ${impl}"
  if [[ "${impl}" == ours ]]; then
    gateway server "${T}/server.toml" server
  else
    stop server
    TUNNEL_MTU=1340 tunnel server wgs theirs 10.99.0.2/24
    wg set wgs listen-port 0 peer "$(pub wgi)" endpoint 10.8.0.1:51821 allowed-ips 0.0.0.0/0 persistent-keepalive 5
    on server ip rule add from 10.99.0.2 lookup 99
    on server ip route add default dev wgs table 99
  fi
  ping_back server 10.99.0.1 20
  ping_ok server 10.99.0.1
  ping_ok cloud 10.99.0.2
  equal "the inner tunnel's MTU" "$(on cloud cat /sys/class/net/wgi/mtu)" 1340
  matches "wg show wgi" "$(wg show wgi endpoints)" '10\.2\.0\.9:'

  # It answers by the address that it was asked by.
  ip netns exec server socat UDP-RECVFROM:9999,bind=10.99.0.2,fork EXEC:cat >/dev/null 2>&1 &
  echo_pid=$!

  tell "all ports are the server's, and it sees the client"
  equal "8080" "$(on client curl -s -m 5 http://198.51.100.1:8080/)" server
  equal "as whom" "$(on client curl -s -m 5 http://198.51.100.1:8080/you)" 203.0.113.7
  equal "UDP" "$(on client sh -c 'echo hello | socat -t 2 - UDP:198.51.100.1:9999')" hello
  equal "the gateway's own port" "$(on client socat -t 2 - TCP:198.51.100.1:2222)" "the gateway itself"
  equal "a port of a host on the LAN" "$(on client curl -s -m 5 http://198.51.100.1:8081/)" box
  equal "the gateway's own connections" "$(on cloud curl -s -m 5 http://203.0.113.7:8080/you)" 198.51.100.1

  tell "on the wire there is the outer tunnel, and within it the inner one"
  capture net to_cgnat "${T}/wire" "not arp and not ip6"
  wire_pid=${capture_pid}
  capture home wgh "${T}/inner" "host 10.2.0.9"
  on client curl -s -m 5 -o /dev/null http://198.51.100.1:8080/
  sleep 0.5
  end_capture
  end_capture "${wire_pid}"
  matches "on the wire" "$(cat "${T}/wire")" '198\.51\.100\.1\.51820'
  ! grep -E '^    [0-9]' "${T}/wire" | grep -v '198\.51\.100\.1\.51820' || fail "something else is on the wire"
  matches "within" "$(cat "${T}/inner")" '10\.8\.0\.1\.51821'
  ! grep -q '203\.0\.113' "${T}/inner" || fail "the client can be seen in the outer tunnel"
  kill "${echo_pid}"
done

tell "much of it, both ways"
stop wgs
on server ip rule del from 10.99.0.2 lookup 99
gateway server "${T}/server.toml" server
ping_back server 10.99.0.1 20
listen_iperf server
for options in "" "-R" "-u -b 20M"; do
  # shellcheck disable=SC2086
  bps="$(iperf_bps cloud 10.99.0.2 -t 2 ${options})"
  ((bps > 1000000)) || fail "iperf3 ${options} through both: ${bps} bit/s"
  tell "iperf3 ${options}: $((bps / 1000000)) Mbit/s through two tunnels"
done
matches "nothing was in a loop" "$(ask cloud show drops)" '^' # its text is evidence
! ask cloud show drops | grep -E 'routing_loop|nested_too_deep' || fail "a loop"

tell "a tunnel within itself is refused"
sed 's/^\[tunnel.wgo\].*/&\nvia = "wgi"/' "${T}/cloud.toml" >"${T}/loop.toml"
said="$("${SALLYPORT}" check "${T}/loop.toml" 2>&1 || true)"
matches "the loop" "${said}" 'within itself'

stop cloud
state_is cloud "${T}/before"
