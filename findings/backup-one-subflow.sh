#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One would expect: `ip mptcp endpoint change id 7 backup` makes backups of all subflows from that endpoint.
# In truth: in each connection the first subflow from the address gets MP_PRIO and the flag, and the walk
#   ends there. A `fullmesh` endpoint has one subflow for each address of the peer: the others stay regular,
#   at both ends, while `endpoint show` says backup. Two addresses more of the peer: 1 of 3.
# Version: Linux 6.18.44, iproute2 6.1.0.
# Source: net/mptcp/pm_kernel.c (pm_netlink.c before), mptcp_pm_mp_prio_send_ack() returns inside its loop.
# Seen:
#   endpoint says: backup
#   subflows from the endpoint: 3
#   of these, backup: 1
#   MP_PRIO sent: 1
set -euo pipefail
self=$(realpath "$0")
cannot() { echo "cannot: $*" >&2; exit 2; }
((EUID == 0)) || cannot 'this makes network namespaces: run it as root'
[[ -e /proc/sys/net/mptcp/enabled ]] || cannot 'this kernel has no MPTCP'
for tool in ip ss nstat python3; do command -v "$tool" >/dev/null || cannot "$tool is missing"; done

c=finding-$$-c s=finding-$$-s jobs=()
trap 'kill "${jobs[@]}" 2>/dev/null || true; ip netns del "$c" 2>/dev/null || true; ip netns del "$s" 2>/dev/null || true' EXIT
{ ip netns add "$c" && ip netns add "$s"; } || cannot 'no network namespaces here'
ip -n "$c" link add eth0 type veth peer name eth0 netns "$s" || cannot 'no veth here'
for end in "$c 1" "$c 11" "$s 2" "$s 3" "$s 4"; do
	ip -n "${end% *}" addr add "10.0.0.${end#* }/24" dev eth0
done
for netns in "$c" "$s"; do
	ip -n "$netns" link set eth0 up
	ip -n "$netns" mptcp limits set subflows 8 add_addr_accepted 8
done
ip -n "$s" mptcp endpoint add 10.0.0.3 signal
ip -n "$s" mptcp endpoint add 10.0.0.4 signal
ip -n "$c" mptcp endpoint add 10.0.0.11 id 7 subflow fullmesh

ip netns exec "$s" python3 -c '
import socket
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
listener.bind(("", 8000)); listener.listen()
end = listener.accept()[0]
while end.recv(9): pass' &
jobs+=($!)
ip netns exec "$c" python3 -c '
import socket, time
while True:
    try:
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
        client.connect(("10.0.0.2", 8000)); break
    except OSError: time.sleep(0.1)
while True: client.send(b"x"); time.sleep(0.1)' &
jobs+=($!)

# Subflows from the endpoint, "e": established in the sense of MPTCP, then those with "b": backup by us.
flags() { ip netns exec "$c" ss -tniHO state established src 10.0.0.11 | grep -oP 'tcp-ulp-mptcp flags:\K\S+' | grep "$1" || true; }
until_three() { # of which flag, tries
	for ((wait = 0; wait < $2; wait++)); do
		(($(flags "$1" | wc -l) != 3)) || return 0
		sleep 0.1
	done
}
sent() { ip netns exec "$c" nstat -asz MPTcpExtMPPrioTx | awk 'NR > 1 { n = $2 } END { print n + 0 }'; }

echo "kernel $(uname -r)"
until_three e 100
ip -n "$c" mptcp endpoint change id 7 backup fullmesh
until_three b 20 # all three have the time to follow: two do not

now="endpoint says: $(ip -n "$c" mptcp endpoint show id 7 | grep -o backup)
subflows from the endpoint: $(flags e | wc -l)
of these, backup: $(flags b | wc -l)
MP_PRIO sent: $(sent)"
echo "$now"
diff <(sed -n '/^# Seen/,/^[^#]/s/^#   //p' "$self") <(echo "$now") || { echo 'differs: < was, > is now'; exit 1; }
