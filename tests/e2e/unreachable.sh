#!/usr/bin/env bash
# A packet for an address that no peer has, or whose peer has no endpoint, is answered at once with an
# ICMP or ICMPv6 unreachable, not swallowed.
#
#   left  wgl (ours)  10.9.0.1/24  fd09::1/64     peer A: 10.9.0.2, fd09::2, no endpoint
source "$(dirname "$0")/lib.sh"

host left
tunnel left wgl ours 10.9.0.1/24 fd09::1/64
wg set wgl peer "$(pub nobody)" allowed-ips 10.9.0.2/32,fd09::2/128

# The answers are limited in rate, so each address gets a few tries; one answer is the proof.
for address in 10.9.0.99 fd09::99 10.9.0.2 fd09::2; do
  answer="$(on left ping -n -c 2 -i 0.3 -W 1 "${address}" 2>&1 || true)"
  matches "ping to ${address}" "${answer}" '[Uu]nreachable'
  tell "${address}: $(grep -m1 -io '[a-z ]*unreachable.*' <<<"${answer}")"
done
