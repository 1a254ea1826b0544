"""What the programs print for people, when nobody takes it. (The rules: test_options.py.)"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize(
    "line",
    [
        "daemon --help",
        f"daemon --check-config --config={ROOT}/etc/mptcpd.conf",
        "mptcpize --usage",
        "get_debug --version",
    ],
)
def test_nobody_takes_what_it_prints(line: str, buffered: bool) -> None:
    """A reader that is gone: by SIGPIPE, without a word. A full disk: a line, and exit status 1."""
    module, *words = line.split()
    command = [sys.executable, "-m", f"mptcpd.cli.{module}", *words]
    environ = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environ |= {} if buffered else {"PYTHONUNBUFFERED": "1"}

    def ended(stdout: int) -> tuple[int, str]:
        with open(stdout, "wb") as stream:
            run = subprocess.run(
                command, stdout=stream, stderr=subprocess.PIPE, text=True, env=environ, cwd=ROOT
            )
        return run.returncode, run.stderr

    reader, writer = os.pipe()
    os.close(reader)
    assert ended(writer) == (-signal.SIGPIPE, "")
    full = os.open("/dev/full", os.O_WRONLY)
    assert ended(full) == (1, "standard output: No space left on device\n")
