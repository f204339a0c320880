#!/usr/bin/env bash
# Sallyport ends with status 0 and leaves nothing behind on SIGTERM, on SIGINT, when its TUN is deleted
# and when its socket file is removed, in the foreground and as a daemon; after kill -9 the same name
# can be taken again.
#
#   left  wgl (ours)  192.0.2.1 ------------- 192.0.2.2  wgr (theirs)  right
source "$(dirname "$0")/lib.sh"

no_trace() { ! on left ip link show wgl && [[ ! -e /run/wireguard/wgl.sock ]]; }

begin() {
  tunnel left wgl ours 10.9.0.1/24 fd09::1/64
  introduce
  ping_back left 10.9.0.2 10
}

# over HOW: the daemon in the foreground ends by itself, with 0, without a trace.
over() {
  local status=0
  ended wgl 5 || status=$?
  equal "status after $1" "${status}" 0
  wait_for "no trace after $1" 2 no_trace
  tell "$1: status 0, nothing left"
}

pair ours theirs
ping_ok left 10.9.0.2
kill -TERM "${pid_of[wgl]}"
over SIGTERM

begin
kill -INT "${pid_of[wgl]}"
over SIGINT

begin
on left ip link delete wgl
over "deleting the TUN"

begin
rm /run/wireguard/wgl.sock
over "removing the socket"

begin
kill -KILL "${pid_of[wgl]}"
ended wgl 5 || true
[[ -S /run/wireguard/wgl.sock ]] || fail "this test means to meet a stale socket"
begin
tell "kill -9: the same name starts again over the stale socket, and the tunnel comes back"
stop wgl

tell "as a daemon"
pid_of_daemon() { pgrep -f -- "${SALLYPORT##*/} wgl$" | head -n 1; }
for way in TERM INT tun socket; do
  on left "${SALLYPORT}" wgl >"${T}/daemon.log" 2>&1 || fail "cannot start as a daemon: $(cat "${T}/daemon.log")"
  require "the socket is there when the command returns" uapi_answers wgl
  require "the TUN is there when the command returns" on left ip link show wgl
  daemon_pid="$(pid_of_daemon)" || fail "no daemon runs"
  case "${way}" in
    tun) on left ip link delete wgl ;;
    socket) rm /run/wireguard/wgl.sock ;;
    *) kill "-${way}" "${daemon_pid}" ;;
  esac
  wait_for "the daemon to end by ${way}" 5 gone "${daemon_pid}"
  wait_for "no trace after ${way}" 2 no_trace
done
