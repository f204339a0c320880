# shellcheck shell=bash
# What every end-to-end test stands on. A test is one script in this folder: it sources this file,
# builds hosts from network namespaces, runs the real program between them, and either reaches its
# end or calls `fail` with a reason.
#
# Isolation: the script runs itself again inside its own mount, network and process namespaces, with
# a /run of its own. So UAPI sockets, named namespaces, nft tables and processes of two tests never
# meet, and whatever a test leaves behind is gone with the namespaces, kill -9 included.
#
# Exit status: 0 passed, 77 skipped (no root, no TUN), anything else failed.
# SALLYPORT names the program under test, WGGO the reference it talks to; E2E_SLOWNESS multiplies
# every patience (sanitizer builds set it).
set -Eeuo pipefail
export LC_ALL=C

E2E_DIR="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
REPO="$(cd "${E2E_DIR}/../.." && pwd)"
export SALLYPORT="${SALLYPORT:-${REPO}/build/sallyport}"
export WGGO="${WGGO:-/usr/bin/wireguard-go}"
E2E_SLOWNESS="${E2E_SLOWNESS:-1}"

skip() {
  echo "skip: $*"
  exit 77
}

if [[ -z "${E2E_ISOLATED:-}" ]]; then
  ((EUID == 0)) || skip "needs root, for network namespaces"
  [[ -c /dev/net/tun ]] || skip "needs /dev/net/tun"
  unshare --mount --net --pid --fork true 2>/dev/null || skip "may not make namespaces here"
  [[ -x "${SALLYPORT}" ]] || { echo "no program at ${SALLYPORT}: run ./dev build"; exit 1; }
  exec env E2E_ISOLATED=1 unshare --mount --net --pid --fork --kill-child --mount-proc \
    --propagation private bash "$0" "$@"
fi

mount -t tmpfs none /run
mkdir -p /run/netns /run/wireguard /run/e2e /run/lock
T=/run/e2e
umask 077
for sanitizer in ASAN UBSAN TSAN LSAN; do
  options="${sanitizer}_OPTIONS"
  export "${options}=${!options:+${!options}:}log_path=${T}/sanitizer"
done

declare -A pid_of=() impl_of=()

# --- ending ------------------------------------------------------------------------------------

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# The reason is the first line a reader wants, the logs the second.
unexpected() { echo "FAILED: line $1: \`$2' gave $3" >&2; }
trap 'unexpected "${LINENO}" "${BASH_COMMAND}" "$?"' ERR

show_evidence() {
  local log
  for log in "${T}"/*.log; do
    [[ -s "${log}" ]] || continue
    echo "--- last lines of $(basename "${log}")"
    tail -n 15 "${log}"
  done
  timeout 5 wg show all 2>/dev/null | head -n 30 || true
}

sanitizers_quiet() {
  local report
  for report in "${T}"/sanitizer.*; do
    [[ -e "${report}" ]] || continue
    echo "FAILED: a sanitizer reports:"
    head -n 60 "${report}"
    return 1
  done
  ! grep -n 'runtime error:' "${T}"/*.log || return 1
}

finish() {
  local status=$?
  trap - ERR EXIT
  set +e
  if ((status == 0)); then
    local name
    for name in "${!pid_of[@]}"; do
      stop "${name}" || status=1
    done
  fi
  sanitizers_quiet >&2 || status=1
  ((status == 0 || status == 77)) || show_evidence >&2
  exit "${status}"
}
trap finish EXIT

# --- waiting -----------------------------------------------------------------------------------

# wait_for WHAT SECONDS COMMAND...: polls until the command succeeds, or fails naming WHAT.
wait_for() {
  local what="$1" seconds="$2"
  shift 2
  local end=$((SECONDS + seconds * 3 * E2E_SLOWNESS))  # generous: it costs time only when it fails
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || fail "waited ${seconds} s for ${what}"
    sleep 0.05
  done
}

# require WHAT COMMAND...: fails with WHAT unless the command succeeds.
require() {
  local what="$1"
  shift
  "$@" >/dev/null 2>&1 || fail "${what}"
}

# equal WHAT ACTUAL EXPECTED
equal() { [[ "$2" == "$3" ]] || fail "$1: got '$2', wanted '$3'"; }

# matches WHAT ACTUAL REGEX
matches() { [[ "$2" =~ $3 ]] || fail "$1: '$2' does not match '$3'"; }

tell() { echo "  $*"; }

# --- hosts and wires ---------------------------------------------------------------------------

# host NAME...: a network namespace with loopback up and addresses usable at once (no DAD).
host() {
  local name
  for name in "$@"; do
    ip netns add "${name}"
    on "${name}" sh -c 'ip link set lo up
      echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad
      echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad'
  done
}

# on HOST COMMAND...
on() {
  local name="$1"
  shift
  ip netns exec "${name}" "$@"
}

# wire A IFA B IFB [MTU]: a veth between two hosts, up at both ends.
wire() {
  ip link add "$2" netns "$1" mtu "${5:-1500}" type veth peer name "$4" netns "$3" mtu "${5:-1500}"
  on "$1" ip link set "$2" up
  on "$3" ip link set "$4" up
}

# address HOST IFACE ADDRESS...
address() {
  local name="$1" iface="$2" each
  shift 2
  for each in "$@"; do
    on "${name}" ip address add "${each}" dev "${iface}"
  done
}

# --- tunnels -----------------------------------------------------------------------------------

# key NAME: makes NAME's key pair once; prints the path of the private key.
key() {
  [[ -e "${T}/$1.key" ]] || {
    wg genkey >"${T}/$1.key"
    wg pubkey <"${T}/$1.key" >"${T}/$1.pub"
  }
  echo "${T}/$1.key"
}

# pub NAME: prints NAME's public key.
pub() {
  key "$1" >/dev/null
  cat "${T}/$1.pub"
}

# hex BASE64: the same key as the UAPI writes it.
hex() { base64 -d <<<"$1" | od -An -v -tx1 | tr -d ' \n'; }

program_of() {
  case "$1" in
    ours) echo "${SALLYPORT}" ;;
    theirs) echo "${WGGO}" ;;
    *) fail "no implementation called $1" ;;
  esac
}

# daemon HOST IFACE ours|theirs: starts it in the foreground, logged, and waits for its socket.
daemon() {
  local program
  program="$(program_of "$3")"
  rm -f "/run/wireguard/$2.sock"
  # Not through `on`: a function in the background is a shell of its own, and we want the program's pid.
  LOG_LEVEL="${LOG_LEVEL:-debug}" ip netns exec "$1" "${program}" -f "$2" >>"${T}/$2.log" 2>&1 &
  pid_of[$2]=$!
  impl_of[$2]="$3"
  wait_for "the UAPI socket of $2" 10 answers_or_gone "$2"
  alive "${pid_of[$2]}" || fail "$2 ended at its start"
}

answers_or_gone() { uapi_answers "$1" || gone "${pid_of[$1]}"; }
uapi_answers() { wg show "$1" listen-port; }

# tunnel HOST IFACE ours|theirs ADDRESS...: a daemon with a key, port 51820, addresses, up.
tunnel() {
  local name="$1" iface="$2" impl="$3"
  shift 3
  daemon "${name}" "${iface}" "${impl}"
  wg set "${iface}" private-key "$(key "${iface}")" listen-port 51820
  address "${name}" "${iface}" "$@"
  on "${name}" ip link set "${iface}" mtu "${TUNNEL_MTU:-1420}" up
  # A daemon hears of "up" a moment after ip(8) has returned.
  wait_for "the port of ${iface}" 5 on "${name}" sh -c 'ss -Hlun sport = :51820 | grep -q .'
}

# alive PID: neither gone nor a zombie.
alive() { [[ -d "/proc/$1" ]] && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null; }
gone() { ! alive "$1"; }

# ended IFACE SECONDS: the daemon ends by itself in time; prints nothing, returns its status.
ended() {
  local pid="${pid_of[$1]}" status=0
  wait_for "$1 to end" "$2" gone "${pid}"
  unset "pid_of[$1]"
  wait "${pid}" || status=$?
  return "${status}"
}

# stop IFACE: asks by SIGTERM. Ours must end with status 0 and take socket and TUN along.
stop() {
  local iface="$1" status=0 impl="${impl_of[$1]}"
  kill -TERM "${pid_of[$1]}" 2>/dev/null || true
  ended "${iface}" 10 || status=$?
  [[ "${impl}" == ours ]] || return 0
  ((status == 0)) || { echo "FAILED: ${iface} ended with status ${status}" >&2; return 1; }
  [[ ! -e "/run/wireguard/${iface}.sock" ]] || { echo "FAILED: ${iface}.sock left behind" >&2; return 1; }
}

# pair LEFT_IMPL RIGHT_IMPL: two hosts on one wire, a tunnel between them, both ends know the other.
#
#   left   wgl  10.9.0.1/24  fd09::1/64             right  wgr  10.9.0.2/24  fd09::2/64
#          eth0 192.0.2.1  2001:db8::1 ------------------- eth0 192.0.2.2  2001:db8::2
#
# OUTER=6 makes the endpoints IPv6. WIRE_MTU, TUNNEL_MTU as named.
pair() {
  host left right
  wire left eth0 right eth0 "${WIRE_MTU:-1500}"
  address left eth0 192.0.2.1/24 2001:db8::1/64
  address right eth0 192.0.2.2/24 2001:db8::2/64
  tunnel left wgl "$1" 10.9.0.1/24 fd09::1/64
  tunnel right wgr "$2" 10.9.0.2/24 fd09::2/64
  introduce
}

endpoint_of() {
  case "${OUTER:-4}-$1" in
    4-left) echo 192.0.2.1:51820 ;;
    4-right) echo 192.0.2.2:51820 ;;
    6-left) echo '[2001:db8::1]:51820' ;;
    6-right) echo '[2001:db8::2]:51820' ;;
  esac
}

# introduce: the peers of `pair`. ONLY=left gives the endpoint to left alone, so left must begin.
introduce() {
  local knows_left=() knows_right=()
  [[ "${ONLY:-left}" != left ]] || knows_right=(endpoint "$(endpoint_of right)")
  [[ "${ONLY:-right}" != right ]] || knows_left=(endpoint "$(endpoint_of left)")
  wg set wgl peer "$(pub wgr)" allowed-ips 10.9.0.2/32,fd09::2/128 "${knows_right[@]}"
  wg set wgr peer "$(pub wgl)" allowed-ips 10.9.0.1/32,fd09::1/128 "${knows_left[@]}"
}

# quick HOST PROGRAM ARGUMENTS...: wg-quick there, with PROGRAM as its userspace implementation. wg-quick
# takes the kernel's WireGuard where it can, so a kernel that has it is made to look as if it had not.
quick() {
  local name="$1" program="$2"
  shift 2
  if [[ ! -x "${T}/bin/wg-quick" ]]; then
    mkdir -p "${T}/bin"
    cp "$(command -v wg-quick)" "${T}/bin/wg-quick"  # it looks for ip beside itself first
    cat >"${T}/bin/ip" <<SCRIPT
#!/bin/sh
case "\$*" in
  "link add "*" type wireguard") echo "Error: Unknown device type." >&2; exit 2 ;;
esac
exec $(command -v ip) "\$@"
SCRIPT
    chmod +x "${T}/bin/wg-quick" "${T}/bin/ip"
  fi
  local hide=""
  [[ ! -e /sys/module/wireguard ]] || hide="mount -t tmpfs none /sys/module;"
  WG_QUICK_USERSPACE_IMPLEMENTATION="${program}" on "${name}" \
    sh -c "${hide} exec \"\$0\" \"\$@\"" "${T}/bin/wg-quick" "$@"
}

# --- gateways: `sallyport run` -------------------------------------------------------------------

# gateway HOST CONFIG [NAME]: the daemon of a configuration file, ready when this returns. `stop NAME`, log NAME.log. A test with
# several gives each a name, which is where its control socket is: `ask NAME show flows`. Without one it is "gateway", in the usual place.
gateway() {
  local name="${3:-gateway}"
  RUNTIME_DIRECTORY="$(run_directory "${name}")" LOG_LEVEL="${LOG_LEVEL:-debug}" ip netns exec "$1" "${SALLYPORT}" run --config "$2" \
    >>"${T}/${name}.log" 2>&1 &
  pid_of[${name}]=$!
  impl_of[${name}]=ours
  wait_for "the control socket of ${name}" 15 gateway_serves_or_gone "${name}"
  alive "${pid_of[${name}]}" || fail "${name} ended at its start: $(tail -n 3 "${T}/${name}.log")"
}
run_directory() {
  local directory=/run/sallyport
  [[ "$1" == gateway ]] || directory="/run/gateways/$1"
  mkdir -p "${directory}"
  echo "${directory}"
}
ask() {
  local name="$1"
  shift
  RUNTIME_DIRECTORY="$(run_directory "${name}")" timeout $((10 * E2E_SLOWNESS)) "${SALLYPORT}" "$@"
}
gateway_serves_or_gone() { gateway_serves "$1" || gone "${pid_of[$1]}"; }
gateway_serves() { ask "$1" show; }

# die_gateway: kill -9, and nothing is tidied up by anybody.
die_gateway() {
  kill -KILL "${pid_of[gateway]}"
  wait "${pid_of[gateway]}" 2>/dev/null || true
  unset "pid_of[gateway]"
}

# said WORDS...: the verdict of `explain`, or what it complains of.
said() { "${SALLYPORT}" explain --json "$@" 2>&1 | jq -r '.verdict' 2>/dev/null; }

# host_state HOST: links, addresses, rules and routes, as text to be compared.
host_state() {
  local what
  for what in "-d link" "address" "-4 rule" "-6 rule" "-4 route show table all" "-6 route show table all"; do
    echo "# ip ${what}"
    # shellcheck disable=SC2086
    on "$1" ip ${what} | sed -E 's/ (expires|valid_lft|preferred_lft) [^ ]*//g'
  done
}

# state_is HOST FILE: fails the test, with the difference, when the host does not come to be what FILE says.
state_is() {
  local try
  for ((try = 0; try < 40 * E2E_SLOWNESS; try++)); do
    ! diff "$2" <(host_state "$1") >"${T}/state.diff" || return 0
    sleep 0.05
  done
  fail "$1 is not what it was: $(cat "${T}/state.diff")"
}

# --- traffic -----------------------------------------------------------------------------------

# ping_ok HOST ADDRESS [COUNT [ping options...]]: every echo comes back. Packets sent before the
# session exists wait for it, so not even the first may be lost.
ping_ok() {
  local name="$1" to="$2" count="${3:-3}" output
  shift $(($# < 3 ? $# : 3))
  output="$(on "${name}" ping -n -q -c "${count}" -i 0.1 -W $((3 * E2E_SLOWNESS)) "$@" "${to}" 2>&1)" ||
    fail "${name} cannot ping ${to}: ${output##*---}"
  matches "${name} pings ${to}" "${output}" ' 0% packet loss'
}

# ping_dead HOST ADDRESS: no echo comes back.
ping_dead() { ! on "$1" ping -n -q -c 2 -i 0.2 -W 1 "$2" >/dev/null 2>&1 || fail "$1 reaches $2, and should not"; }

# ping_back HOST ADDRESS SECONDS: an echo comes back within the time, however many get lost first.
ping_back() { wait_for "$1 to reach $2" "$3" on "$1" ping -n -q -c 1 -W 1 "$2"; }

# listen_iperf HOST [ADDRESS]: an iperf3 server, ready when this returns. One of several addresses has to be named for UDP: it answers by it.
listen_iperf() {
  ip netns exec "$1" iperf3 -s ${2:+-B "$2"} -p 5201 --forceflush >"${T}/iperf-server.log" 2>&1 &
  idle_iperf
}

# idle_iperf: returns when the server is done with the client before; it refuses a second one.
idle_iperf() { wait_for "the iperf3 server" 5 iperf_is_idle; }
iperf_is_idle() {
  local log="${T}/iperf-server.log"
  (($(grep -c 'Server listening' "${log}") > $(grep -c 'Accepted connection' "${log}")))
}

# iperf_bps HOST ADDRESS [iperf3 options...]: runs a client, prints received bits per second.
iperf_bps() {
  local name="$1" to="$2"
  shift 2
  [[ ! -e "${T}/iperf-server.log" ]] || idle_iperf
  on "${name}" iperf3 -J -c "${to}" -p 5201 "$@" >"${T}/iperf.json" ||
    fail "iperf3 $*: $(jq -r '.error // "no reason given"' "${T}/iperf.json")"
  jq -r '(.end.sum_received // .end.sum).bits_per_second | floor' "${T}/iperf.json"
}

# transfer IFACE PEER rx|tx: the counter as wg shows it.
transfer() {
  local column=2
  [[ "$3" == rx ]] || column=3
  wg show "$1" transfer | awk -v key="$2" -v c="${column}" '$1 == key { print $c }'
}

# handshake_time IFACE PEER: seconds since the epoch, 0 for never.
handshake_time() { wg show "$1" latest-handshakes | awk -v key="$2" '$1 == key { print $2 }'; }

# uapi IFACE: sends standard input as one request, prints the answer.
uapi() { socat -t 2 - "UNIX-CONNECT:/run/wireguard/$1.sock"; }

# tell_who HOST [NAME]: a web server there, on every address, that says NAME (or HOST) on port 8080. `/slow`: that, and
# then a line every tenth of a second for as long as somebody reads.
tell_who() {
  ip netns exec "$1" python3 "${E2E_DIR}/who.py" "${2:-$1}" >"${T}/who-$1.log" 2>&1 &
  wait_for "the web server of $1" 10 on "$1" curl -s -m 1 http://127.0.0.1:8080/
}

# who HOST ADDRESS [curl options...]: which web server answers there; "nobody" when none does.
who() {
  local name="$1" to="$2"
  shift 2
  [[ "${to}" != *:* ]] || to="[${to}]"
  on "${name}" curl -s -m $((2 * E2E_SLOWNESS)) "$@" "http://${to}:8080/" || echo nobody
}

# seen_as HOST ADDRESS [curl options...]: from which address the web server there sees HOST; "nobody" when there is no answer.
seen_as() {
  local name="$1" to="$2"
  shift 2
  [[ "${to}" != *:* ]] || to="[${to}]"
  on "${name}" curl -s -m $((2 * E2E_SLOWNESS)) "$@" "http://${to}:8080/you" || echo nobody
}

# who_is HOST ADDRESS NAME SECONDS [curl options...]: it comes to be that one.
who_is() {
  local name="$1" to="$2" wanted="$3" seconds="$4"
  shift 4
  wait_for "${wanted} to answer ${name} at ${to}" "${seconds}" answered_by "${name}" "${to}" "${wanted}" "$@"
}
answered_by() { [[ "$(who "$1" "$2" "${@:4}")" == "$3" ]]; }

# capture HOST IFACE FILE FILTER...: tcpdump into FILE (text, one packet a line), ready when it returns.
capture() {
  local name="$1" iface="$2" file="$3"
  shift 3
  ip netns exec "${name}" tcpdump --immediate-mode -l -n -v -i "${iface}" "$@" >"${file}" 2>"${file}.state" &
  capture_pid=$!
  wait_for "tcpdump on ${iface}" 5 grep -q 'listening on' "${file}.state"
}

# end_capture [PID]: ends that capture, or the last one; its file is complete when this returns. tcpdump ends its output with an empty
# line when it is interrupted, so "nothing was captured" is `captured_nothing FILE`, not an empty file.
end_capture() {
  kill "${1:-${capture_pid}}" 2>/dev/null || true
  wait "${1:-${capture_pid}}" 2>/dev/null || true
}
captured_nothing() { ! grep -q . "$1"; }
