#!/usr/bin/env bash
# What goes wrong at the start is said in one clear line on standard error, with status 1, and leaves
# nothing behind: no TUN, no socket, no process.
#
#   one host, no tunnel comes up
source "$(dirname "$0")/lib.sh"

host left

# refuses NAME REGEX COMMAND...: the command fails with 1 and exactly one line, matching REGEX.
refuses() {
  local name="$1" regex="$2" status=0
  shift 2
  on left "$@" >"${T}/stdout" 2>"${T}/stderr.log" || status=$?
  equal "status of ${name}" "${status}" 1
  equal "lines about ${name}" "$(grep -c . "${T}/stderr.log")" 1
  matches "the line about ${name}" "$(tr '[:upper:]' '[:lower:]' <"${T}/stderr.log")" "${regex}"
  tell "${name}: $(cat "${T}/stderr.log")"
}

for mode in "" -f; do
  # shellcheck disable=SC2086
  refuses "no /dev/net/tun ${mode}" '/dev/net/tun' unshare --mount \
    sh -c "mount -t tmpfs none /dev/net && exec '${SALLYPORT}' ${mode} wgl"
  # shellcheck disable=SC2086
  refuses "no capability ${mode}" 'cap_net_admin|root' \
    setpriv --bounding-set -net_admin "${SALLYPORT}" ${mode} wgl
  on left ip link add taken type veth peer name taken-peer
  # shellcheck disable=SC2086
  refuses "a name taken by another link ${mode}" taken "${SALLYPORT}" ${mode} taken
  on left ip link delete taken
  # shellcheck disable=SC2086
  refuses "a name too long ${mode}" 'sixteen-letters|15' "${SALLYPORT}" ${mode} sixteen-letters-
  # shellcheck disable=SC2086
  refuses "a name with a slash ${mode}" 'name' "${SALLYPORT}" ${mode} a/b
done
equal "sockets left behind" "$(ls /run/wireguard)" ""
equal "links left behind" "$(on left ip -o link | grep -vc ' lo:' || true)" 0

tell "what a running one refuses"
tunnel left wgl ours 10.9.0.1/24
refuses "a second one of the same name" wgl "${SALLYPORT}" -f wgl
require "the first one still answers" uapi_answers wgl
on left socat -u UDP-RECV:5555 /dev/null &
wait_for "the port to be taken" 5 on left sh -c 'ss -Hlun sport = :5555 | grep -q .'
refuses "a port in use" 'address already in use' wg set wgl listen-port 5555
refuses "a bad key" 'key' wg set wgl peer nonsense
equal "the port afterwards" "$(wg show wgl listen-port)" 51820
