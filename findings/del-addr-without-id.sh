#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One would expect: MPTCP_PM_CMD_DEL_ADDR with the address of an endpoint and no id deletes that endpoint,
#   as MPTCP_PM_CMD_ADD_ADDR with an address and no id adds one; or else that it is an error.
# In truth: no id is id 0, and id 0 is not an endpoint but the address of initial subflows. The answer is "done"
#   for whatever address, known or not; the endpoint stays; an initial subflow from the address is closed. A
#   wrong id is EINVAL. pyroute2's endpoint('del', addr=..) so reports success.
# Version: pyroute2 0.9.7, Linux 6.18.44.
# Source: net/mptcp/pm_kernel.c (pm_netlink.c before), mptcp_pm_nl_del_addr_doit() goes to
#   mptcp_nl_remove_id_zero_address() first.
# Seen:
#   subflow from 10.0.0.3: there
#   del addr=10.0.0.3: answer ok, endpoints 10.0.0.3
#   del addr=10.9.9.9: answer ok, endpoints 10.0.0.3
#   del id=6: answer EINVAL, endpoints 10.0.0.3
#   subflow from 10.0.0.1: there
#   del addr=10.0.0.1: answer ok, endpoints 10.0.0.3
#   subflow from 10.0.0.1: gone
#   del id=5: answer ok, endpoints none
set -euo pipefail
self=$(realpath "$0")
cannot() { echo "cannot: $*" >&2; exit 2; }
((EUID == 0)) || cannot 'this makes a network namespace: run it as root'
[[ -e /proc/sys/net/mptcp/enabled ]] || cannot 'this kernel has no MPTCP'
for tool in ip ss python3; do command -v "$tool" >/dev/null || cannot "$tool is missing"; done
unshare -n true 2>/dev/null || cannot 'no network namespaces here'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work" || cannot 'python3 has no venv'
"$work/bin/pip" --quiet --disable-pip-version-check install pyroute2==0.9.7 || cannot 'PyPI does not give pyroute2 0.9.7'
echo "kernel $(uname -r)"

# The namespace has no name and ends with the program in it.
now=$(unshare -n "$work/bin/python" - <<'PYTHON'
import errno, socket, subprocess, time
from pyroute2 import MPTCP
from pyroute2.netlink.exceptions import NetlinkError

def run(line):
    return subprocess.run(line.split(), check=True, capture_output=True, text=True).stdout

run("ip link set lo up")
for last in 1, 2, 3:
    run(f"ip addr add 10.0.0.{last}/24 dev lo")
run("ip mptcp limits set subflows 4")
run("ip mptcp endpoint add 10.0.0.3 id 5 subflow dev lo")
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
listener.bind(("10.0.0.2", 8000))
listener.listen()
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
client.bind(("10.0.0.1", 0))
client.connect(("10.0.0.2", 8000))
server = listener.accept()[0]
client.send(b"x"), server.recv(1), server.send(b"x"), client.recv(1)

def delete(**what):
    try:
        pm.endpoint("del", **what)
        answer = "ok"
    except NetlinkError as error:
        answer = errno.errorcode[error.code]
    endpoints = " ".join(line.split()[0] for line in run("ip mptcp endpoint").splitlines())
    print("del", *(f"{k}={v}:" for k, v in what.items()), f"answer {answer}, endpoints {endpoints or 'none'}")

def subflow(source, wanted):
    end = time.monotonic() + 20
    while True:
        now = "there" if run(f"ss -tnH state established src {source} dport = 8000") else "gone"
        if now == wanted or time.monotonic() > end:
            return print(f"subflow from {source}: {now}")
        time.sleep(0.05)

with MPTCP() as pm:
    subflow("10.0.0.3", "there")
    delete(addr="10.0.0.3")
    delete(addr="10.9.9.9")
    delete(id=6)
    subflow("10.0.0.1", "there")
    delete(addr="10.0.0.1")
    subflow("10.0.0.1", "gone")
    delete(id=5)
PYTHON
)
echo "$now"
diff <(sed -n '/^# Seen/,/^[^#]/s/^#   //p' "$self") <(echo "$now") || { echo 'differs: < was, > is now'; exit 1; }
