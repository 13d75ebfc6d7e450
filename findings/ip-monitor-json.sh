#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One would expect: `ip -j mptcp monitor` prints JSON, as `ip -j mptcp endpoint show` does, or refuses the -j.
# In truth: the option is taken without a word, and the events are the same lines for people as without it, in
#   brackets, so that a program's first thought may be an array.
# Version: iproute2 6.1.0-3 (Debian 12), Linux 6.18.44.
# Source: ip/ipmptcp.c, mptcp_monitor_msg() and its helpers print with printf() and know no JSON, while
#   print_mptcp_addrinfo() uses print_string() and its like; man ip-mptcp says nothing about it.
# Seen:
#   ip -j mptcp endpoint show: JSON
#   ip -j mptcp monitor: 0 lines of JSON, the same as without -j: True
#   a line of a connection: [       CREATED] token=..
set -euo pipefail
self=$(realpath "$0")
cannot() { echo "cannot: $*" >&2; exit 2; }
((EUID == 0)) || cannot 'this makes a network namespace: run it as root'
[[ -e /proc/sys/net/mptcp/enabled ]] || cannot 'this kernel has no MPTCP'
for tool in apt-get dpkg-deb python3; do command -v "$tool" >/dev/null || cannot "$tool is missing"; done
unshare -n true 2>/dev/null || cannot 'no network namespaces here'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -qq download iproute2=6.1.0-3 2>/dev/null || cannot 'apt does not offer iproute2 6.1.0-3 here'
dpkg-deb -x iproute2_*.deb .
bin/ip -V >/dev/null 2>&1 || cannot 'a library that iproute2 wants is missing'
echo "$(bin/ip -V), kernel $(uname -r)"

# The namespace has no name and ends with the programs in it.
now=$(unshare -n python3 - <<'PYTHON'
import json, re, socket, subprocess, sys, time

def is_json(text):
    try:
        json.loads(text)
        return True
    except ValueError:
        return False

def until(condition):
    end = time.monotonic() + 20
    while not condition():
        if time.monotonic() > end:
            print("cannot: the monitors said nothing in 20 seconds", file=sys.stderr)
            sys.exit(2)
        time.sleep(0.05)

subprocess.run(["bin/ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["bin/ip", "mptcp", "endpoint", "add", "10.0.0.3", "id", "5", "subflow"], check=True)
endpoints = subprocess.run(["bin/ip", "-j", "mptcp", "endpoint", "show"], check=True, capture_output=True, text=True)

monitors = []
for name, command in ("plain", ["bin/ip", "mptcp", "monitor"]), ("json", ["bin/ip", "-j", "mptcp", "monitor"]):
    monitors.append(subprocess.Popen(command, stdout=open(name, "w")))
# Both listen: two sockets of NETLINK_GENERIC (16) with a group.
rows = lambda: [line.split() for line in open("/proc/self/net/netlink")]
until(lambda: sum(row[1] == "16" and int(row[3], 16) != 0 for row in rows()) == 2)

listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
listener.bind(("127.0.0.1", 8000))
listener.listen()
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
client.connect(("127.0.0.1", 8000))
client.close()
until(lambda: all(" CLOSED]" in open(name).read() for name in ("plain", "json")))
for monitor in monitors:
    monitor.terminate()
    monitor.wait()
plain, lines = (open(name).read().splitlines() for name in ("plain", "json"))

created = next((re.sub(r"=.*", "=..", line) for line in lines if "CREATED" in line and "token" in line), None)
print("ip -j mptcp endpoint show:", "JSON" if is_json(endpoints.stdout) else "no JSON")
print(f"ip -j mptcp monitor: {sum(map(is_json, lines))} lines of JSON, the same as without -j: {plain == lines}")
print("a line of a connection:", created)
PYTHON
)
echo "$now"
diff <(sed -n '/^# Seen/,/^[^#]/s/^#   //p' "$self") <(echo "$now") || { echo 'differs: < was, > is now'; exit 1; }
