#!/usr/bin/env bash
# Either end may begin: first only Sallyport knows where the other is, then only wireguard-go does.
#
#   left  wgl (ours)  192.0.2.1 ------------- 192.0.2.2  wgr (theirs)  right
source "$(dirname "$0")/lib.sh"

ONLY=left pair ours theirs
ping_ok left 10.9.0.2
tell "Sallyport began, wireguard-go answered"

wg set wgl peer "$(pub wgr)" remove
wg set wgr peer "$(pub wgl)" remove
ONLY=right introduce
equal "an endpoint that nobody told" "$(wg show wgl endpoints | cut -f2)" "(none)"
ping_ok right 10.9.0.1
ping_ok left 10.9.0.2
equal "the endpoint it learned" "$(wg show wgl endpoints | cut -f2)" 192.0.2.2:51820
tell "wireguard-go began, Sallyport answered"
