"""A daemon under observation: ours with one of the plugins here, or the C daemon.

Knows how it is started and what it can be asked; must not know what is measured.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import machine
from lab import Host, wait_until
from mptcpd.core.path import pack_path
from mptcpd.nl import diag
from mptcpd.nl import uapi as u
from mptcpd.nl.diag_client import DiagClient
from mptcpd.nl.sock import CommandSocket

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = ROOT / "bench" / "plugins"
# The source tree's own daemon, whatever else is installed, and with nothing of the environment.
_START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from mptcpd.cli.daemon import main; sys.exit(main())"
)
_PORT = 4999  # a listener here asks for a report
C_DAEMON = "/usr/libexec/mptcpd"
C_PLUGINS = "/usr/lib/x86_64-linux-gnu/mptcpd"

Table = Mapping[int, frozenset[bytes]]  # token -> packed paths of the subflows


class Report(NamedTuple):
    """What the plugin ``count`` saw, and the connection table."""

    opened: int
    established: int
    closed: int
    table: Table


class Daemon:
    """mptcpd on a host, with one plugin of ``bench/plugins``."""

    def __init__(
        self,
        host: Host,
        folder: Path,
        plugin: str = "count",
        core: str = "",
        runtime: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        """``folder``: where its files are put; ``core``: lines for that group of the configuration;
        ``runtime``: a runtime directory, with its control socket; ``arguments``: further ones. It
        is started, but need not be ready yet."""
        self.host = host
        self._report = folder / "report"
        self.times = folder / "times"
        self.log = folder / "log"
        config = folder / "mptcpd.conf"
        settings = f"port={_PORT}\naddress=127.3.0.1\n"
        settings += f"file={self._report if plugin == 'count' else self.times}\n"
        ours = f"[{plugin}]\n{settings}" if _folder(plugin) == PLUGINS else ""
        config.write_text(f"[core]\n{core}\n{ours}")
        with self.log.open("ab") as log:
            self.process = host.popen(
                [
                    sys.executable, "-I", "-c", _START, str(ROOT), f"--config={config}",
                    f"--runtime-dir={runtime or 'none'}", f"--plugin-dir={_folder(plugin)}",
                    f"--load-plugins={plugin}", f"--path-manager={plugin}", *arguments,
                ],
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )  # fmt: skip
        self.pid = self.process.pid

    def report(self, timeout: float = 20.0) -> Report:
        """Ask the plugin ``count``. Errors: TimeoutError, with the last lines of the log."""
        self._report.unlink(missing_ok=True)
        ends = time.monotonic() + timeout
        while True:
            # Asked again and again: the daemon may not be ready, or the kernel may have dropped it.
            with self.host, socket.socket(
                socket.AF_INET, socket.SOCK_STREAM, u.IPPROTO_MPTCP
            ) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", _PORT))
                listener.listen(1)
            with contextlib.suppress(TimeoutError):
                wait_until(self._report.exists, "a report", 0.2)
                break
            if time.monotonic() > ends:
                raise TimeoutError(f"no report from mptcpd; it said:\n{self.tail()}")
        first, *lines = self._report.read_text().splitlines()
        opened, established, closed = map(int, first.split()[1::2])
        table = {}
        for line in lines:
            token, *paths = line.split()
            table[int(token, 16)] = frozenset(bytes.fromhex(path) for path in paths)
        return Report(opened, established, closed, table)

    def adopted(self) -> bool:
        """Whether it has compared the table with the kernel since the log was last emptied."""
        return "Connections compared" in self.log.read_text()

    def sleeps(self) -> bool:
        """Whether it waits for something to do: what there was at the start has been done."""
        try:
            with open(f"/proc/{self.pid}/syscall") as stream:
                return stream.read().split()[0] in _WAITING
        except OSError:
            return False

    def cpu(self) -> machine.Cpu:
        return machine.cpu(self.pid)

    def memory(self) -> machine.Memory:
        return machine.memory(self.pid)

    def drops(self) -> int:
        """Events that the kernel has dropped for it so far."""
        with self.host:
            return machine.drops()

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait. Errors: subprocess.TimeoutExpired."""
        self.process.send_signal(number)
        self.process.wait(10)


def _folder(plugin: str) -> Path:
    """Where this plugin is: those of the project are measured, too."""
    return PLUGINS if (PLUGINS / f"{plugin}.py").exists() else ROOT / "plugins"


_WAITING = {"232", "281", "22", "21"}  # epoll_wait, epoll_pwait: x86-64; epoll_pwait: arm64, riscv


def in_kernel(host: Host) -> Table:
    """What sock_diag says: the connections that an event would have told of, and their subflows.

    Two dumps at different times: equal to a table only while nothing changes.
    """
    with host:
        commands = CommandSocket(u.NETLINK_SOCK_DIAG)
    with contextlib.closing(commands):
        asked = DiagClient(commands)
        found: dict[int, set[bytes]] = {
            connection.token: set()
            for connection in asked.connections()
            if not connection.closed and not connection.flags & u.MPTCP_INFO_FLAG_FALLBACK
        }
        for subflow in asked.subflows():
            if subflow.token in found and subflow.state == diag.TCP_ESTABLISHED:
                found[subflow.token].add(pack_path(subflow.path))
    return {token: frozenset(paths) for token, paths in found.items()}


class CDaemon:
    """The C daemon with its plugin sspi, for comparison."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.process = host.popen(
            [C_DAEMON, f"--plugin-dir={C_PLUGINS}", "--path-manager=sspi", "--log=null"]
        )
        self.pid = self.process.pid

    @staticmethod
    def installed() -> bool:
        return os.path.exists(C_DAEMON)

    def drops(self) -> int:
        """Events that the kernel has dropped for it so far."""
        with self.host:
            return machine.drops()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@contextlib.contextmanager
def stopped(daemon: Daemon | CDaemon) -> Iterator[None]:
    """Stop it at the end of the block, however that comes."""
    try:
        yield
    finally:
        if daemon.process.poll() is None:
            daemon.stop()
