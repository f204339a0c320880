#!/usr/bin/env bash
# The UAPI spoken raw: a set is all or nothing, errors carry a negative errno, several requests share a
# connection, an allowed ip goes with a leading minus, update_only makes nothing.
#
#   one host, wgl (ours)
source "$(dirname "$0")/lib.sh"

host left
tunnel left wgl ours 10.9.0.1/24
one="$(hex "$(pub one)")"
two="$(hex "$(pub two)")"

# ask LINES...: one request; its answer on one line.
ask() { printf '%s\n' "$@" "" | uapi wgl | xargs; }

equal "a good set" "$(ask set=1 "public_key=${one}" allowed_ip=10.1.0.0/16 allowed_ip=fd01::/32 \
  endpoint=192.0.2.9:5 persistent_keepalive_interval=9)" errno=0
matches "get" "$(ask get=1)" "public_key=${one} .*endpoint=192.0.2.9:5 .*errno=0\$"
matches "get" "$(ask get=1)" "persistent_keepalive_interval=9"
matches "get" "$(ask get=1)" "allowed_ip=10.1.0.0/16"
matches "get" "$(ask get=1)" "protocol_version=1"

tell "a bad line in the middle changes nothing"
before="$(wg showconf wgl)"
for bad in endpoint=nonsense endpoint=192.0.2.1 allowed_ip=10.0.0.0/33 allowed_ip=what \
  persistent_keepalive_interval=65536 preshared_key=abc unknown_key=1 protocol_version=2 \
  listen_port=1 public_key=zz remove=false nonsense; do
  answer="$(ask set=1 "public_key=${two}" allowed_ip=10.2.0.0/16 "public_key=${one}" \
    replace_allowed_ips=true "${bad}" allowed_ip=10.3.0.0/16)"
  matches "the answer to ${bad}" "${answer}" '^errno=-[0-9]+$'
  equal "the configuration after ${bad}" "$(wg showconf wgl)" "${before}"
done
for bad in private_key=12 listen_port=65536 fwmark=4294967296 replace_peers=false; do
  matches "the answer to ${bad}" "$(ask set=1 "${bad}" "public_key=${two}")" '^errno=-[0-9]+$'
  equal "the configuration after ${bad}" "$(wg showconf wgl)" "${before}"
done
equal "EINVAL" "$(ask set=1 unknown_key=1)" errno=-22

tell "details of the grammar"
equal "update_only of a stranger" "$(ask set=1 "public_key=${two}" update_only=true allowed_ip=10.2.0.0/16)" errno=0
equal "peers" "$(wg show wgl peers | wc -l)" 1
equal "a removal" "$(ask set=1 "public_key=${one}" allowed_ip=-10.1.0.0/16)" errno=0
equal "what is left" "$(wg show wgl allowed-ips | cut -f2)" fd01::/32
equal "removing a stranger" "$(ask set=1 "public_key=${two}" remove=true)" errno=0
equal "peers" "$(wg show wgl peers | wc -l)" 1
equal "replace_peers" "$(ask set=1 replace_peers=true "public_key=${two}")" errno=0
equal "peers" "$(wg show wgl peers)" "$(pub two)"

printf 'get=1\n\nset=1\nfwmark=7\n\nget=1\n\n' | uapi wgl >"${T}/three"
equal "answers on one connection" "$(grep -c '^errno=0' "${T}/three")" 3
matches "the last answer" "$(tail -n +3 "${T}/three" | xargs)" 'fwmark=7 .*errno=0$'

tell "a port in use"
on left socat -u UDP-RECV:5555 /dev/null &
wait_for "the port to be taken" 5 on left sh -c 'ss -Hlun sport = :5555 | grep -q .'
equal "EADDRINUSE" "$(ask set=1 listen_port=5555)" errno=-98
equal "the port afterwards" "$(wg show wgl listen-port)" 51820

tell "garbage, and a thousand connections"
head -c 100000 /dev/urandom | socat -u - UNIX-CONNECT:/run/wireguard/wgl.sock 2>/dev/null || true
head -c 3000000 /dev/zero | tr '\0' 'a' | socat -u - UNIX-CONNECT:/run/wireguard/wgl.sock 2>/dev/null || true
python3 - <<'PYTHON'
import socket
held = []
for _ in range(1000):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(5)
    try:
        s.connect("/run/wireguard/wgl.sock")
    except OSError:
        break
    held.append(s)
PYTHON
wait_for "an answer after that" 5 uapi_answers wgl
