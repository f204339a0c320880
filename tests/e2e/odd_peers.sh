#!/usr/bin/env bash
# Peers whose public key is a point of low order are taken by `wg set`, shown, and never sent anything;
# the device's own public key as a peer is ignored. Ordinary peers beside them work.
#
#   left  wgl (ours)  192.0.2.1 ------------- 192.0.2.2  wgr (theirs)  right
source "$(dirname "$0")/lib.sh"

low_order=(
  AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
  AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
  4Ot6fDtBuK4WVuP68Z/EatoJjeucMrH9hmIFFl9JuAA=
  X5yVvKNQjCSx0LFVnIPvWwREXMRYHI6G2CJO3dCfEVc=
  7P///////////////////////////////////////38=
)

pair ours theirs
i=0
for point in "${low_order[@]}"; do
  i=$((i + 1))
  wg set wgl peer "${point}" endpoint "192.0.2.2:$((7000 + i))" allowed-ips "10.66.0.${i}/32" persistent-keepalive 1
done
on left ip route add 10.66.0.0/16 dev wgl
equal "peers" "$(wg show wgl peers | wc -l)" $((${#low_order[@]} + 1))

capture right eth0 "${T}/wire" "udp portrange 7000-7099"
for ((i = 1; i <= ${#low_order[@]}; i++)); do
  on left ping -n -q -c 1 -W 1 "10.66.0.${i}" >/dev/null 2>&1 || true
done
ping_ok left 10.9.0.2
[[ ! -s "${T}/wire" ]] || fail "a low-order peer is sent something: $(head -n 2 "${T}/wire")"

wg set wgl peer "$(pub wgl)" allowed-ips 10.77.0.1/32
[[ "$(wg show wgl peers)" != *"$(pub wgl)"* ]] || fail "its own key became a peer"
# A peer that is there before the device gets that peer's key is removed.
wg set wgl peer "$(pub later)" allowed-ips 10.78.0.1/32
wg set wgl private-key "$(key later)"
[[ "$(wg show wgl peers)" != *"$(pub later)"* ]] || fail "its new own key stays a peer"
