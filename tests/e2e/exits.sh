#!/usr/bin/env bash
# Exits: two peers with 0.0.0.0/0 and ::/0 on one tunnel, both ways at once; rules by source; a failover group with ICMP probes.
# Both exits have the same address of the internet, and so has the net: who answers tells which way a packet went.
#
#   client ------------ gate (sallyport run, wgx)       net   198.18.0.1 (a decoy)
#   10.7.0.2 .3 .4 .5   10.7.0.1                        |
#   fd07::2    fd07::1  eth0 192.0.2.1 -------- 192.0.2.2 +-- 198.51.100.1 --- .7  nl  wgn (ours)   198.18.0.1 2001:db8:18::1
#                                                         +-- 203.0.113.1 ---- .7  us  wgu (theirs) 198.18.0.1 2001:db8:18::1
source "$(dirname "$0")/lib.sh"

host client gate net nl us
wire client eth0 gate lan0
wire gate eth0 net gate0
wire nl eth0 net nl0
wire us eth0 net us0
address client eth0 10.7.0.2/24 10.7.0.3/24 10.7.0.4/24 10.7.0.5/24 10.7.0.6/24 fd07::2/64 fd07::3/64
address gate lan0 10.7.0.1/24 fd07::1/64
address gate eth0 192.0.2.1/24
address net gate0 192.0.2.2/24
address net nl0 198.51.100.1/24
address net us0 203.0.113.1/24
address net lo 198.18.0.1/32 2001:db8:18::1/128
address nl eth0 198.51.100.7/24
address us eth0 203.0.113.7/24
for name in nl us; do
  address "${name}" lo 198.18.0.1/32 2001:db8:18::1/128
done
for name in gate net; do
  on "${name}" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'
done
on client ip route add default via 10.7.0.1
on client ip -6 route add default via fd07::1
on gate ip route add default via 192.0.2.2
on nl ip route add default via 198.51.100.1
on us ip route add default via 203.0.113.1
host_state gate >"${T}/before"

# exit_node NAME IFACE ours|theirs NUMBER: it finds the gate by itself, at its first start and after a crash.
exit_node() {
  tunnel "$1" "$2" "$3" "10.9.0.$4/24" "fd09::$4/64"
  wg set "$2" peer "$(pub wgx)" allowed-ips 10.9.0.1/32,fd09::1/128,10.7.0.0/24,fd07::/64 endpoint 192.0.2.1:51820 \
    persistent-keepalive 1
  on "$1" ip route add 10.7.0.0/24 dev "$2"
  on "$1" ip -6 route add fd07::/64 dev "$2"
}
exit_node nl wgn ours 2
exit_node us wgu theirs 3
for name in net nl us; do
  tell_who "${name}"
done

key wgx >/dev/null
cat >"${T}/exits.toml" <<TOML
[tunnel.wgx]
private_key_file = "wgx.key"
listen_port = 51820
address = ["10.9.0.1/24", "fd09::1/64"]
capture = ["0.0.0.0/0", "::/0"]
[[tunnel.wgx.peer]]
name = "nl"
public_key = "$(pub wgn)"
endpoint = "198.51.100.7:51820"
allowed_ips = ["0.0.0.0/0", "::/0"]
[[tunnel.wgx.peer]]
name = "us"
public_key = "$(pub wgu)"
endpoint = "203.0.113.7:51820"
allowed_ips = ["0.0.0.0/0", "::/0"]

[exit.nl]
peer = "nl"
probe = { target = "10.9.0.2", interval = "200ms", timeout = "200ms", up = 3, down = 3 }
[exit.us]
peer = "us"
probe = { target = "10.9.0.3", interval = "200ms", timeout = "200ms", up = 3, down = 3 }
[exit.out]
group = ["nl", "us"]
sticky = "60s"

[[rule]]
priority = 50
name = "no telnet"
iif = "host"
ipproto = "tcp"
dport = 23
action = "reset"
[[rule]]
priority = 60
name = "this one may not out"
from = "10.7.0.6"
action = "reject"
[[rule]]
priority = 100
from = ["10.7.0.2", "fd07::2"]
exit = "nl"
[[rule]]
priority = 110
from = ["10.7.0.3", "fd07::3"]
exit = "us"
[[rule]]
priority = 200
name = "everybody else"
iif = "host"
to = "!10.9.0.0/24"
exit = "out"
TOML
require "check accepts it" "${SALLYPORT}" check "${T}/exits.toml"
gateway gate "${T}/exits.toml"
alive_is() { [[ "$("${SALLYPORT}" show exits --json | jq -r --arg name "$1" '.[] | select(.name == $name) | .alive')" == "$2" ]]; }
wait_for "nl to be alive" 5 alive_is nl true
wait_for "us to be alive" 5 alive_is us true
alive_is out true || fail "a group with members that are alive is down"

tell "both have 0.0.0.0/0 and ::/0, and the source chooses"
# (What 192.0.2.1 is told by ICMP is of its datagrams to a daemon that is gone.)
capture gate eth0 "${T}/clear" \
  "not arp and not ip6 multicast and not (icmp6 and ip6[40] >= 133) and not port 51820 and not (icmp and dst host 192.0.2.1)"
clear=${capture_pid}
for round in 1 2; do
  equal "10.7.0.2, round ${round}" "$(who client 198.18.0.1 --interface 10.7.0.2)" nl
  equal "10.7.0.3, round ${round}" "$(who client 198.18.0.1 --interface 10.7.0.3)" us
  equal "fd07::2, round ${round}" "$(who client 2001:db8:18::1 --interface fd07::2)" nl
  equal "fd07::3, round ${round}" "$(who client 2001:db8:18::1 --interface fd07::3)" us
  equal "10.7.0.4, round ${round}" "$(who client 198.18.0.1 --interface 10.7.0.4)" nl
done
tell "and both may send from any address, at once"
tell_who client
ip netns exec nl curl -s -m 5 --interface 198.18.0.1 http://10.7.0.2:8080/ >"${T}/from-nl" &
from_nl=$!
# (The answer's way is the source's too: 10.7.0.3 goes to us.)
equal "from us" "$(on us curl -s -m 5 --interface 198.18.0.1 http://10.7.0.3:8080/)" client
wait "${from_nl}" || fail "nl does not reach the client"
equal "from nl" "$(cat "${T}/from-nl")" client

tell "rejected means at once"
rejected() {
  local begun=${EPOCHREALTIME/./} status=0
  on client curl -s -m 5 --interface "$1" "http://198.18.0.1:$2/" >/dev/null 2>&1 || status=$?
  equal "curl's status from $1 to port $2" "${status}" 7
  (((${EPOCHREALTIME/./} - begun) / 1000 < 1500 * E2E_SLOWNESS)) || fail "the refusal took its time"
}
rejected 10.7.0.4 23
rejected 10.7.0.6 8080
matches "the ICMP answer" "$(on client ping -n -c 1 -W 1 -I 10.7.0.6 198.18.0.1 2>&1 || true)" '[Pp]rohibited|[Ff]iltered'

tell "counters by rule, drops by rule, and a live trace with rule and line"
line_of() { grep -n "$1" "${T}/exits.toml" | cut -d: -f1; }
packets() { "${SALLYPORT}" show rules --json | jq --argjson p "$1" '.[] | select(.priority == $p) | .packets'; }
before="$(packets 110)"
ping_ok client 198.18.0.1 5 -I 10.7.0.3
(($(packets 110) == before + 5)) || fail "rule 110 counted $(($(packets 110) - before)) packets of 5"
(($(packets 60) >= 2)) || fail "rule 60 counted $(packets 60) packets"
matches "show rules" "$("${SALLYPORT}" show rules)" "200:  everybody else .*exits.toml:"
matches "show drops" "$("${SALLYPORT}" show drops --json | jq -c '.[] | select(.rule == 60)')" 'by rule'
timeout 20 "${SALLYPORT}" trace --from 10.7.0.2 --ipproto icmp -c 3 --json >"${T}/trace" 2>&1 &
trace=$!
sleep 0.5
on client ping -n -q -c 6 -i 0.2 -I 10.7.0.2 198.18.0.1 >/dev/null
on client ping -n -q -c 2 -i 0.2 -I 10.7.0.3 198.18.0.1 >/dev/null
wait "${trace}" || fail "trace: $(cat "${T}/trace")"
equal "packets traced" "$(grep -c '"packet"' "${T}/trace")" 3
equal "the rule's line" "$(head -n 1 "${T}/trace" | jq -r '[.steps[] | select(.line != null) | .line][0]')" \
  "$(($(line_of 'from = \["10.7.0.2"') - 2))"
matches "its verdict" "$(head -n 1 "${T}/trace" | jq -r .verdict)" 'nl'
matches "explain agrees" "$("${SALLYPORT}" explain --from 10.7.0.2 --to 198.18.0.1 --proto icmp)" 'rule 100.*wgx/nl'
matches "explain, the group" "$("${SALLYPORT}" explain --from 10.7.0.5 --to 198.18.0.1 --proto icmp)" \
  'rule 200.*exit out.*member nl: the first that is alive.*wgx/nl'
matches "explain, rejected" "$("${SALLYPORT}" explain --from 10.7.0.6 --to 198.18.0.1)" 'rule 60'
matches "explain, a peer's packet" "$("${SALLYPORT}" explain --from 198.18.0.1 --to 10.7.0.2 --peer us)" 'host'

tell "nl dies: the group moves within the probe's time, what runs by us does not notice"
ip netns exec client curl -s -N -m 60 --interface 10.7.0.3 http://198.18.0.1:8080/slow >"${T}/by-us" 2>&1 &
by_us=$!
wait_for "a connection by us" 5 test -s "${T}/by-us"
kill -KILL "${pid_of[wgn]}"
wait "${pid_of[wgn]}" 2>/dev/null || true
unset "pid_of[wgn]"
died=${EPOCHREALTIME/./}
who_is client 198.18.0.1 us 3 --interface 10.7.0.4
took=$(((${EPOCHREALTIME/./} - died) / 1000))
tell "moved after ${took} ms"
alive_is nl false || fail "nl is said to be alive"
alive_is out true || fail "the group is said to be down"
matches "explain, the group" "$("${SALLYPORT}" explain --from 10.7.0.5 --to 198.18.0.1 --proto icmp)" 'member us.*wgx/us'
ip netns exec client curl -s -N -m 60 --interface 10.7.0.4 http://198.18.0.1:8080/slow >"${T}/moved" 2>&1 &
moved=$!
wait_for "a connection by the group" 5 grep -q us "${T}/moved"

tell "nl is back: what runs stays where it is, new flows return"
exit_node nl wgn ours 2
back=${EPOCHREALTIME/./}
wait_for "nl to be alive again" 10 alive_is nl true
tell "alive after $(((${EPOCHREALTIME/./} - back) / 1000)) ms"
who_is client 198.18.0.1 nl 3 --interface 10.7.0.4
lines="$(wc -l <"${T}/moved")"
sleep 0.5
alive "${moved}" || fail "the flow that had moved ended when nl came back"
(($(wc -l <"${T}/moved") > lines)) || fail "the flow that had moved stands still"
alive "${by_us}" || fail "the flow by us ended"
(($(wc -l <"${T}/by-us") > 15)) || fail "the flow by us stood still: $(wc -l <"${T}/by-us") lines"
kill "${moved}" "${by_us}"

tell "all down: closed"
kill -KILL "${pid_of[wgn]}" "${pid_of[wgu]}"
wait "${pid_of[wgn]}" "${pid_of[wgu]}" 2>/dev/null || true
unset "pid_of[wgn]" "pid_of[wgu]"
wait_for "the group to be down" 5 alive_is out false
equal "the group" "$(who client 198.18.0.1 --interface 10.7.0.4)" nobody
equal "a single exit" "$(who client 198.18.0.1 --interface 10.7.0.2)" nobody
matches "explain, all down" "$("${SALLYPORT}" explain --from 10.7.0.5 --to 198.18.0.1 --proto icmp)" 'down.*closed'
end_capture "${clear}"
captured_nothing "${T}/clear" || fail "in clear on the wire: $(head -n 2 "${T}/clear")"
stop gateway
state_is gate "${T}/before"
