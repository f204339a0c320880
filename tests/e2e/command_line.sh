#!/usr/bin/env bash
# The command line and the environment that people already have: --version, --help, -f, both names of
# it, the variables of wireguard-go, thread counts.
#
#   one host; then left  wgl (ours) ------------- wgr (theirs)  right
source "$(dirname "$0")/lib.sh"

matches "--version" "$("${SALLYPORT}" --version)" '[0-9]+\.[0-9]+'
matches "--help" "$("${SALLYPORT}" --help)" 'status'
status=0
"${SALLYPORT}" >"${T}/bare.log" 2>&1 || status=$?
((status != 0)) || fail "no arguments at all are accepted"
status=0
"${SALLYPORT}" --no-such-option wgx >"${T}/bare.log" 2>&1 || status=$?
((status != 0)) || fail "an unknown option is accepted"

host left right
for threads in 1 2 5; do
  tell "WG_THREADS=${threads}"
  [[ -e "/run/e2e/wired" ]] || {
    wire left eth0 right eth0
    address left eth0 192.0.2.1/24
    address right eth0 192.0.2.2/24
    touch /run/e2e/wired
  }
  export WG_THREADS="${threads}" WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD=1
  tunnel left wgl ours 10.9.0.1/24
  tunnel right wgr theirs 10.9.0.2/24
  introduce
  ping_ok left 10.9.0.2 20
  stop wgl
  stop wgr
done
unset WG_THREADS

tell "--foreground, WG_PROCESS_FOREGROUND, each LOG_LEVEL"
for level in verbose debug error silent nonsense; do
  LOG_LEVEL="${level}" ip netns exec left "${SALLYPORT}" --foreground wgl >"${T}/${level}.log" 2>&1 &
  pid_of[wgl]=$! impl_of[wgl]=ours
  wait_for "the socket with LOG_LEVEL=${level}" 5 uapi_answers wgl
  stop wgl
done
WG_PROCESS_FOREGROUND=1 ip netns exec left "${SALLYPORT}" wgl >"${T}/env.log" 2>&1 &
pid_of[wgl]=$! impl_of[wgl]=ours
wait_for "the socket with WG_PROCESS_FOREGROUND" 5 uapi_answers wgl
alive "${pid_of[wgl]}" || fail "WG_PROCESS_FOREGROUND=1 does not stay in the foreground"
stop wgl
[[ ! -s "${T}/silent.log" ]] || fail "LOG_LEVEL=silent still says: $(head -n 2 "${T}/silent.log")"
