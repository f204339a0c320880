#!/usr/bin/env bash
# A host with several addresses answers from the one that was asked, over IPv4 and IPv6, and forgets it
# when it is taken away.
#
#   left  wgl (theirs)  192.0.2.1  ------------- 192.0.2.2, .3, .4   wgr (ours)  right
#                       2001:db8::1              2001:db8::2, ::3, ::4
source "$(dirname "$0")/lib.sh"

ONLY=left pair theirs ours
address right eth0 192.0.2.3/24 192.0.2.4/24 2001:db8::3/64 2001:db8::4/64

sources() { grep -Eo '(192\.0\.2\.[0-9]+|2001:db8::[0-9]+)\.51820 >' "${T}/wire" | sort -u | tr -d '>' | xargs; }

for asked in 192.0.2.3 192.0.2.4 2001:db8::4 2001:db8::3; do
  endpoint="${asked}:51820"
  [[ "${asked}" != *:* ]] || endpoint="[${asked}]:51820"
  wg set wgl peer "$(pub wgr)" remove
  capture left eth0 "${T}/wire" "udp port 51820 and (dst host 192.0.2.1 or dst host 2001:db8::1)"
  wg set wgl peer "$(pub wgr)" endpoint "${endpoint}" allowed-ips 10.9.0.2/32
  ping_back left 10.9.0.2 10
  ping_ok left 10.9.0.2
  wait_for "answers on the wire" 3 test -s "${T}/wire"
  end_capture
  equal "who answers when ${asked} is asked" "$(sources)" "${asked}.51820"
done
tell "answers come from the address asked"

# Now the address in use disappears. The next packet from right must find another way out.
on right ip address delete 2001:db8::3/64 dev eth0
ping_back right 10.9.0.1 10
wait_for "left to follow to an address that exists" 5 \
  sh -c "wg show wgl endpoints | grep -Eq '2001:db8::[24]\]'"
tell "an address that is gone is forgotten"
