#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One would expect: an endpoint that is added with `signal` is announced to the peer, whatever its family,
#   with a port or without; and if it cannot be, adding it says so.
# In truth: an IPv6 address with a port is never announced while TCP timestamps are on, as they are by
#   default. ADD_ADDR with IPv6, port and HMAC takes 32 bytes, timestamps take 12, and the options of a
#   segment have 40. The kernel drops the announcement and counts it; the endpoint was taken without a word.
#   IPv4 with a port, IPv6 without one, and IPv6 with a port but no timestamps arrive.
# Version: Linux 6.18.44. (The source of 7.3 leaves the timestamps out of such a segment: it will differ there.)
# Source: net/mptcp/pm.c, mptcp_pm_add_addr_signal(), counter AddAddrTxDrop; net/mptcp/protocol.h,
#   mptcp_add_addr_len(); net/ipv4/tcp_output.c, tcp_established_options() takes the timestamps first.
# Seen (what the client received, what the server dropped):
#   10.0.0.3 port 5555, timestamps 1: received 1, dropped 0
#   fd00::3, timestamps 1: received 1, dropped 0
#   fd00::3 port 5555, timestamps 1: received 0, dropped 1
#   fd00::3 port 5555, timestamps 0: received 1, dropped 0
set -euo pipefail
self=$(realpath "$0")
cannot() { echo "cannot: $*" >&2; exit 2; }
((EUID == 0)) || cannot 'this makes network namespaces: run it as root'
[[ -e /proc/sys/net/mptcp/enabled ]] || cannot 'this kernel has no MPTCP'
for tool in ip nstat python3; do command -v "$tool" >/dev/null || cannot "$tool is missing"; done


c=finding-$$-c s=finding-$$-s jobs=()
trap 'kill "${jobs[@]}" 2>/dev/null || true; ip netns del "$c" 2>/dev/null || true; ip netns del "$s" 2>/dev/null || true' EXIT
{ ip netns add "$c" && ip netns add "$s"; } || cannot 'no network namespaces here'
ip -n "$c" link add eth0 type veth peer name eth0 netns "$s" || cannot 'no veth here'
for end in "$c 1" "$s 2" "$s 3"; do
	ip -n "${end% *}" addr add "10.0.0.${end#* }/24" dev eth0
	ip -n "${end% *}" addr add "fd00::${end#* }/64" dev eth0 nodad
done
for netns in "$c" "$s"; do
	ip -n "$netns" link set eth0 up
	ip -n "$netns" mptcp limits set subflows 8 add_addr_accepted 8
done

ip netns exec "$s" python3 -c '
import socket
listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 262)
listener.bind(("::", 8000)); listener.listen()
kept = []
while True: kept.append(listener.accept())' &
jobs+=($!)
connect() { # retried until the server listens; sends now and then, so that the kernel may announce
	ip netns exec "$c" python3 -c '
import socket, sys, time
while True:
    try:
        client = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_STREAM, 262)
        client.connect((sys.argv[1], 8000)); break
    except OSError: time.sleep(0.1)
while True: client.send(b"x"); time.sleep(0.1)' "$1" &
	jobs+=($!)
}
counter() { ip netns exec "$1" nstat -asz "MPTcpExt$2" | awk 'NR > 1 { n = $2 } END { print n + 0 }'; }

echo "kernel $(uname -r)"
announce() { # address, port, timestamps, server
	local before received=0 dropped=0 what="$1${2:+ port $2}, timestamps $3"
	ip netns exec "$s" sysctl -qw "net.ipv4.tcp_timestamps=$3"
	ip -n "$s" mptcp endpoint flush
	ip -n "$s" mptcp endpoint add "$1" signal ${2:+port "$2"}
	before="$(counter "$c" AddAddr) $(counter "$s" AddAddrTxDrop)"
	connect "$4"
	for ((wait = 0; received + dropped == 0 && wait < 200; wait++)); do
		sleep 0.1
		received=$(($(counter "$c" AddAddr) - ${before% *})) dropped=$(($(counter "$s" AddAddrTxDrop) - ${before#* }))
	done
	kill "${jobs[-1]}"
	now+="$what: received $received, dropped $dropped"$'\n'
}
now=
announce 10.0.0.3 5555 1 10.0.0.2
announce fd00::3 '' 1 fd00::2
announce fd00::3 5555 1 fd00::2
announce fd00::3 5555 0 fd00::2
now=${now%$'\n'}
echo "$now"
diff <(sed -n '/^# Seen/,/^[^#]/s/^#   //p' "$self") <(echo "$now") || { echo 'differs: < was, > is now'; exit 1; }
