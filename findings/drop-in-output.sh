#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One would expect: a path is dead for its sender when nftables drops all that leaves. Segments get lost, the
#   retransmission timer runs, RTO doubles, retransmissions are counted, BPF's RTO_CB and any path manager that
#   waits for timeouts sees them.
# In truth: a drop in the hook `output` is a transmission that failed here, not a loss. The segment counts as
#   never sent, TCP arms the probe (persist) timer, and there is no timeout and no retransmission, ever. The
#   same rule in the receiver's hook `prerouting` gives what one wants. A test of dead paths drops there.
# Version: Linux 6.18.44, with MPTCP and plain TCP alike.
# Source: net/ipv4/tcp_output.c, tcp_write_xmit() stops when tcp_transmit_skb() fails, and without packets
#   in flight __tcp_push_pending_frames() calls tcp_check_probe_timer().
# Seen:
#   output: timer persist, timeouts no, unsent bytes 1000
#   prerouting: timer on, timeouts yes, unsent bytes 0
set -euo pipefail
self=$(realpath "$0")
cannot() { echo "cannot: $*" >&2; exit 2; }
((EUID == 0)) || cannot 'this makes a network namespace: run it as root'
[[ -e /proc/sys/net/mptcp/enabled ]] || cannot 'this kernel has no MPTCP'
for tool in ip ss nft nstat python3; do command -v "$tool" >/dev/null || cannot "$tool is missing"; done
# The namespaces have no names and end with the programs in them.
unshare -n nft add table ip try 2>/dev/null || cannot 'no network namespaces or no nf_tables here'

echo "kernel $(uname -r)"
send() {
	unshare -n python3 - "$1" <<'PYTHON'
import re, socket, subprocess, sys, time

hook = sys.argv[1]
def run(line):
    return subprocess.run(line, shell=True, check=True, capture_output=True, text=True).stdout

run("ip link set lo up")
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
listener.bind(("127.0.0.1", 8000))
listener.listen()
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
client.connect(("127.0.0.1", 8000))
server = listener.accept()[0]
for a, b in (client, server), (server, client):
    a.send(b"x")
    b.recv(1)

def subflow():
    return run("ss -tionH state established dport = 8000")

def until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)

until(lambda: "unacked" not in subflow() and "timer" not in subflow(), 10)  # all before is acknowledged
run("nft add table ip t")
run(f"nft 'add chain ip t c {{ type filter hook {hook} priority 0; }}'")
run("nft add rule ip t c tcp dport 8000 drop")
client.send(bytes(1000))

def timeouts():
    return int(run("nstat -asz TcpExtTCPTimeouts").split()[-2])

until(timeouts, 5)  # the first is due after 0.2 seconds
state = subflow()
timer = re.search(r"timer:\((\w+)", state)
unsent = re.search(r"notsent:(\d+)", state)
print(f"{hook}: timer {timer and timer[1]}, timeouts {'yes' if timeouts() else 'no'},"
      f" unsent bytes {unsent[1] if unsent else 0}")
PYTHON
}

now=$(send output && send prerouting)
echo "$now"
diff <(sed -n '/^# Seen/,/^[^#]/s/^#   //p' "$self") <(echo "$now") || { echo 'differs: < was, > is now'; exit 1; }
