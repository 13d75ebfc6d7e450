#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# One would expect: `mptcpize enable UNIT` adds LD_PRELOAD to the environment of a systemd unit, and `disable`
#   takes that away again: the unit is what it was.
# In truth: both delete every line of the unit that begins with Environment=, whatever it sets, and keep
#   nothing of it. After the pair the service has lost PORT and NAME. EnvironmentFile= lines stay. A drop-in
#   (UNIT.d/mptcp.conf with one Environment=LD_PRELOAD=.. line) does the same job and harms nothing.
# Version: mptcpize 0.12-1 (Debian 12).
# Source: mptcpd, src/mptcpize.c, unit_update(); its manual says that `disable` removes the launcher.
# Seen:
#   before: Environment=PORT=8080 Environment="NAME=a b" EnvironmentFile=-/etc/default/x
#   enabled: Environment=LD_PRELOAD=.. EnvironmentFile=-/etc/default/x
#   disabled: EnvironmentFile=-/etc/default/x
set -euo pipefail
self=$(realpath "$0")
cannot() { echo "cannot: $*" >&2; exit 2; }
for tool in apt-get dpkg-deb; do command -v "$tool" >/dev/null || cannot "$tool is missing"; done

work=$(mktemp -d -p /tmp) # mptcpize renames a file of /tmp to the unit: they have to share a file system
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -qq download mptcpize=0.12-1 2>/dev/null || cannot 'apt does not offer mptcpize 0.12-1 here'
dpkg-deb -x mptcpize_*.deb .

# The unit is a file of ours, and a systemctl that does nothing takes the `daemon-reload`: no systemd is told.
printf '#!/bin/sh\n' >systemctl
chmod +x systemctl
cat >x.service <<'UNIT'
[Service]
Environment=PORT=8080
Environment="NAME=a b"
EnvironmentFile=-/etc/default/x
ExecStart=/bin/true
UNIT
mptcpize() { PATH=$work:$PATH usr/bin/mptcpize "$1" ./x.service >/dev/null || cannot "mptcpize $1 failed"; }

environment() { grep '^Environment' x.service | sed 's/LD_PRELOAD=.*/LD_PRELOAD=../' | paste -sd' '; }

now="before: $(environment)"
mptcpize enable
now+=$'\n'"enabled: $(environment)"
mptcpize disable
now+=$'\n'"disabled: $(environment)"
echo "$now"
diff <(sed -n '/^# Seen/,/^[^#]/s/^#   //p' "$self") <(echo "$now") || { echo 'differs: < was, > is now'; exit 1; }
