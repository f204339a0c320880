#!/usr/bin/env bash
# `sallyport run` as a service: readiness, the control socket, reload whole or not at all, on trial, under traffic; wg-quick files
# as they are; `wg show` on what a configuration made.
#
#   left  wga (run)  192.0.2.1 ------- 192.0.2.2  wgr (theirs)  right
#         wgb (run)                              wgs (ours)
source "$(dirname "$0")/lib.sh"

host left right
wire left eth0 right eth0
address left eth0 192.0.2.1/24
address right eth0 192.0.2.2/24
tunnel right wgr theirs 10.9.0.2/24
wg set wgr peer "$(pub wga)" allowed-ips 10.9.0.1/32
daemon right wgs ours
wg set wgs private-key "$(key wgs)" listen-port 51821 peer "$(pub wgb)" allowed-ips 10.8.0.1/32
address right wgs 10.8.0.2/24
on right ip link set wgs up
key wga >/dev/null
key wgb >/dev/null

# first > FILE, second > FILE: the configuration with one tunnel, and the part that adds another.
first() {
  cat <<TOML
[tunnel.wga]
private_key_file = "wga.key"
address = "10.9.0.1/24"
[[tunnel.wga.peer]]
name = "right"
public_key = "$(pub wgr)"
endpoint = "192.0.2.2:51820"
allowed_ips = "10.9.0.2/32"
TOML
}
second() {
  cat <<TOML
[tunnel.wgb]
private_key_file = "wgb.key"
listen_port = 51830
address = "10.8.0.1/24"
[[tunnel.wgb.peer]]
name = "right"
public_key = "$(pub wgs)"
endpoint = "192.0.2.2:51821"
allowed_ips = "10.8.0.2/32"
TOML
}
config="${T}/gateway.toml"
first >"${config}"
host_state left >"${T}/before"

tell "READY, WATCHDOG, and the control socket"
python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
while True: print(s.recv(4096).decode().replace("\n", " "), flush=True)' "${T}/notify.sock" >>"${T}/notify" &
wait_for "the notify socket" 5 test -S "${T}/notify.sock"
NOTIFY_SOCKET="${T}/notify.sock" WATCHDOG_USEC=400000 gateway left "${config}"
wait_for "READY=1" 5 grep -q 'READY=1' "${T}/notify"
wait_for "WATCHDOG=1" 5 grep -q 'WATCHDOG=1' "${T}/notify"
equal "the control socket's mode" "$(stat -c %a /run/sallyport/control.sock)" 600
! ip netns exec left "${SALLYPORT}" run --config "${config}" >"${T}/other" 2>&1 || fail "a second daemon is accepted"
matches "the second daemon says" "$(cat "${T}/other")" 'control.sock'
ping_ok left 10.9.0.2
equal "wg show" "$(wg show wga peers)" "$(pub wgr)"
equal "wg show, allowed ips" "$(wg show wga allowed-ips | cut -f2)" "10.9.0.2/32"
matches "wg show, the mark" "$(wg show wga fwmark)" '0x51820'
matches "status" "$("${SALLYPORT}" status wga)" 'wga'
matches "show" "$("${SALLYPORT}" show)" "config: ${config}"

tell "a bad file: every error with its line, nothing changed"
host_state left >"${T}/running"
wg showconf wga >"${T}/running.wg"
unchanged() {
  state_is left "${T}/running"
  equal "$1: wg showconf" "$(wg showconf wga)" "$(cat "${T}/running.wg")"
  ping_ok left 10.9.0.2 1
}
{ first; second; } | sed -e 's|^listen_port = 51830|listen_prot = 51830|' -e 's|192.0.2.2:51821|192.0.2.2|' \
  -e 's|10.9.0.1/24|10.9.0.9/24|' >"${config}"
: >"${T}/notify"
! "${SALLYPORT}" reload >"${T}/refused" 2>&1 || fail "a bad file is accepted"
matches "an unknown key" "$(cat "${T}/refused")" "gateway.toml:$(grep -n listen_prot "${config}" | cut -d: -f1): .*listen_prot.*listen_port"
matches "an endpoint without a port" "$(cat "${T}/refused")" "gateway.toml:$(grep -n '"192.0.2.2"' "${config}" | cut -d: -f1): "
matches "a word to calm down" "$(cat "${T}/refused")" 'nothing has changed'
wait_for "READY=1 after RELOADING=1" 5 grep -q 'READY=1' "${T}/notify"
matches "reloading, then ready" "$(grep -v WATCHDOG "${T}/notify" | tr '\n' ' ')" 'RELOADING=1.*READY=1'
unchanged "a bad file"

tell "what only shows when it is tried: a missing key file, a port that is taken, an interface that is somebody else's"
{ first; second; } | sed -e 's|wgb.key|none.key|' -e 's|10.9.0.1/24|10.9.0.9/24|' >"${config}"
! "${SALLYPORT}" reload >"${T}/refused" 2>&1 || fail "a missing key is accepted"
matches "a missing key" "$(cat "${T}/refused")" "gateway.toml:$(grep -n none.key "${config}" | cut -d: -f1): .*none.key"
unchanged "a missing key"
ip netns exec left socat -u UDP-RECV:51830 OPEN:/dev/null >/dev/null 2>&1 &
squatter=$!
wait_for "the squatter" 5 on left sh -c 'ss -Hlun sport = :51830 | grep -q .'
{ first; second; } | sed -e 's|10.9.0.1/24|10.9.0.9/24|' >"${config}"
! "${SALLYPORT}" reload >"${T}/refused" 2>&1 || fail "a port that is taken is accepted"
matches "a port that is taken" "$(cat "${T}/refused")" 'gateway.toml:[0-9]+: .*51830'
kill "${squatter}"
wait "${squatter}" 2>/dev/null || true
unchanged "a port that is taken"
on left ip link add wgb type veth peer name wgb-peer
! "${SALLYPORT}" reload >"${T}/refused" 2>&1 || fail "an interface of somebody else is taken"
matches "an interface of somebody else" "$(cat "${T}/refused")" 'gateway.toml:[0-9]+: tunnel.wgb: .*wgb'
on left ip link delete wgb
unchanged "an interface of somebody else"

tell "diff, and tunnels that come and go under the traffic of another"
{ first; second; } | sed -e 's|^address = "10.9.0.1/24"|&\nmtu = 1400|' >"${config}"
difference="$("${SALLYPORT}" diff "${config}")"
matches "diff names the tunnel" "${difference}" 'wgb'
matches "diff names the mtu" "${difference}" 'mtu.*1400'
unchanged "diff"
{ first; second; } >"${config}"
listen_iperf right
ip netns exec left iperf3 -J -c 10.9.0.2 -p 5201 -t 5 -b 20M -i 0.5 >"${T}/iperf.json" &
iperf=$!
sleep 0.5
for round in 1 2 3; do
  { first; second; } >"${config}"
  matches "reload says" "$("${SALLYPORT}" reload)" 'wgb'
  ping_ok left 10.8.0.2 1
  equal "wg show interfaces" "$(wg show interfaces | tr ' ' '\n' | grep -c '^wg[ab]$')" 2
  first >"${config}"
  matches "reload says" "$("${SALLYPORT}" reload)" 'wgb'
  ! on left ip link show wgb >/dev/null 2>&1 || fail "round ${round}: wgb is still there"
  [[ ! -e /run/wireguard/wgb.sock ]] || fail "round ${round}: wgb.sock is left behind"
  sleep 0.3
done
equal "reload without a change" "$("${SALLYPORT}" diff "${config}")" "nothing would change"
alive "${iperf}" || fail "iperf3 ended meanwhile: $(jq -r .error "${T}/iperf.json")"
wait "${iperf}" || fail "iperf3: $(jq -r .error "${T}/iperf.json")"
slowest="$(jq '[.intervals[].sum.bits_per_second] | min | floor' "${T}/iperf.json")"
tell "its slowest half second moved $((slowest / 1000000)) Mbit/s of 20"
((slowest > 5000000 / E2E_SLOWNESS)) || fail "the connection stalls while tunnels come and go"
unchanged "tunnels that came and went"

tell "on trial: undone, or confirmed"
{ first; second; } >"${config}"
matches "on trial" "$("${SALLYPORT}" reload --confirm 2)" 'on trial: undone in 2 seconds'
ping_ok left 10.8.0.2 1
matches "show, on trial" "$("${SALLYPORT}" show)" 'confirm s: [12]'
! "${SALLYPORT}" reload >"${T}/refused" 2>&1 || fail "a reload while one is on trial is accepted"
wgb_gone() { ! on left ip link show wgb; }
wait_for "the trial to be undone" 4 wgb_gone
unchanged "a trial that nobody confirmed"
! "${SALLYPORT}" confirm >"${T}/refused" 2>&1 || fail "confirm has nothing to confirm, and does not say so"
"${SALLYPORT}" reload --confirm 2 >/dev/null
"${SALLYPORT}" confirm
sleep 2.2
ping_ok left 10.8.0.2 1
stop gateway
matches "STOPPING=1" "$(tr '\n' ' ' <"${T}/notify")" 'STOPPING=1'
state_is left "${T}/before"

tell "a crash on trial comes back with the configuration before"
first >"${config}"
gateway left "${config}"
{ first; second; } >"${config}"
"${SALLYPORT}" reload --confirm 60 >/dev/null
ping_ok left 10.8.0.2 1
die_gateway
gateway left "${config}"
wgb_gone >/dev/null 2>&1 || fail "the unconfirmed configuration came back"
ping_back left 10.9.0.2 5
stop gateway
state_is left "${T}/before"

tell "a wg-quick file as it is"
cat >"${T}/wga.conf" <<CONF
[Interface]
PrivateKey = $(cat "${T}/wga.key")
Address = 10.9.0.1/24
[Peer]
# right
PublicKey = $(pub wgr)
Endpoint = 192.0.2.2:51820
AllowedIPs = 10.9.0.2/32, 10.99.0.0/16
CONF
address right lo 10.99.0.1/32
gateway left "${T}/wga.conf"
ping_back left 10.9.0.2 5
ping_back left 10.99.0.1 5
equal "the peer's name" "$("${SALLYPORT}" show peers --json | jq -r '.[].name')" right
stop gateway
state_is left "${T}/before"
echo 'PostUp = iptables -t nat -A POSTROUTING -o %i -j MASQUERADE' | sed -i '/^Address/r /dev/stdin' "${T}/wga.conf"
! "${SALLYPORT}" check "${T}/wga.conf" >"${T}/check" 2>&1 || fail "a hook is accepted"
matches "a hook" "$(cat "${T}/check")" 'wga.conf:4: .*masquerade = true'
