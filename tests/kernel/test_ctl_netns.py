"""mptcpctl -n: another network namespace, by process and by file."""

from __future__ import annotations

import os
import subprocess
import sys

from lab import Lab
from mptcpd.nl.mptcp import Address
from tests.kernel.ctl import mptcpctl, said


def test_there_and_not_here(lab: Lab) -> None:
    here, there = lab.host("here"), lab.host("there")
    there.mptcp.add_addr(Address(b"\x0a\0\0\7", id=7))
    waits = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    child = there.popen(waits, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline()
    for name in (str(child.pid), f"/proc/{child.pid}/ns/net", f"/proc/{os.getpid()}/fd/{there.fd}"):
        assert said(here, "-n", name, "endpoint") == "10.0.0.7 id 7 \n"
    assert said(here, "endpoint") == ""
    # An interface is looked up where the command acts.
    run = mptcpctl(here, "-n", child.pid, "endpoint", "add", "10.0.0.8", "dev", "lo", "id", 8)
    assert run.returncode == 0 and [a.id for a in there.mptcp.dump_addrs()] == [7, 8]
