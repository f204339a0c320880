#!/usr/bin/env bash
# An end that changes its address is followed, by either implementation, as soon as it sends an
# authenticated packet; junk from elsewhere moves nothing.
#
#   left  192.0.2.1, then 192.0.2.77 ------------- 192.0.2.2  right
source "$(dirname "$0")/lib.sh"

move_left() {
  on left ip address del "$1/24" dev eth0
  on left ip address add "$2/24" dev eth0
}

roam() {
  tell "left is $1, right is $2"
  tunnel left wgl "$1" 10.9.0.1/24
  tunnel right wgr "$2" 10.9.0.2/24
  introduce
  ping_ok left 10.9.0.2
  equal "the endpoint before" "$(wg show wgr endpoints | cut -f2)" 192.0.2.1:51820

  # Valid in form (a data message of 64 bytes), from another port: not authentic, so not believed.
  { printf '\x04\x00\x00\x00'; head -c 60 /dev/urandom; } >"${T}/junk"
  on left socat -u "FILE:${T}/junk" UDP-SENDTO:192.0.2.2:51820,sourceport=4000
  ping_ok right 10.9.0.1
  equal "the endpoint after junk" "$(wg show wgr endpoints | cut -f2)" 192.0.2.1:51820

  move_left 192.0.2.1 192.0.2.77
  # wireguard-go clings to a source address that is gone until it binds anew.
  [[ "$1" == ours ]] || wg set wgl listen-port 51820
  ping_back left 10.9.0.2 10
  equal "the endpoint after roaming" "$(wg show wgr endpoints | cut -f2)" 192.0.2.77:51820
  ping_ok right 10.9.0.1
  move_left 192.0.2.77 192.0.2.1
  stop wgl
  stop wgr
}

host left right
wire left eth0 right eth0
address left eth0 192.0.2.1/24
address right eth0 192.0.2.2/24
roam theirs ours
roam ours theirs
