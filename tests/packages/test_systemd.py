"""The units as systemd runs them: a systemd of its own boots, in namespaces that end with the test.

That takes ten seconds and root, so only "make check-packages" does it. Its root file system is the
machine's own, with all that changes in a tmpfs over it (overlayfs); nothing of the machine is
touched.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
SYSTEMD = "/lib/systemd/systemd"
NAMESPACES = ("mount", "pid", "net", "ipc", "uts", "cgroup")
# Before PID 1: mounts, the installation, and a target with one of the scripts below in it.
AROUND = r"""
set -eu
over=$1 out=$2 top=$3 script=$4 package=$5
mount --make-rprivate /
mount -t tmpfs tmpfs "$over"
mkdir "$over/up" "$over/work" "$over/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$over/up,workdir=$over/work" "$over/root"
root=$over/root
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for folder in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$root/$folder"; done
for name in null zero full random urandom tty; do
    : >"$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/shm" "$root/dev/pts" "$root/out"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount --bind "$out" "$root/out"
rm -rf "$root/etc/mptcpd" "$root/etc/systemd/system"/*mptcp* "$root/lib/systemd/system"/*mptcp*
if [ -n "$package" ]; then
    cp "$package" "$root/opt/package.deb"
    rm -f "$root/usr/sbin/policy-rc.d"  # a container's: no service is to be started
else
    make -s -C "$top" install PYTHON=/usr/bin/python3 PREFIX=/usr SYSCONFDIR=/etc COMPILE= \
        UNITDIR=/lib/systemd/system DESTDIR="$root"
fi
printf '%s' "$script" >"$root/opt/try.sh"
cat >"$root/etc/systemd/system/try.service" <<'END'
[Unit]
DefaultDependencies=no
After=basic.target
[Service]
Type=oneshot
ExecStart=-/bin/sh -c '/bin/sh -eu /opt/try.sh >/out/said 2>&1'
ExecStartPost=/bin/systemctl --no-block exit
END
cat >"$root/etc/systemd/system/try.target" <<'END'
[Unit]
Requires=sysinit.target sockets.target try.service
After=sysinit.target
END
for unit in udevd networkd resolved timesyncd logind; do
    ln -sf /dev/null "$root/etc/systemd/system/systemd-$unit.service"
done
export container=docker
exec chroot "$root" /lib/systemd/systemd --unit=try.target --log-target=null --show-status=no
"""
# Scripts print what the tests look at, each line with a word in front.
NETWORK = r"""
trap '[ $? = 0 ] || systemctl status mptcpd' EXIT
ip link set lo up
ip link add eth0 type veth peer name eth1
ip link set eth1 up
ip address add 192.0.2.1/24 dev eth0
ip link set eth0 up
"""
UNITS = r"""
somebody() { setpriv --reuid nobody --regid nogroup "$@" 2>&1; }
powers() { sed -n 's/^CapEff:[[:space:]]*//p' "/proc/$(systemctl show -P MainPID mptcpd)/status"; }
logged() { journalctl --sync; journalctl --output=cat --unit=mptcpd; }
until_there() { for _try in $(seq 100); do [ -e "$1" ] && return; sleep 0.1; done; }
settings() { printf '[core]\nmetrics-interval=1s\n' | cat - "$@" >/etc/mptcpd/mptcpd.conf; }

settings /dev/null
systemctl start mptcpd
echo "active $(systemctl show -P ActiveState -P StatusText mptcpd | tr '\n' ' ')"
echo "powers $(powers)"
mptcpctl endpoints | sed 's/^/endpoint /'
systemctl reload mptcpd
mptcpctl status | sed -n 's/^reloads: /reloads /p'

# Settings that want a drop-in file, without it ...
mkdir /var/lib/textfile
printf 'control-group=users\nmetrics-file=/var/lib/textfile/mptcpd.prom\n' >/tmp/more
settings /tmp/more
systemctl restart mptcpd
logged | sed -n 's/^control-group: /advice &/p; s/^metrics-file=/advice &/p'
# ... and with that of the manual page.
mkdir /etc/systemd/system/mptcpd.service.d
sed -n '/UNDER SYSTEMD/,/SH THE/{/^\.EX/,/^\.EE/{/^\./d;s/\\//g;p;};}' \
    /usr/share/man/man5/mptcpd.conf.5 |
    sed 's/=netdev$/=users/; s|=/var/lib/prometheus.*|=/var/lib/textfile|' \
    >/etc/systemd/system/mptcpd.service.d/try.conf
systemctl daemon-reload
systemctl restart mptcpd
echo "powers $(powers)"
echo "member $(somebody --groups users mptcpctl status | head -n 1)"
echo "stranger $(somebody --clear-groups mptcpctl status)"
file=/var/lib/textfile/mptcpd.prom
until_there "$file"
echo "metrics $(somebody --clear-groups grep -c '^mptcpd_endpoints 1$' "$file")"
rm -r /etc/systemd/system/mptcpd.service.d
settings /dev/null
systemctl daemon-reload
systemctl restart mptcpd
mptcpctl endpoints | sed 's/^/endpoint /'
logged | sed -n '/not believed/p'

# Started by a question.
systemctl stop mptcpd
systemctl start mptcpd.socket
echo "before $(systemctl show -P ActiveState mptcpd)"
mptcpctl status | sed -n 's/^clients at /clients /p'
echo "after $(systemctl show -P ActiveState mptcpd)"
echo "mode $(stat --dereference -c %a /run/mptcpd/control.sock)"
mptcpctl endpoints | sed 's/^/endpoint /'
echo done
"""


PACKAGE = r"""
theirs=$(dpkg-query --show --showformat='${Package} ' '*mptcp*' 2>/dev/null || :)
[ -z "$theirs" ] || dpkg --purge --force-depends $theirs >/dev/null 2>&1
package() { dpkg "$@" >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }; }
states() {
    for unit in mptcpd.service mptcpd.socket; do
        echo "$1 $unit $(systemctl is-enabled $unit 2>&1 || :) $(systemctl is-active $unit || :)"
    done
}
package --install /opt/package.deb
states installed
# In the way of the manual: the socket starts the service.
systemctl disable --now mptcpd.service >/dev/null 2>&1
systemctl enable --now mptcpd.socket >/dev/null 2>&1
mptcpctl status | sed -n 's/^mptcpd .*process \([0-9]*\).*/process \1/p'
package --install /opt/package.deb
states upgraded
mptcpctl status | sed -n 's/^mptcpd .*process \([0-9]*\).*/process \1/p; s/^clients at /clients /p'
package --remove mptcpd
echo "removed $(systemctl is-active mptcpd.service mptcpd.socket | tr '\n' ' ')"
if [ -e /run/mptcpd/control.sock ]; then echo 'left control.sock'; fi
package --purge mptcpd
find /etc/systemd /lib/systemd /etc/mptcpd -name '*mptcpd*' 2>/dev/null | sed 's/^/left /'
echo done
"""


def booted(folder: pathlib.Path, script: str, package: pathlib.Path | None) -> dict[str, list[str]]:
    """What a script says in a booted system with mptcpd installed, or only its package there."""
    if not os.environ.get("MPTCPD_TEST_PACKAGES"):
        pytest.skip('systemd is booted by "make check-packages"')
    if os.geteuid() != 0:
        pytest.skip("only root can mount a root file system")
    tools = ("unshare", "ip", "setpriv", "make", "journalctl", SYSTEMD)
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"missing: {', '.join(missing)}")
    if subprocess.run(["/usr/bin/python3", "-Ic", "import _cffi_backend"]).returncode:
        pytest.skip("no cffi for /usr/bin/python3 (Debian: python3-cffi-backend)")
    over, out = folder / "over", folder / "out"
    over.mkdir()
    out.mkdir()
    unshare = ["unshare", "--fork", "--kill-child", *(f"--{name}" for name in NAMESPACES)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    run = subprocess.run(
        [*unshare, "sh", "-c", AROUND, "sh", over, out, TOP, NETWORK + script, package or ""],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    if "mount:" in run.stdout:
        pytest.skip(f"not on this machine: {run.stdout.strip()}")
    assert (out / "said").exists(), run.stdout
    text = (out / "said").read_text()
    said = text.splitlines()
    assert said[-1:] == ["done"], text
    found: dict[str, list[str]] = {}
    for line in said[:-1]:
        word, _, rest = line.partition(" ")
        found.setdefault(word, []).append(rest)
    return found


def test_units(tmp_path: pathlib.Path) -> None:
    found = booted(tmp_path, UNITS, None)
    assert found.pop("active") == ["Plugins: addr_adv active "]
    assert found.pop("powers") == ["0000000000001000"] * 2
    ours = ["192.0.2.1 id 1 subflow ifindex 3 its own", "limits: add_addr_accepted 3 subflows 3"]
    assert found.pop("endpoint") == 3 * ours, "known again by whichever user systemd runs it as"
    assert found.pop("reloads")[0].startswith("1, refused: 0; the last: Plugins kept: addr_adv.")
    group, metrics = found.pop("advice")
    assert "drop-in file for that, see mptcpd.conf(5)" in group
    assert "needs ReadWritePaths=/var/lib/textfile, see mptcpd.conf(5)" in metrics
    assert found.pop("member")[0].startswith("mptcpd ")
    assert found.pop("stranger")[0].endswith("control.sock: Permission denied.")
    assert found.pop("metrics") == ["1"], "anybody may read it"
    assert (found.pop("before"), found.pop("after")) == (["inactive"], ["active"])
    assert (found.pop("clients"), found.pop("mode")) == (["systemd: 1"], ["600"])
    assert found == {}


def test_the_debian_package(package: pathlib.Path, tmp_path: pathlib.Path) -> None:
    found = booted(tmp_path, PACKAGE, package)
    assert found.pop("installed") == [
        "mptcpd.service enabled active", "mptcpd.socket disabled inactive"
    ]  # fmt: skip
    assert found.pop("upgraded") == [
        "mptcpd.service disabled active", "mptcpd.socket enabled active"
    ]  # fmt: skip
    before, after = found.pop("process")
    assert before != after and found.pop("clients") == ["systemd: 1"]
    assert found.pop("removed") == ["inactive inactive "]
    assert found == {}, "nothing is left"
