"""The daemon as it stands in the system: which powers it has left, and that it is alone."""

from __future__ import annotations

import os
import pathlib
import pwd
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from lab import Host, Lab, wait_until
from lab.network import Interface, add_address, add_default_route
from mptcpd.cli import daemon, privileges
from mptcpd.nl import capabilities, libc
from mptcpd.nl import uapi as u
from mptcpd.nl.capabilities import Sets
from tests.kernel.started import ROOT, Started, endpoints

ADMIN = 1 << 12
TRIES = """
import os, socket, subprocess
from mptcpd.plugin import Plugin

class Tries(Plugin):
    def new_local_address(self, interface, address, pm):
        for name, attempt in (
            ("child", lambda: subprocess.run(["true"])),
            ("packet", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
            ("file", lambda: os.listdir("/")),
        ):
            try:
                attempt()
                pm.log.info("%s: fine", name)
            except OSError as error:
                pm.log.info("%s: %s", name, error.strerror)
        pm.add_endpoint(address, flags=["subflow"], ifindex=interface.index)
"""
# Without imports: another user may not be able to read this interpreter's library.
FORKS = """
import os
from mptcpd.plugin import Plugin

class Forks(Plugin):
    def new_local_address(self, interface, address, pm):
        try:
            os.fork()
        except OSError as error:
            pm.log.info("fork: %s", error.strerror)
"""


@pytest.fixture
def eth0(lab: Lab) -> Interface:
    client, server = lab.host("client"), lab.host("server")
    link = lab.link(client, "eth0", "10.0.1.1/24", server, "eth0", "10.0.1.2/24")
    add_default_route(link.one, "10.0.1.2")
    return link.one


@pytest.fixture
def open_folder() -> Iterator[pathlib.Path]:
    """A folder that other users can read.

    None of pytest's: those are its user's alone, and any other pytest of that user that starts
    meanwhile closes them again.
    """
    with tempfile.TemporaryDirectory(prefix="mptcpd-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        if not all(parent.stat().st_mode & 0o001 for parent in folder.parents):
            pytest.skip(f"other users cannot reach {folder.parent}")
        yield folder


def only_root() -> None:
    if os.geteuid() != 0 or not privileges._may_set_groups():
        pytest.skip("only root can become somebody else")


def status(pid: int) -> dict[str, str]:
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return dict(re.findall(r"^(\w+):\t(.*)$", text, re.M))


def assert_few_powers(pid: int, sandbox: bool = True) -> None:
    found = status(pid)
    assert int(found["CapEff"], 16) == int(found["CapPrm"], 16) == ADMIN
    assert int(found["CapInh"], 16) == int(found["CapAmb"], 16) == 0
    assert int(found["CapBnd"], 16) == ADMIN
    assert found["NoNewPrivs"] == "1"
    assert found.get("Seccomp", "0") == ("2" if sandbox and "Seccomp" in found else "0")


def test_one_power_is_left(eth0: Interface, tmp_path: pathlib.Path) -> None:
    with Started(eth0.host, tmp_path, "--debug") as daemon:
        daemon.until_ready()
        assert_few_powers(daemon.pid)
        (line,) = [line for line in daemon.lines if "powers left" in line]
        assert "effective cap_net_admin, permitted cap_net_admin, inheritable none" in line
        assert "no_new_privs yes; system call filter yes (1)" in line
        add_address(eth0, "10.0.2.1/24")
        daemon.until("10.0.1.1", "10.0.2.1")
        assert daemon.stop() == 0


@pytest.mark.parametrize("sandbox", [True, False])
def test_what_a_plugin_can_do(eth0: Interface, tmp_path: pathlib.Path, sandbox: bool) -> None:
    """Refused calls are that plugin's errors, not the daemon's end; --no-sandbox lifts them."""
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    (folder / "tries.py").write_text(TRIES)
    (folder / "tries.py").chmod(0o644)
    options = [f"--plugin-dir={folder}", *([] if sandbox else ["--no-sandbox"])]
    with Started(eth0.host, tmp_path, *options, core="") as daemon:
        daemon.until("10.0.1.1")
        assert_few_powers(daemon.pid, sandbox)
        answer = "Operation not permitted" if sandbox else "fine"
        assert f"child: {answer}" in daemon.lines
        # Without the filter it is the missing CAP_NET_RAW.
        assert "packet: Operation not permitted" in daemon.lines
        assert "file: fine" in daemon.lines
        assert daemon.stop() == 0


def test_as_another_user(eth0: Interface, open_folder: pathlib.Path) -> None:
    """It can do all it could as root: switch the path manager, note and keep its endpoints."""
    only_root()
    core = "load-plugins=addr_adv\nuser=nobody\npm=userspace\nnotify-flags=existing,check_route"
    nobody = pwd.getpwnam("nobody")
    with Started(eth0.host, open_folder, core=core) as daemon:
        daemon.until("10.0.1.1")
        assert_few_powers(daemon.pid)
        assert status(daemon.pid)["Uid"].split() == [str(nobody.pw_uid)] * 4
        assert status(daemon.pid)["Gid"].split() == [str(nobody.pw_gid)] * 4
        add_address(eth0, "10.0.2.1/24")
        daemon.until("10.0.1.1", "10.0.2.1")
        (notes,) = (open_folder / "run").glob("endpoints-*")
        assert notes.stat().st_uid == nobody.pw_uid and "10.0.2.1" in notes.read_text()
        assert daemon.stop() == 0
    assert eth0.host.sysctl("net.mptcp.pm_type") == "1"
    # The next start knows its notes again, and takes over what it noted.
    with Started(eth0.host, open_folder, "--debug", core=f"{core}\ncleanup=yes") as daemon:
        daemon.until_ready()
        daemon.until("10.0.1.1", "10.0.2.1")
        assert daemon.stop() == 0
        assert "not believed" not in daemon.said
    assert endpoints(eth0.host) == {}, daemon.said


def test_reloads_as_another_user(eth0: Interface, open_folder: pathlib.Path) -> None:
    """Configuration and plugins are read again with the powers that are left; the user stays."""
    only_root()
    folder = open_folder / "plugins"
    folder.mkdir(mode=0o755)
    plugin = folder / "one.py"
    plugin.write_text(FORKS)
    plugin.chmod(0o644)
    core = f"plugin-dir={folder}\nuser=nobody"
    with Started(eth0.host, open_folder, "--debug", core=core) as started:
        started.until_ready()
        plugin.write_text(FORKS.replace("fork: ", "fork again: "))
        started.file.write_text(started.file.read_text().replace("nobody", "root"))
        started.process.send_signal(signal.SIGHUP)
        started.until_said("fork again: Operation not permitted")
        assert_few_powers(started.pid)
        assert status(started.pid)["Uid"].split()[0] == str(pwd.getpwnam("nobody").pw_uid)
        started.file.chmod(0o600)  # root's alone: it cannot be read any more
        started.process.send_signal(signal.SIGHUP)
        started.until_said("Permission denied")
        assert started.stop() == 0


def as_ordinary_user(file: str) -> int:
    """In a child: what systemd does with User= and AmbientCapabilities=; then the daemon."""
    nobody = pwd.getpwnam("nobody")
    capabilities.keep_over_setuid(True)
    os.setgroups(())
    os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
    os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
    capabilities.put(Sets(ADMIN, ADMIN, ADMIN))
    libc.prctl(u.PR_CAP_AMBIENT, 2, 12)  # PR_CAP_AMBIENT_RAISE
    return daemon.main([f"--config={file}"])


def test_started_by_an_ordinary_user(eth0: Interface, open_folder: pathlib.Path) -> None:
    """With the capability granted it is all the same; without it, it says so."""
    only_root()
    (open_folder / "run").mkdir()
    os.chown(open_folder / "run", pwd.getpwnam("nobody").pw_uid, -1)
    file = open_folder / "mptcpd.conf"
    file.write_text(f"[core]\nlog=null\nruntime-dir={open_folder}/run\nload-plugins=addr_adv\n")
    call = eth0.host.call(as_ordinary_user, str(file))
    wait_until(lambda: endpoints(eth0.host).keys() == {"10.0.1.1"}, "an endpoint for 10.0.1.1")
    wait_until(lambda: any((open_folder / "run").glob("endpoints-*")), "notes of it")
    found = status(call.pid)
    assert (found["CapEff"], found["CapPrm"]) == ("0000000000001000",) * 2
    assert int(found["CapInh"], 16) == int(found["CapAmb"], 16) == 0
    assert found["NoNewPrivs"] == "1" and found.get("Seccomp", "2") == "2"
    add_address(eth0, "10.0.2.1/24")
    wait_until(lambda: "10.0.2.1" in endpoints(eth0.host), "an endpoint for 10.0.2.1")
    os.kill(call.pid, signal.SIGTERM)
    assert call.result() == 0


def test_a_user_that_is_not_there(eth0: Interface, tmp_path: pathlib.Path) -> None:
    with Started(eth0.host, tmp_path, core="user=who-is-this") as daemon:
        assert daemon.status() == 1
        assert daemon.lines == ["user=who-is-this: there is no user of this name."]


# One at a time


def test_the_second_is_refused(eth0: Interface, tmp_path: pathlib.Path) -> None:
    (tmp_path / "other").mkdir()
    with Started(eth0.host, tmp_path) as one:
        one.until("10.0.1.1")
        with Started(eth0.host, tmp_path / "other") as other:
            assert other.status() == 1
            assert other.lines == [
                f"mptcpd runs already in this network namespace, with process ID {one.pid}."
            ]
        assert endpoints(eth0.host).keys() == {"10.0.1.1"}
        one.process.kill()
        one.process.wait()
        # Nothing of it is left behind: no file, no name.
        with Started(eth0.host, tmp_path / "other") as other:
            other.until("10.0.1.1")


def test_another_network_has_its_own(lab: Lab, tmp_path: pathlib.Path) -> None:
    (tmp_path / "other").mkdir()
    here, there = lab.host("here"), lab.host("there")
    with Started(here, tmp_path, "--debug") as one, Started(
        there, tmp_path / "other", "--debug"
    ) as other:  # fmt: skip
        one.until_ready()
        other.until_ready()


# In the background


def detach(
    host: Host, folder: pathlib.Path, *arguments: str, core: str = "load-plugins=addr_adv"
) -> tuple[int, str]:
    """Exit status and messages of the command that starts a daemon in the background."""
    file = folder / "mptcpd.conf"
    file.write_text(f"[core]\nruntime-dir={folder}/run\nlog=null\n{core}\n")
    file.chmod(0o644)
    command = [sys.executable, "-m", "mptcpd.cli.daemon", "--daemonize", f"--config={file}"]
    process = host.popen(
        [*command, f"--pidfile={folder}/pid", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said, _ = process.communicate(timeout=30)
    return process.returncode, said


def test_in_the_background(eth0: Interface, tmp_path: pathlib.Path) -> None:
    """When the command ends, the daemon has done its first work."""
    assert detach(eth0.host, tmp_path) == (0, "")
    pid = int((tmp_path / "pid").read_text())
    try:
        assert endpoints(eth0.host).keys() == {"10.0.1.1"}
        assert_few_powers(pid)
        assert detach(eth0.host, tmp_path, f"--pidfile={tmp_path}/other") == (
            1,
            f"mptcpd runs already in this network namespace, with process ID {pid}.\n",
        )
        assert not (tmp_path / "other").exists()
        assert int((tmp_path / "pid").read_text()) == pid
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not (tmp_path / "pid").exists(), "the process ID file goes with it")


def test_not_ready_in_the_background(eth0: Interface, tmp_path: pathlib.Path) -> None:
    """The command tells why, and nothing is left behind."""
    eth0.host.set_sysctl("net.mptcp.enabled", 0)
    code, said = detach(eth0.host, tmp_path)
    assert code == 1
    assert said.splitlines()[0] == "MPTCP is not enabled in the kernel."
    assert not (tmp_path / "pid").exists()
    eth0.host.set_sysctl("net.mptcp.enabled", 1)
    code, said = detach(eth0.host, tmp_path, "--path-manager=nothing")
    assert code == 1 and 'No plugin is named "nothing"' in said
    assert not (tmp_path / "pid").exists()


def test_files_whose_place_depends(eth0: Interface, tmp_path: pathlib.Path) -> None:
    code, said = detach(eth0.host, tmp_path, "--runtime-dir=run")
    assert (code, said) == (1, 'runtime-dir: "run" has to begin with / with --daemonize\n')
    code, said = detach(eth0.host, tmp_path, "--pidfile=/nothing/here/pid")
    assert (code, said) == (1, "--pidfile: /nothing/here/pid: No such file or directory\n")
