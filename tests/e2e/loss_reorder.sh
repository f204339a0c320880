#!/usr/bin/env bash
# Over a network that loses, doubles, reorders and damages datagrams, a TCP transfer each way arrives
# whole, and ping loses about what the network does.
#
#   left  wgl (ours) --- 192.0.2.1 | relay in the middle | 203.0.113.1 --- wgr (theirs)  right
#                        192.0.2.254                203.0.113.254
source "$(dirname "$0")/lib.sh"

host left middle right
wire left eth0 middle near
wire middle far right eth0
address left eth0 192.0.2.1/24
address middle near 192.0.2.254/24
address middle far 203.0.113.254/24
address right eth0 203.0.113.1/24
tunnel left wgl ours 10.9.0.1/24
tunnel right wgr theirs 10.9.0.2/24

seed="${E2E_SEED:-${RANDOM}}"
tell "seed ${seed} (E2E_SEED=${seed} repeats the choices)"
ip netns exec middle python3 "${E2E_DIR}/relay.py" --listen 192.0.2.254:51820 --to 203.0.113.1:51820 \
  --seed "${seed}" --loss 0.01 --dup 0.02 --late 0.05 --flip 0.005 >"${T}/relay.log" 2>&1 &
wait_for "the relay" 5 grep -q seed "${T}/relay.log"
wg set wgl peer "$(pub wgr)" endpoint 192.0.2.254:51820 allowed-ips 10.9.0.2/32
wg set wgr peer "$(pub wgl)" allowed-ips 10.9.0.1/32

ping_back left 10.9.0.2 20

# send_file FROM TO ADDRESS: a megabyte or two over TCP, compared by checksum.
send_file() {
  head -c $((2000000 / E2E_SLOWNESS)) /dev/urandom >"${T}/sent"
  rm -f "${T}/received"
  ip netns exec "$2" socat -u TCP-LISTEN:7000,reuseaddr "CREATE:${T}/received" &
  local receiver=$!
  wait_for "the receiver" 5 on "$2" sh -c 'ss -Hltn sport = :7000 | grep -q .'
  on "$1" timeout $((25 * E2E_SLOWNESS)) socat -u "FILE:${T}/sent" "TCP:$3:7000" ||
    fail "the transfer from $1 to $2 does not finish"
  wait_for "the receiver to finish" 10 gone "${receiver}"
  equal "checksum from $1 to $2" "$(sha256sum <"${T}/received")" "$(sha256sum <"${T}/sent")"
  tell "$1 to $2: whole"
}
send_file left right 10.9.0.2
send_file right left 10.9.0.1

received="$(on left ping -n -q -c 100 -i 0.02 -W 2 10.9.0.2 | sed -n 's/.* \([0-9]*\) received.*/\1/p')"
tell "${received} of 100 pings answered"
((received >= 85)) || fail "the tunnel loses more than the network does"
