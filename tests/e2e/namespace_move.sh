#!/usr/bin/env bash
# A TUN that is moved into another namespace takes the inside along; the outer sockets stay where they
# were born, so a box without any network of its own has the tunnel and nothing else.
#
#   box  wgl (ours) 10.9.0.1 moved here     left 192.0.2.1 ----------- 192.0.2.2  wgr (theirs)  right
source "$(dirname "$0")/lib.sh"

pair ours theirs
ping_ok left 10.9.0.2

tell "moved into the box"
host box
on left ip link set wgl netns box
address box wgl 10.9.0.1/24
on box ip link set wgl up
ping_back box 10.9.0.2 5  # the daemon hears of the link's state a moment after ip(8) has returned
ping_ok box 10.9.0.2 3
alive "${pid_of[wgl]}" || fail "the daemon ended when its TUN moved"
equal "the link's state" "$("${SALLYPORT}" status wgl --json | jq .up)" true

tell "down, up and another MTU are noticed there"
on box ip link set wgl down
wait_for "the port to be closed" 5 sh -c "! ip netns exec left ss -Hlun sport = :51820 | grep -q ."
on box ip link set wgl mtu 1300 up
ping_back box 10.9.0.2 5
ping_ok box 10.9.0.2 3
equal "the MTU" "$("${SALLYPORT}" status wgl --json | jq .mtu)" 1300

tell "deleted there, the daemon ends"
on box ip link delete wgl
ended wgl 5 || fail "the daemon did not end well"
