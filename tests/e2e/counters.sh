#!/usr/bin/env bash
# The transfer counters: both ends agree, and ten pings of 84 bytes are ten data messages of 128 bytes
# each way (84 padded to 96, 16 of header, 16 of tag).
#
#   left  wgl (ours)  192.0.2.1 ------------- 192.0.2.2  wgr (theirs)  right
source "$(dirname "$0")/lib.sh"

pair ours theirs
ping_ok left 10.9.0.2 1
# The session's first keepalive or confirmation must not fall into the measurement.
steady() {
  local first
  first="$(transfer wgl "$(pub wgr)" rx)/$(transfer wgl "$(pub wgr)" tx)"
  sleep 0.3
  [[ "${first}" == "$(transfer wgl "$(pub wgr)" rx)/$(transfer wgl "$(pub wgr)" tx)" ]]
}
wait_for "the counters to rest" 5 steady
rx="$(transfer wgl "$(pub wgr)" rx)"
tx="$(transfer wgl "$(pub wgr)" tx)"
ping_ok left 10.9.0.2 10
equal "bytes received for ten pings" "$(($(transfer wgl "$(pub wgr)" rx) - rx))" 1280
equal "bytes sent for ten pings" "$(($(transfer wgl "$(pub wgr)" tx) - tx))" 1280
equal "sent here is received there" "$(transfer wgl "$(pub wgr)" tx)" "$(transfer wgr "$(pub wgl)" rx)"
equal "sent there is received here" "$(transfer wgr "$(pub wgl)" tx)" "$(transfer wgl "$(pub wgr)" rx)"
