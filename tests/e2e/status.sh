#!/usr/bin/env bash
# `sallyport status [INTERFACE] [--json]`: what it says of a tunnel agrees with wg and with what happened,
# losses have names, no secret is in it, and for what does not exist it says so and exits with 1.
#
#   left  wgl (ours)  192.0.2.1 ------------- 192.0.2.2  wgr (theirs)  right
source "$(dirname "$0")/lib.sh"

pair ours theirs
ping_ok left 10.9.0.2 20
# One packet that no peer has, so that one loss has a name.
on left ping -n -c 1 -W 1 10.9.0.99 >/dev/null 2>&1 || true

"${SALLYPORT}" status wgl --json >"${T}/status.json" || fail "status --json does not succeed"
# says WHAT JQ_EXPRESSION: the expression holds.
says() { jq -e "$2" "${T}/status.json" >/dev/null || fail "$1: not ($2) in $(jq -c . "${T}/status.json" | head -c 3000)"; }
says "the interface" '.interface == "wgl" and .up and .mtu == 1420 and .listen_port == 51820'
says "the process" ".pid == ${pid_of[wgl]}"
says "the public key" ".public_key == \"$(pub wgl)\""
says "the peer" "(.peers | length) == 1 and .peers[0].public_key == \"$(pub wgr)\""
says "the endpoint" '.peers[0].endpoint == "192.0.2.2:51820"'
says "the allowed ips" '(.peers[0].allowed_ips | sort) == ["10.9.0.2/32", "fd09::2/128"]'
says "packets" '.peers[0].rx_packets >= 20 and .peers[0].tx_packets >= 20'
says "bytes" ".peers[0].rx_bytes == $(transfer wgl "$(pub wgr)" rx) and .peers[0].tx_bytes == $(transfer wgl "$(pub wgr)" tx)"
says "handshakes" '.handshakes.initiated + .handshakes.answered >= 1 and .handshakes.sessions >= 1'
says "workers" '(.workers | length) >= 1 and all(.workers[]; .load >= 0 and .load <= 1)'
says "offloads" '[.plain_ports[], .outer_ports[]] | map(.offloads | length) | add > 0'
says "why an offload is off" 'all(.plain_ports[].offloads[], .outer_ports[].offloads[]; .on or .reason != "")'
says "a named loss" '(.totals.drops | to_entries | length) >= 1 and all(.totals.drops[]; . > 0)'
! grep -qF "$(cat "$(key wgl)")" "${T}/status.json" || fail "the private key is in it"
! grep -qiF "$(hex "$(cat "$(key wgl)")")" "${T}/status.json" || fail "the private key is in it"
tell "losses: $(jq -c .totals.drops "${T}/status.json")"

text="$("${SALLYPORT}" status wgl)"
matches "the text names the tunnel" "${text}" wgl
matches "the text names the peer" "${text}" "192.0.2.2:51820"
matches "status of all" "$("${SALLYPORT}" status)" wgl

status=0
"${SALLYPORT}" status nothing >"${T}/nothing.log" 2>&1 || status=$?
equal "status of what is not there" "${status}" 1
equal "lines about it" "$(grep -c . "${T}/nothing.log")" 1
