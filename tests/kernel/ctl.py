"""Runs mptcpctl on a host, as its user would."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from lab import Host

PROGRAM = [sys.executable, "-m", "mptcpd.cli.ctl.main"]
PATIENCE = 20.0  # seconds that a command may take on a busy machine


def mptcpctl(host: Host, *words: object) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    child = host.popen(
        [*PROGRAM, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    out, err = child.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(child.args, child.returncode, out, err)


def said(host: Host, *words: object) -> str:
    """What it prints where it must succeed without complaint."""
    run = mptcpctl(host, *words)
    assert (run.returncode, run.stderr) == (0, ""), run
    return run.stdout


@contextlib.contextmanager
def running(host: Host, *words: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """One that runs until the block ends; then it must take SIGINT for a normal end."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    child = host.popen([*PROGRAM, *map(str, words)], **options)
    try:
        yield child
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
        assert child.wait(PATIENCE) == 0
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
