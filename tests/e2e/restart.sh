#!/usr/bin/env bash
# Either end is stopped and started again with the same key; the tunnel comes back by itself when
# the restarted end, or the one that stayed, has something to say.
#
#   left  wgl (ours)  192.0.2.1 ------------- 192.0.2.2  wgr (theirs)  right
source "$(dirname "$0")/lib.sh"

pair ours theirs
ping_ok left 10.9.0.2

tell "the peer restarts, and speaks first"
stop wgr
tunnel right wgr theirs 10.9.0.2/24 fd09::2/64
introduce
ping_back right 10.9.0.1 8
ping_ok left 10.9.0.2

tell "Sallyport restarts, and speaks first"
stop wgl
tunnel left wgl ours 10.9.0.1/24 fd09::1/64
introduce
ping_back left 10.9.0.2 8
ping_ok right 10.9.0.1

# The one that stayed still holds a session that the other has forgotten: it must notice that
# nothing comes back (15 s) and begin anew.
tell "the peer restarts, and we speak first"
stop wgr
tunnel right wgr theirs 10.9.0.2/24 fd09::2/64
wg set wgr peer "$(pub wgl)" allowed-ips 10.9.0.1/32,fd09::1/128
ping_back left 10.9.0.2 25
