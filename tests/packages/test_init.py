"""The files for init systems, as far as they can be judged without starting anything."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess

import pytest

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


def test_the_unit_allows_what_the_daemon_does_to_itself(unit: pathlib.Path) -> None:
    """Giving up powers takes system calls, too."""
    (line,) = re.findall("^SystemCallFilter=(.*)$", unit.read_text(), re.M)
    names, allowed = line.split(), set()
    while names:
        name = names.pop()
        if name.startswith("@"):
            run = systemd_analyze("syscall-filter", name)
            names += [word.split()[0] for word in run.stdout.splitlines()[1:] if "#" not in word]
        else:
            allowed.add(name)
    assert {"seccomp", "prctl", "capget", "capset", "recvmmsg", "epoll_wait"} <= allowed


def test_the_unit_is_understood(unit: pathlib.Path) -> None:
    run = systemd_analyze("verify", "--man=no", unit)
    assert "mptcpd.service" not in run.stdout + run.stderr, run.stderr


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


def test_the_manifest_asks_for_one_power() -> None:
    """Not read as YAML, which the standard library cannot."""
    text = (PACKAGING / "kubernetes/mptcpd.yaml").read_text()
    assert "kind: DaemonSet" in text and "hostNetwork: true" in text
    assert re.findall(r"add: \[(.*)\]", text) == ["NET_ADMIN"]
    assert re.findall(r"drop: \[(.*)\]", text) == ["ALL"]
    for wanted in ("allowPrivilegeEscalation: false", "readOnlyRootFilesystem: true"):
        assert wanted in text
    assert "privileged: true" not in text
