#!/usr/bin/env bash
# Every subcommand of wg(8) on a living tunnel: all forms of show, showconf, setconf, addconf, syncconf and
# set with removal, allowed-ip moves, live change of private key, port and mark.
#
#   left  wgl (ours)  192.0.2.1 ------------- 192.0.2.2  wgr (theirs)  right
source "$(dirname "$0")/lib.sh"

pair ours theirs
ping_ok left 10.9.0.2
right="$(pub wgr)"

tell "show, in every form"
equal "interfaces" "$(wg show interfaces | tr ' ' '\n' | sort | xargs)" "wgl wgr"
equal "public-key" "$(wg show wgl public-key)" "$(pub wgl)"
equal "private-key" "$(wg show wgl private-key)" "$(cat "$(key wgl)")"
equal "listen-port" "$(wg show wgl listen-port)" 51820
equal "fwmark" "$(wg show wgl fwmark)" off
equal "peers" "$(wg show wgl peers)" "${right}"
equal "preshared-keys" "$(wg show wgl preshared-keys)" "${right}"$'\t(none)'
equal "endpoints" "$(wg show wgl endpoints)" "${right}"$'\t192.0.2.2:51820'
equal "allowed-ips" "$(wg show wgl allowed-ips | tr '\t ' '\n\n' | sort | xargs)" \
  "$(printf '%s\n' "${right}" 10.9.0.2/32 fd09::2/128 | sort | xargs)"
equal "persistent-keepalive" "$(wg show wgl persistent-keepalive)" "${right}"$'\toff'
handshake="$(handshake_time wgl "${right}")"
((handshake > $(date +%s) - 60 && handshake <= $(date +%s))) || fail "latest-handshakes says ${handshake}"
(($(transfer wgl "${right}" rx) > 300 && $(transfer wgl "${right}" tx) > 300)) ||
  fail "transfer says $(wg show wgl transfer)"
equal "lines of dump" "$(wg show wgl dump | wc -l)" 2
equal "first line of dump" "$(wg show wgl dump | head -n 1)" \
  "$(cat "$(key wgl)")"$'\t'"$(pub wgl)"$'\t51820\toff'
matches "peer line of dump" "$(wg show wgl dump | tail -n 1)" \
  $'\t\(none\)\t192.0.2.2:51820\t[^\t]*\t[0-9]+\t[0-9]+\t[0-9]+\toff$'
matches "show" "$(wg show wgl)" "latest handshake: "
matches "show all" "$(wg show all dump | grep ^wgl)" "wgl"
matches "showconf" "$(wg showconf wgl)" "Endpoint = 192.0.2.2:51820"

tell "set: keepalive, fwmark, port, private key, each live"
wg set wgl fwmark 0x1234 peer "${right}" persistent-keepalive 25
equal "fwmark" "$(wg show wgl fwmark)" 0x1234
equal "keepalive" "$(wg show wgl persistent-keepalive | cut -f2)" 25
on left nft 'add table inet count; add chain inet count out { type filter hook output priority 0; }'
on left nft 'add rule inet count out meta mark 0x1234 udp sport 51820 counter'
ping_ok left 10.9.0.2
matches "datagrams with the mark" "$(on left nft list table inet count)" 'packets [1-9]'
wg set wgl fwmark off peer "${right}" persistent-keepalive off
equal "fwmark" "$(wg show wgl fwmark)" off

wg set wgl listen-port 40000
equal "listen-port" "$(wg show wgl listen-port)" 40000
ping_back left 10.9.0.2 10
equal "the endpoint the peer sees" "$(wg show wgr endpoints | cut -f2)" 192.0.2.1:40000
wg set wgl listen-port 0
port="$(wg show wgl listen-port)"
((port > 0)) || fail "port 0 is not chosen for us"
wg set wgl listen-port 51820

wg set wgl private-key "$(key another)"
equal "the new public key" "$(wg show wgl public-key)" "$(pub another)"
wg set wgr peer "$(pub another)" allowed-ips 10.9.0.1/32,fd09::1/128
ping_back left 10.9.0.2 15
wg set wgl private-key "$(key wgl)"
wg set wgr peer "$(pub wgl)" allowed-ips 10.9.0.1/32,fd09::1/128 peer "$(pub another)" remove
ping_back left 10.9.0.2 15

tell "allowed ips move from peer to peer, and peers go"
third="$(pub third)"
wg set wgl peer "${third}" allowed-ips 10.9.0.2/32,10.20.0.0/16
equal "what moved away" "$(wg show wgl allowed-ips | awk -v k="${right}" '$1 == k { print $2 }')" fd09::2/128
ping_dead left 10.9.0.2
ping_ok left fd09::2
wg set wgl peer "${right}" allowed-ips 10.9.0.2/32,fd09::2/128
ping_ok left 10.9.0.2
equal "what moved back" "$(wg show wgl allowed-ips | awk -v k="${third}" '$1 == k { print $2 }')" 10.20.0.0/16
wg set wgl peer "${third}" remove
equal "peers" "$(wg show wgl peers)" "${right}"

tell "setconf, addconf, syncconf"
wg showconf wgl >"${T}/saved.conf"
printf '[Peer]\nPublicKey = %s\nAllowedIPs = 10.30.0.0/16\nPersistentKeepalive = 7\n' "${third}" >"${T}/add.conf"
wg addconf wgl "${T}/add.conf"
equal "peers after addconf" "$(wg show wgl peers | wc -l)" 2
wg syncconf wgl "${T}/saved.conf"
equal "peers after syncconf" "$(wg show wgl peers)" "${right}"
equal "the handshake outlives syncconf" "$(($(handshake_time wgl "${right}") > 0))" 1
ping_ok left 10.9.0.2
wg setconf wgl "${T}/saved.conf"
equal "setconf begins afresh" "$(handshake_time wgl "${right}")" 0
ping_back left 10.9.0.2 15
equal "showconf after setconf" "$(wg showconf wgl)" "$(cat "${T}/saved.conf")"
