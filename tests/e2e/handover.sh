#!/usr/bin/env bash
# A TUN and a UAPI socket made by someone else are taken over through WG_TUN_FD and WG_UAPI_FD: with and
# without IFF_VNET_HDR.
#
#   left  wgl (ours, on descriptors it was given)  192.0.2.1 ------------- 192.0.2.2  wgr (theirs)  right
source "$(dirname "$0")/lib.sh"

cat >"${T}/hand" <<'PYTHON'
import fcntl, os, socket, struct, sys

flags, program, name = int(sys.argv[1], 16), sys.argv[2], sys.argv[3]
tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", name.encode(), flags))  # TUNSETIFF
uapi = socket.socket(socket.AF_UNIX)
path = f"/run/wireguard/{name}.sock"  # named when it listens: wg removes a .sock that refuses it
uapi.bind(path + ".new")
uapi.listen(16)
os.rename(path + ".new", path)
for fd in (tun, uapi.fileno()):
    os.set_inheritable(fd, True)
os.environ.update(WG_TUN_FD=str(tun), WG_UAPI_FD=str(uapi.fileno()), WG_PROCESS_FOREGROUND="1")
os.execv(program, [program, name])
PYTHON

host left right
wire left eth0 right eth0
address left eth0 192.0.2.1/24
address right eth0 192.0.2.2/24
tunnel right wgr theirs 10.9.0.2/24 fd09::2/64

# 0x1001: IFF_TUN | IFF_NO_PI. 0x5001: with IFF_VNET_HDR.
for flags in 0x1001 0x5001; do
  LOG_LEVEL=debug ip netns exec left python3 "${T}/hand" "${flags}" "${SALLYPORT}" wgl >>"${T}/wgl.log" 2>&1 &
  pid_of[wgl]=$! impl_of[wgl]=ours
  wait_for "the UAPI socket" 10 uapi_answers wgl
  wg set wgl private-key "$(key wgl)" listen-port 51820
  address left wgl 10.9.0.1/24 fd09::1/64
  on left ip link set wgl up
  introduce
  ping_back left 10.9.0.2 10
  ping_ok left 10.9.0.2 5 -s 1300
  ping_ok right fd09::1
  stop wgl
  tell "TUN flags ${flags}: works"
done
