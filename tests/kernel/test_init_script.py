"""The script for System V and BusyBox's init, with each shell that is here and a real daemon."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab import Lab, wait_until
from lab.network import Interface
from tests.kernel.conftest import alive
from tests.kernel.started import ROOT, endpoints

SHELLS = [["dash"], ["busybox", "sh"], ["bash", "--posix"]]


@pytest.fixture
def eth0(lab: Lab) -> Interface:
    client, server = lab.host("client"), lab.host("server")
    return lab.link(client, "eth0", "10.0.1.1/24", server, "eth0", ()).one


class Script:
    """The script as it would be installed, for a daemon with a configuration of its own."""

    def __init__(self, eth0: Interface, folder: pathlib.Path, shell: list[str]) -> None:
        self.host, self.shell = eth0.host, shell
        self.pidfile = folder / "pid"
        self.config = folder / "mptcpd.conf"
        self.config.write_text(f"[core]\nlog=null\nruntime-dir={folder}/run\n")
        self.config.chmod(0o644)
        launcher = folder / "mptcpd"
        launcher.write_text(
            f"#!{sys.executable} -I\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            "from mptcpd.cli.daemon import main\nsys.exit(main())\n"
        )
        launcher.chmod(0o755)
        settings = folder / "default/mptcpd"
        settings.parent.mkdir()
        settings.write_text(f"PIDFILE={self.pidfile}\nOPTIONS='--config={self.config}'\n")
        text = (ROOT / "packaging/sysv/mptcpd").read_text()
        self.file = folder / "init"
        self.file.write_text(
            text.replace("@LAUNCHER@", str(launcher)).replace("@SYSCONFDIR@", str(folder))
        )

    def __call__(self, word: str) -> tuple[int, str]:
        process = self.host.popen(
            [*self.shell, str(self.file), word],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    @property
    def pid(self) -> int:
        return int(self.pidfile.read_text() or 0) if self.pidfile.exists() else 0


@pytest.fixture(params=SHELLS, ids=lambda shell: str(shell[0]))
def script(
    eth0: Interface, tmp_path: pathlib.Path, request: pytest.FixtureRequest
) -> Iterator[Script]:
    if shutil.which(request.param[0]) is None:
        pytest.skip(f"no {request.param[0]}")
    script = Script(eth0, tmp_path, request.param)
    yield script
    assert script("stop") == (0, "")


def test_a_day_in_its_life(script: Script) -> None:
    assert script("status") == (3, "mptcpd does not run.\n")
    assert script("stop") == (0, "")
    assert script("start") == (0, "")
    first = script.pid
    assert endpoints(script.host).keys() == {"10.0.1.1"}
    assert script("status") == (0, f"mptcpd runs ({first}).\n")
    assert script("start") == (0, f"mptcpd runs already ({first}).\n")
    assert script("reload") == (0, "")
    assert script("restart") == (0, "")
    second = script.pid
    assert second != first and alive(second) and not alive(first)
    os.kill(second, signal.SIGKILL)
    wait_until(lambda: not alive(second), "the daemon is gone")
    assert script("status") == (1, "mptcpd has died.\n")
    assert script("start") == (0, "")
    assert script("stop") == (0, "")
    assert not alive(script.pid or second) and not script.pidfile.exists()


def test_a_daemon_that_cannot_start(script: Script) -> None:
    script.config.write_text("[core]\nbogus=1\n")
    code, said = script("start")
    assert code == 1 and 'unknown key "bogus"' in said
    assert script("status")[0] == 3
    assert script("nonsense")[0] == 2


def test_an_old_file_names_somebody_else(script: Script) -> None:
    # Somebody who looks at the daemon's configuration, for instance.
    sleep = "import time; time.sleep(100)"
    other = script.host.popen([sys.executable, "-c", sleep, str(script.config), "mptcpd"])
    script.pidfile.write_text(f"{other.pid}\n")
    assert script("stop") == (0, "")
    assert other.poll() is None
