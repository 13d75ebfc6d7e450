#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One would expect: tcpdump decodes MP_CAPABLE with data and a checksum (24 bytes, RFC 8684 section 3.1), which
#   each client sends with its first data when net.mptcp.checksum_enabled is 1; it knows the one without (22).
# In truth: it writes `mptcp 24 capable[bad opt]]` and ends the line there. Keys, the options behind it and the
#   `length` are lost, so what reads its lines misses the first data of each such connection. The same data in
#   DSS with a checksum are printed well.
# Version: tcpdump 4.99.3-1 (Debian 12), Linux 6.18.44.
# Source: print-mptcp.c, mp_capable_print(), which compares the length with those that it knows: 24 is none.
# Seen (numbers left out):
#   checksum 0: .. mptcp 22 capable v1 {..},nop,nop], length 5
#   checksum 1: .. mptcp 24 capable[bad opt]]
set -euo pipefail
self=$(realpath "$0")
cannot() { echo "cannot: $*" >&2; exit 2; }
((EUID == 0)) || cannot 'this makes a network namespace: run it as root'
[[ -e /proc/sys/net/mptcp/enabled ]] || cannot 'this kernel has no MPTCP'
for tool in apt-get dpkg-deb ip python3; do command -v "$tool" >/dev/null || cannot "$tool is missing"; done
unshare -n true 2>/dev/null || cannot 'no network namespaces here'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -qq download tcpdump=4.99.3-1 2>/dev/null || cannot 'apt does not offer tcpdump 4.99.3-1 here'
dpkg-deb -x tcpdump_*.deb .
usr/bin/tcpdump --version >/dev/null 2>&1 || cannot 'a library that tcpdump wants is missing'
echo "$(usr/bin/tcpdump --version 2>&1 | head -1), kernel $(uname -r)"

# The namespaces have no names and end with the programs in them.
cat >capture.py <<'PYTHON'
import re, socket, subprocess, sys

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with open("/proc/sys/net/mptcp/checksum_enabled", "w") as checksum:
    checksum.write(sys.argv[1])
dump = subprocess.Popen(["usr/bin/tcpdump", "-ntl", "-c4", "-i", "lo", "--immediate-mode", "tcp"],
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
while not dump.stderr.readline().startswith("listening"):
    pass
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
listener.bind(("127.0.0.1", 8000))
listener.listen()
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
client.connect(("127.0.0.1", 8000))
client.send(b"hello")
# SYN, SYN/ACK, ACK, data
data = dump.stdout.read().splitlines()[-1]
print(f"checksum {sys.argv[1]}: ..", re.sub(r"\{.*?\}", "{..}", data[data.index("mptcp"):]))
PYTHON

now=$(for checksum in 0 1; do
	timeout 60 unshare -n python3 capture.py $checksum || cannot 'nothing was captured in a minute'
done)
echo "$now"
diff <(sed -n '/^# Seen/,/^[^#]/s/^#   //p' "$self") <(echo "$now") || { echo 'differs: < was, > is now'; exit 1; }
