"""The files for init systems, as far as they can be judged without starting anything."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterable

import pytest

from mptcpd.cli.ctl import daemon as ctl_daemon
from mptcpd.core import config

PACKAGING = pathlib.Path(__file__).resolve().parents[2] / "packaging"
SCRIPTS = (
    *("sysv/mptcpd", "openrc/mptcpd.initd", "openrc/mptcpd.confd", "openwrt/files/mptcpd.init"),
    "debian/build.sh",
)
MOST = 20  # tenths: systemd-analyze's "exposure" of 2.0


@pytest.fixture
def unit(tmp_path: pathlib.Path) -> pathlib.Path:
    file = tmp_path / "mptcpd.service"
    text = (PACKAGING / "mptcpd.service").read_text()
    file.write_text(text.replace("@LAUNCHER@", "/bin/true"))
    return file


def systemd_analyze(*words: str | pathlib.Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze (Debian: systemd)")
    run = subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=60)
    if "unrecognized option" in run.stderr or "Unknown command" in run.stderr:
        pytest.skip("this systemd-analyze cannot judge files (systemd 250 can)")
    return run


def test_the_unit_is_tight(unit: pathlib.Path) -> None:
    run = systemd_analyze("security", "--offline=true", f"--threshold={MOST}", unit)
    assert run.returncode == 0, run.stdout
    (exposure,) = re.findall(r"Overall exposure level .*: ([\d.]+)", run.stdout)
    assert float(exposure) <= MOST / 10


def system_calls(lines: Iterable[str]) -> set[str]:
    """Those that lines of SystemCallFilter= name."""
    names, found = [name for line in lines for name in line.split()], set()
    while names:
        name = names.pop()
        if name.startswith("@"):
            run = systemd_analyze("syscall-filter", name)
            names += [word.split()[0] for word in run.stdout.splitlines()[1:] if "#" not in word]
        else:
            found.add(name)
    return found


def test_the_unit_allows_what_the_daemon_does_to_itself(unit: pathlib.Path) -> None:
    """Giving up powers takes system calls, too."""
    lines = re.findall("^SystemCallFilter=(.*)$", unit.read_text(), re.M)
    allowed = system_calls(line for line in lines if line[0] != "~")
    allowed -= system_calls(line[1:] for line in lines if line[0] == "~")
    assert {"seccomp", "prctl", "capget", "capset", "recvmmsg", "epoll_wait", "fchmod"} <= allowed


def test_the_units_are_understood(unit: pathlib.Path) -> None:
    socket = shutil.copy(PACKAGING / "mptcpd.socket", unit.parent)
    run = systemd_analyze("verify", "--man=no", unit, socket)
    assert "mptcpd." not in run.stdout + run.stderr, run.stderr


def test_the_socket_is_the_one_that_clients_know() -> None:
    """Named as control.handed_over looks for it, where mptcpctl asks, for root alone."""
    said = dict(re.findall(r"^(\w+)=(.*)$", (PACKAGING / "mptcpd.socket").read_text(), re.M))
    assert said["ListenStream"] == ctl_daemon.SOCKET
    assert (said["FileDescriptorName"], said["SocketMode"]) == ("control", "0600")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_posix_shell_reads_it(script: str) -> None:
    for shell in (["sh"], ["dash"], ["busybox", "sh"]):
        if shutil.which(shell[0]):
            run = subprocess.run([*shell, "-n", PACKAGING / script], capture_output=True)
            assert (run.returncode, run.stderr) == (0, b""), shell


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_has_no_complaint(script: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck")
    run = subprocess.run(["shellcheck", PACKAGING / script], capture_output=True, text=True)
    assert run.stdout == ""


def test_the_manifests_configuration_is_one() -> None:
    text = (PACKAGING / "kubernetes/mptcpd.yaml").read_text()
    (block,) = re.findall(r"^  mptcpd\.conf: \|\n((?:    .*\n)+)", text, re.M)
    said = config.parse("".join(line[4:] + "\n" for line in block.splitlines()), "mptcpd.conf")
    assert said.metrics_file is not None
    folder, _, _name = said.metrics_file.rpartition("/")
    assert f"mountPath: {folder}}}" in text
    # A path of the node, which node_exporter is told of in the same words.
    (place,) = re.findall(r"--collector\.textfile\.directory=(\S+)", text)
    assert f"hostPath: {{path: {place}, type: DirectoryOrCreate}}" in text


def test_the_manifest_asks_for_one_power() -> None:
    """Not read as YAML, which the standard library cannot."""
    text = (PACKAGING / "kubernetes/mptcpd.yaml").read_text()
    assert "kind: DaemonSet" in text and "hostNetwork: true" in text
    assert re.findall(r"add: \[(.*)\]", text) == ["NET_ADMIN"]
    assert re.findall(r"drop: \[(.*)\]", text) == ["ALL"]
    for wanted in ("allowPrivilegeEscalation: false", "readOnlyRootFilesystem: true"):
        assert wanted in text
    assert "privileged: true" not in text
    # Asked whether it is ready as people would ask, with a program that the image has.
    assert re.findall(r"command: \[(.*)\]", text) == ["/usr/bin/mptcpctl, status"]
    assert " PREFIX=/usr " in (PACKAGING / "kubernetes/Containerfile").read_text()
