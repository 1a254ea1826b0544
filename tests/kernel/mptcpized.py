"""Programs started by mptcpize as its user would start it, and what became of their sockets."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

from lab import Host, wait_until
from mptcpd.nl import diag
from mptcpd.nl import uapi as u
from mptcpd.nl.diag_client import DiagClient
from mptcpd.nl.sock import CommandSocket

ROOT = pathlib.Path(__file__).resolve().parents[2]
MPTCPIZE = [sys.executable, "-m", "mptcpd.cli.mptcpize"]
RUN = [*MPTCPIZE, "run"]
SO_PROTOCOL = 38  # asm-generic/socket.h
_MARK = "MPTCPIZE_TEST"  # a variable by which a supervisor is known as that of one test


def environment(mark: str = "", **more: str) -> dict[str, str]:
    """Where mptcpize is found from any folder; ``mark`` names the test for ``supervisors``."""
    return {**os.environ, "PYTHONPATH": str(ROOT), _MARK: mark, **more}


def run(
    host: Host, *words: str, mark: str = "", timeout: float = 60, **options: Any
) -> subprocess.CompletedProcess[str]:
    """mptcpize with these words, in a host, until it ends."""
    with host:
        return subprocess.run(
            [*MPTCPIZE, *words],
            env=environment(mark),
            capture_output=True,
            text=True,
            timeout=timeout,
            **options,
        )


def python(host: Host, code: str, *words: str, **options: Any) -> list[str]:
    """The lines that a Python program prints under mptcpize. Errors: AssertionError."""
    ended = run(host, "run", sys.executable, "-c", code, *words, **options)
    assert ended.returncode == 0 and not ended.stderr, ended.stderr
    return ended.stdout.splitlines()


def every_user() -> bool:
    """Whether all users exist here: in a user namespace often one does."""
    lines = pathlib.Path("/proc/self/uid_map").read_text().splitlines()
    return any(int(line.split()[2]) > 65534 for line in lines)


def supervisors(mark: str) -> list[int]:
    """Supervisors of programs that were started with this mark."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            process = pathlib.Path("/proc", name)
            if process.joinpath("comm").read_text() == "mptcpize-serve\n":
                variables = process.joinpath("environ").read_bytes().split(b"\0")
                if f"{_MARK}={mark}".encode() in variables:
                    found.append(int(name))
    return found


def until_none(mark: str) -> None:
    """Wait until no supervisor with this mark is left."""
    wait_until(lambda: not supervisors(mark), "the supervisor has ended")


def connections(host: Host) -> Iterator[diag.Connection]:
    """MPTCP connections that the kernel has, save those that fell back to TCP."""
    with host:
        commands = CommandSocket(u.NETLINK_SOCK_DIAG)
    try:
        for connection in DiagClient(commands).connections():
            if not connection.flags & u.MPTCP_INFO_FLAG_FALLBACK:
                yield connection
    finally:
        commands.close()


def is_mptcp(host: Host, local: tuple[Any, ...], remote: tuple[Any, ...]) -> bool:
    """Whether the connection between these socket addresses is an MPTCP one, says sock_diag."""

    def key(address: tuple[Any, ...]) -> tuple[bytes, int]:
        return ip_address(address[0]).packed, address[1]

    wanted = diag.Path(*key(local), *key(remote))
    return any(connection.path == wanted for connection in connections(host))


def listening(host: Host, family: int = socket.AF_INET) -> socket.socket:
    """An MPTCP socket of ours that listens on loopback, for 10 s a connection."""
    with host:
        server = socket.socket(family, socket.SOCK_STREAM, u.IPPROTO_MPTCP)
    server.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    server.listen(64)
    server.settimeout(10)
    return server
