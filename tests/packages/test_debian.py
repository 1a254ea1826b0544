"""The Debian package: built, installed, run and removed, in a root file system of its own.

That takes half a minute and Debian's tools, so only "make check-packages" does it. The file system
is the machine's own, with all that changes in a tmpfs over it (overlayfs), in namespaces that end
with the test; nothing of the machine is touched.
"""

from __future__ import annotations

import os
import pathlib
import pwd
import re
import shutil
import subprocess

import pytest

from mptcpd import __version__

TOP = pathlib.Path(__file__).resolve().parents[2]
# Steps print what the test looks at, each line with a word in front.
INSIDE = r"""
set -eu
cd /
ip link set lo up
ip link add eth0 type veth peer name eth1
ip link set eth1 up
ip address add 192.0.2.1/24 dev eth0
ip link set eth0 up
# The C daemon's packages have the same name: without them, as on most machines.
theirs=$(dpkg-query --show --showformat='${Package} ' '*mptcp*' 2>/dev/null || :)
[ -z "$theirs" ] || dpkg --purge --force-depends $theirs >/dev/null 2>&1
rm -rf /etc/mptcpd
# A container: it forbids services to start, and has no init. Here is a machine with System V init.
rm -f /usr/sbin/policy-rc.d
[ -e /sbin/init ] || ln -s /bin/true /sbin/init
rm -f /sbin/runlevel
printf '#!/bin/sh\necho N 2\n' >/sbin/runlevel
chmod 755 /sbin/runlevel
dpkg --install "$1" >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }
echo "version $(mptcpd --version)"
mptcpd --check-config | sed 's/^/check /'
find /usr/lib/mptcpd -name '*.pyc' | wc -l | sed 's/^/compiled /'
/etc/init.d/mptcpd status | sed 's/^/status /'
for try in $(seq 100); do
    ip mptcp endpoint | grep -q 192.0.2.1 && break
    sleep 0.1
done
ip mptcp endpoint | sed 's/^/endpoint /'
pid=$(cat /run/mptcpd.pid)
sed -n 's/^CapEff:[[:space:]]*/powers /p' "/proc/$pid/status"
readlink "/proc/$pid/exe" | sed 's/^/exe /'
tr '\0' ' ' <"/proc/$pid/cmdline" | sed 's/^/line /; s/$/\n/'
# As another user: with the control socket, a reload, and a process ID file that is root's.
printf '[core]\nuser=nobody\n' >/etc/mptcpd/mptcpd.conf
/etc/init.d/mptcpd restart
pid=$(cat /run/mptcpd.pid)
sed -n 's/^Uid:[[:space:]]*/uid /p' "/proc/$pid/status"
/etc/init.d/mptcpd reload
/usr/bin/python3 -I - "$pid" <<'END'
import sys
sys.path.insert(0, "/usr/lib/mptcpd")
from mptcpd.cli.control_client import ControlClient
client = ControlClient("/run/mptcpd/control.sock", patience=10.0)
print("asked", client.ask("status")["pid"] == int(sys.argv[1]), client.ask("reload")["kept"])
END
mptcp-get-debug --anonymous | sed -n 's/^pid = /reported /p'
echo "serves $pid"
dpkg --remove mptcpd >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }
kill -0 "$pid" 2>/dev/null && echo 'alive after removal' || :
left() { find /etc /usr /lib/systemd /run -path "$2" -prune -o -name '*mptcpd*' -print; }
left "$@" | sed 's/^/removed /'
dpkg --purge mptcpd >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }
left "$@" | sed 's/^/purged /'
echo done
"""
AROUND = r"""
set -eu
over=$1; shift
mount --make-rprivate /
mount -t tmpfs tmpfs "$over"
mkdir "$over/up" "$over/work" "$over/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$over/up,workdir=$over/work" "$over/root"
mount -t proc proc "$over/root/proc"
mount -t tmpfs tmpfs "$over/root/run"
mount -t tmpfs tmpfs "$over/root/tmp"
mount --rbind /dev "$over/root/dev"
cp "$1" "$over/root/tmp/package.deb"
exec chroot "$over/root" sh -c "$2" sh /tmp/package.deb "$3"
"""


def head(file: str) -> str:
    return (TOP / file).read_text().splitlines()[0]


def test_versions_agree() -> None:
    assert head("packaging/debian/changelog").startswith(f"mptcpd ({__version__}) ")
    for file, name in (("alpine/APKBUILD", "pkgver="), ("openwrt/Makefile", "PKG_VERSION:=")):
        assert f"\n{name}{__version__}\n" in (TOP / "packaging" / file).read_text()


def test_needs_nothing_else() -> None:
    control = (TOP / "packaging/debian/control").read_text()
    (line,) = re.findall(r"^Depends: (.*)$", control, re.M)
    names = {name.split()[0] for name in line.split(", ") if not name.startswith("$")}
    assert names == {"python3", "python3-cffi-backend"}
    assert "\nArchitecture: all\n" in control
    # Debian has that program in a package of its own.
    assert "\nConflicts: mptcpize\n" in control


def test_lintian_finds_no_error(package: pathlib.Path) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("no lintian")
    run = subprocess.run(["lintian", "--fail-on=error", package], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_installed_run_and_removed(package: pathlib.Path, tmp_path: pathlib.Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a root file system")
    over = tmp_path / "over"
    over.mkdir()
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net"]
    run = subprocess.run(
        [*command, "sh", "-c", AROUND, "sh", over, package, INSIDE, TOP],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    if "overlay" in run.stdout and "mount:" in run.stdout:
        pytest.skip(f"no overlay file system: {run.stdout.strip()}")
    said = run.stdout.splitlines()
    assert run.returncode == 0 and said[-1] == "done", run.stdout
    found: dict[str, list[str]] = {}
    for line in said[:-1]:
        word, _, rest = line.partition(" ")
        found.setdefault(word, []).append(rest)
    assert found["version"] == [f"mptcpd {__version__}"]
    assert found["check"][0] == "The configuration is fine."
    assert int(found["compiled"][0]) > 60, "byte code for the Python that is there"
    assert re.match(r"mptcpd runs \(\d+\)\.", found["status"][0]), "started when it is installed"
    assert any(line.startswith("192.0.2.1 id ") for line in found["endpoint"])
    assert int(found["powers"][0], 16) == 1 << 12
    assert found["line"][0].startswith("/usr/bin/python3 -I /usr/sbin/mptcpd --daemonize")
    nobody = str(pwd.getpwnam("nobody").pw_uid)
    assert found["uid"] == ["\t".join([nobody] * 4)]
    assert found["asked"] == ["True ['addr_adv']"]
    assert found["reported"] == found["serves"], "mptcp-get-debug has asked the daemon"
    assert "alive" not in found, "stopped when it is removed"
    assert all(file.startswith("/etc/") or file == "/run/mptcpd" for file in found["removed"])
    assert "/etc/mptcpd/mptcpd.conf" in found["removed"], "the administrator's own stays"
    # The notes about endpoints, which a later daemon of any version goes by.
    assert found.get("purged", []) in ([], ["/run/mptcpd"])
