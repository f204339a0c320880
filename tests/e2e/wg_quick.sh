#!/usr/bin/env bash
# wg-quick brings up a full tunnel (0.0.0.0/0 and ::/0) on Sallyport, everything goes through it, `save`
# and `strip` do what they do elsewhere, and after `down` links, addresses, rules, routes, nft tables,
# sockets and processes are those from before.
#
#   left  wgl (ours)  192.0.2.1 ------- 192.0.2.2  wgr (theirs)  right
#         default route via 192.0.2.2              198.51.100.1, 2001:db8:100::1 (the world)
source "$(dirname "$0")/lib.sh"

host left right
wire left eth0 right eth0
address left eth0 192.0.2.1/24 2001:db8::1/64
address right eth0 192.0.2.2/24 2001:db8::2/64
address right lo 198.51.100.1/32 2001:db8:100::1/128
on left ip route add default via 192.0.2.2
on left ip -6 route add default via 2001:db8::2
tunnel right wgr theirs 10.9.0.2/24 fd09::2/64
wg set wgr peer "$(pub wgl)" allowed-ips 10.9.0.1/32,fd09::1/128

mkdir -p "${T}/conf"
config="${T}/conf/wgl.conf"
cat >"${config}" <<CONF
[Interface]
PrivateKey = $(cat "$(key wgl)")
Address = 10.9.0.1/24, fd09::1/64
PostUp = touch ${T}/was-up-%i
[Peer]
PublicKey = $(pub wgr)
Endpoint = 192.0.2.2:51820
AllowedIPs = 0.0.0.0/0, ::/0
CONF
cp "${config}" "${T}/conf/original"

# All of the state that a tunnel might leave behind, in one text.
snapshot() {
  local what
  for what in "-d link" "address" "-4 rule" "-6 rule" "-4 route show table all" "-6 route show table all"; do
    echo "# ip ${what}"
    # shellcheck disable=SC2086
    on left ip ${what} | sed -E 's/ (expires|valid_lft|preferred_lft) [^ ]*//g'
  done
  echo "# nft"
  on left nft list ruleset
  echo "# sockets"
  ls /run/wireguard
  on left ss -Hlun
  echo "# processes"
  ps -e -o comm= | grep -Ev '^(ps|sort|grep|sed|bash|ip|diff|tcpdump)$' | sort
}

snapshot >"${T}/before"
for round in 1 2; do
  quick left "${SALLYPORT}" up "${config}" >>"${T}/wg-quick.log" 2>&1 || fail "wg-quick up does not succeed"
  [[ -e "${T}/was-up-wgl" ]] || fail "PostUp did not run"
  ping_ok left 198.51.100.1
  ping_ok left 2001:db8:100::1
  equal "what the world sees" \
    "$(on left ip route get 198.51.100.1 | grep -o 'dev [^ ]*')" "dev wgl"
  capture left eth0 "${T}/wire" "not arp and not ip6 multicast and not (icmp6 and ip6[40] >= 133) and not port 51820"
  ping_ok left 198.51.100.1
  end_capture
  captured_nothing "${T}/wire" || fail "something went around the tunnel: $(head -n 1 "${T}/wire")"

  if ((round == 1)); then
    stripped="$(quick left "${SALLYPORT}" strip "${config}")"
    matches "strip keeps the peer" "${stripped}" "PublicKey = "
    [[ "${stripped}" != *Address* ]] || fail "strip keeps Address"
    quick left "${SALLYPORT}" save "${config}" 2>>"${T}/wg-quick.log"
    matches "save keeps the address" "$(cat "${config}")" "Address = 10.9.0.1/24"
    matches "save keeps the endpoint" "$(cat "${config}")" "Endpoint = 192.0.2.2:51820"
    matches "save keeps the allowed ips" "$(cat "${config}")" "AllowedIPs = .*/0, .*/0"
  fi

  quick left "${SALLYPORT}" down "${config}" >>"${T}/wg-quick.log" 2>&1 || fail "wg-quick down does not succeed"
  for ((try = 0; try < 60 * E2E_SLOWNESS; try++)); do
    snapshot >"${T}/after"
    ! cmp -s "${T}/before" "${T}/after" || break
    sleep 0.05
  done
  left_behind="$(diff "${T}/before" "${T}/after")" || fail "round ${round}: down leaves behind: ${left_behind}"
  ping_ok left 198.51.100.1
  tell "round ${round}: nothing left behind"
done
