#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One would expect: mptcplib.is_socket_mptcp() is False for a TCP socket, whatever its family.
# In truth: for an IPv6 one it raises OSError ENOPROTOOPT. It asks for MPTCP_INFO and takes EOPNOTSUPP for "no",
#   which is what IPv4 says to an unknown level of options; IPv6 has another word for it. An IPv6 MPTCP socket
#   is True, as it should be, so the fault shows where a server has fallen to TCP. SO_PROTOCOL would tell them apart.
# Version: mptcplib 0.1.3 (PyPI), Linux 6.18.44.
# Source: mptcplib/_mptcplib_linux.py, _linux_is_socket_mptcp(); net/ipv4/ip_sockglue.c, do_ip_getsockopt()
#   against net/ipv6/ipv6_sockglue.c, ipv6_getsockopt().
# Seen:
#   AF_INET TCP: False
#   AF_INET6 TCP: OSError ENOPROTOOPT
#   AF_INET MPTCP: True
#   AF_INET6 MPTCP: True
set -euo pipefail
self=$(realpath "$0")
cannot() { echo "cannot: $*" >&2; exit 2; }
[[ -e /proc/sys/net/mptcp/enabled ]] || cannot 'this kernel has no MPTCP'
[[ $(</proc/sys/net/mptcp/enabled) == 1 ]] || cannot 'MPTCP is off here (net.mptcp.enabled)'
[[ -e /proc/net/if_inet6 ]] || cannot 'this kernel has no IPv6'
for tool in python3 sysctl; do command -v "$tool" >/dev/null || cannot "$tool is missing"; done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work" || cannot 'python3 has no venv'
"$work/bin/pip" --quiet --disable-pip-version-check install mptcplib==0.1.3 || cannot 'PyPI does not give mptcplib 0.1.3'
echo "kernel $(uname -r)"

# Sockets only, that never connect: no traffic.
now=$("$work/bin/python" - <<'PYTHON'
import errno, socket
import mptcplib

for protocol, name in (socket.IPPROTO_TCP, "TCP"), (mptcplib.IPPROTO_MPTCP, "MPTCP"):
    for family in socket.AF_INET, socket.AF_INET6:
        with socket.socket(family, socket.SOCK_STREAM, protocol) as sock:
            try:
                answer = mptcplib.is_socket_mptcp(sock)
            except OSError as error:
                answer = f"OSError {errno.errorcode[error.errno]}"
        print(f"{family.name} {name}: {answer}")
PYTHON
)
echo "$now"
diff <(sed -n '/^# Seen/,/^[^#]/s/^#   //p' "$self") <(echo "$now") || { echo 'differs: < was, > is now'; exit 1; }
