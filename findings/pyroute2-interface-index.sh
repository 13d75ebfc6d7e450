#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One would expect: pyroute2 shows the interface of an MPTCP endpoint as the number that the kernel sends
#   (MPTCP_PM_ADDR_ATTR_IF_IDX, an s32), fit for `IPRoute().link('get', index=..)`.
# In truth: its table says 'hex': the four bytes in the order of memory as text with colons, like a piece of a
#   MAC address. Interface 259 is '03:01:00:00' here; int() of it fails, and big-endian machines show another.
# Version: pyroute2 0.9.7 (PyPI), Linux 6.18.44.
# Source: pyroute2/netlink/generic/mptcp.py, mptcp_msg.pm_addr.nla_map; include/uapi/linux/mptcp_pm.h.
# Seen:
#   id: 5 (int)
#   interface: 03:01:00:00 (str)
set -euo pipefail
self=$(realpath "$0")
cannot() { echo "cannot: $*" >&2; exit 2; }
((EUID == 0)) || cannot 'this makes a network namespace: run it as root'
[[ -e /proc/sys/net/mptcp/enabled ]] || cannot 'this kernel has no MPTCP'
for tool in ip python3; do command -v "$tool" >/dev/null || cannot "$tool is missing"; done
unshare -n true 2>/dev/null || cannot 'no network namespaces here'
[[ $(python3 -c 'import sys; print(sys.byteorder)') == little ]] || cannot 'the text was seen on little-endian machines only'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work" || cannot 'python3 has no venv'
"$work/bin/pip" --quiet --disable-pip-version-check install pyroute2==0.9.7 || cannot 'PyPI does not give pyroute2 0.9.7'
echo "kernel $(uname -r)"

# The namespace has no name and ends with the program in it.
now=$(unshare -n "$work/bin/python" - <<'PYTHON'
import subprocess
from pyroute2 import MPTCP

for line in ("link add eth0 index 259 type veth peer name eth1", "mptcp endpoint add 10.0.0.3 id 5 subflow dev eth0"):
    subprocess.run(["ip", *line.split()], check=True)
with MPTCP() as pm:
    address = pm.endpoint("show")[0].get_attr("MPTCP_PM_ATTR_ADDR")

for what, attribute in ("id", "MPTCP_PM_ADDR_ATTR_ID"), ("interface", "MPTCP_PM_ADDR_ATTR_IF_IDX"):
    value = address.get_attr(attribute)
    print(f"{what}: {value} ({type(value).__name__})")
PYTHON
)
echo "$now"
diff <(sed -n '/^# Seen/,/^[^#]/s/^#   //p' "$self") <(echo "$now") || { echo 'differs: < was, > is now'; exit 1; }
