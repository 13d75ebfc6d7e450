#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One would expect: MPTCP_TCPINFO lists the subflows that a connection has. It does when a joined one ends.
# In truth: a closed initial subflow stays in the list, in state CLOSE (7), as long as the connection lives.
#   Its length is so one more than mptcpi_subflows_total of MPTCP_INFO, and a connection with no subflow at
#   all has one entry. MPTCP_SUBFLOW_ADDRS goes on to name its addresses. Count the states, not the entries.
# Version: Linux 6.18.44.
# Source: net/mptcp/sockopt.c, mptcp_getsockopt_tcpinfo() walks conn_list; net/mptcp/protocol.c,
#   __mptcp_close_ssk() only disposes of msk->first, which leaves the list with the connection.
# Seen:
#   initial and joined: total 2, listed in states 1 1
#   initial closed: total 1, listed in states 7 1
#   joined closed too: total 0, listed in states 7
set -euo pipefail
self=$(realpath "$0")
cannot() { echo "cannot: $*" >&2; exit 2; }
((EUID == 0)) || cannot 'this makes a network namespace: run it as root'
[[ -e /proc/sys/net/mptcp/enabled ]] || cannot 'this kernel has no MPTCP'
for tool in ip python3; do command -v "$tool" >/dev/null || cannot "$tool is missing"; done
unshare -n true 2>/dev/null || cannot 'no network namespaces here'
echo "kernel $(uname -r)"

# The namespace has no name and ends with the program in it.
now=$(unshare -n python3 - <<'PYTHON'
import ctypes, socket, struct, subprocess, sys, time

SOL_MPTCP, MPTCP_INFO, MPTCP_TCPINFO = 284, 1, 2
libc = ctypes.CDLL(None, use_errno=True)

def ip(line):
    subprocess.run(["ip", *line.split()], check=True)

ip("link set lo up")
for last in 1, 2, 3:
    ip(f"addr add 10.0.0.{last}/24 dev lo")
ip("mptcp limits set subflows 4")
ip("mptcp endpoint add 10.0.0.3 id 5 subflow dev lo")

listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
listener.bind(("10.0.0.2", 8000))
listener.listen()
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
client.bind(("10.0.0.1", 0))
client.connect(("10.0.0.2", 8000))
server = listener.accept()[0]
for a, b in (client, server), (server, client):
    a.send(b"x")
    b.recv(1)

def total():
    info = client.getsockopt(SOL_MPTCP, MPTCP_INFO, 96)
    if len(info) < 81:
        print("cannot: MPTCP_INFO has no mptcpi_subflows_total here", file=sys.stderr)
        sys.exit(2)
    return info[80]

def states():
    """tcpi_state of each entry, after struct mptcp_subflow_data"""
    head, size, most = 16, 256, 8
    buffer = ctypes.create_string_buffer(struct.pack("4I", head, 0, 0, size) + bytes(size * most))
    length = ctypes.c_uint32(len(buffer))
    if libc.getsockopt(client.fileno(), SOL_MPTCP, MPTCP_TCPINFO, buffer, ctypes.byref(length)):
        raise OSError(ctypes.get_errno(), "MPTCP_TCPINFO")
    count = struct.unpack_from("I", buffer.raw, 4)[0]
    return " ".join(str(buffer.raw[head + size * entry]) for entry in range(count))

def see(what, count):
    end = time.monotonic() + 20
    while total() != count and time.monotonic() < end:
        time.sleep(0.05)
    print(f"{what}: total {total()}, listed in states {states()}")

see("initial and joined", 2)
ip("mptcp endpoint del id 0 10.0.0.1")
see("initial closed", 1)
ip("mptcp endpoint del id 5")
see("joined closed too", 0)
PYTHON
)
echo "$now"
diff <(sed -n '/^# Seen/,/^[^#]/s/^#   //p' "$self") <(echo "$now") || { echo 'differs: < was, > is now'; exit 1; }
