#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One would expect: an exact sock_diag request (no NLM_F_DUMP) finds an MPTCP socket as it finds a TCP
#   socket, by addresses and ports, and the cookie of the socket makes it safer.
# In truth: for IPPROTO_MPTCP the kernel looks at idiag_cookie[0] alone and takes it for the token of the
#   connection. Addresses with the true cookie, or with "no cookie", are ENOENT; a token with all else zero
#   is an answer. A program that knows tokens from events so needs no dump.
# Version: Linux 6.18.44 (also in the source of 6.1 and 7.3).
# Source: net/mptcp/mptcp_diag.c, mptcp_diag_dump_one(); the field's comment in
#   include/uapi/linux/inet_diag.h speaks of a cookie only.
# Seen:
#   tcp: addresses and cookie: found
#   mptcp: addresses and cookie: ENOENT
#   mptcp: addresses, no cookie: ENOENT
#   mptcp: token as cookie, no addresses: found
set -euo pipefail
self=$(realpath "$0")
cannot() { echo "cannot: $*" >&2; exit 2; }
((EUID == 0)) || cannot 'this makes a network namespace: run it as root'
[[ -e /proc/sys/net/mptcp/enabled ]] || cannot 'this kernel has no MPTCP'
unshare -n true 2>/dev/null || cannot 'no network namespaces here'
echo "kernel $(uname -r)"

# The namespace has no name and ends with the program in it.
now=$(unshare -n python3 - <<'PYTHON'
import errno, socket, struct, subprocess, sys

MPTCP = 262
NO_COOKIE = b"\xff" * 8
ZEROS = bytes(48 - 8)
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

def connect(protocol):
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    client.connect(listener.getsockname())
    return client, listener.accept()[0], listener

def tuple_of(sock):
    """inet_diag_sockid without its cookie"""
    (local, lport), (remote, rport) = sock.getsockname(), sock.getpeername()
    return struct.pack("!HH4s12x4s12xI", lport, rport, socket.inet_aton(local), socket.inet_aton(remote), 0)

def cookie_of(sock):
    return sock.getsockopt(socket.SOL_SOCKET, 57, 8)  # SO_COOKIE

def get(protocol, ends, cookie):
    """inet_diag_req_v2 and INET_DIAG_REQ_PROTOCOL, for 262 is more than its u8 holds"""
    body = struct.pack("=BBBxI", socket.AF_INET, protocol & 0xff, 0, 0xffffffff) + ends + cookie
    body += struct.pack("=HHI", 8, 3, protocol)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as diag:  # NETLINK_SOCK_DIAG
        diag.settimeout(5)
        diag.send(struct.pack("=IHHII", 16 + len(body), 20, 1, 1, 0) + body)
        answer = diag.recv(65536)
    if struct.unpack_from("=H", answer, 4)[0] == 2:  # NLMSG_ERROR
        return errno.errorcode[-struct.unpack_from("=i", answer, 16)[0]]
    return "found"

tcp = connect(socket.IPPROTO_TCP)
mptcp = connect(MPTCP)
client = mptcp[0]
try:
    info = client.getsockopt(284, 1, 96)  # SOL_MPTCP, MPTCP_INFO
except OSError:
    print("cannot: the connection is not MPTCP", file=sys.stderr)
    sys.exit(2)
token = info[12:16]

print("tcp: addresses and cookie:", get(6, tuple_of(tcp[0]), cookie_of(tcp[0])))
print("mptcp: addresses and cookie:", get(MPTCP, tuple_of(client), cookie_of(client)))
print("mptcp: addresses, no cookie:", get(MPTCP, tuple_of(client), NO_COOKIE))
print("mptcp: token as cookie, no addresses:", get(MPTCP, ZEROS, token + bytes(4)))
PYTHON
)
echo "$now"
diff <(sed -n '/^# Seen/,/^[^#]/s/^#   //p' "$self") <(echo "$now") || { echo 'differs: < was, > is now'; exit 1; }
