"""A day in the life of a daemon, in minutes: connections, links, reloads, clients, all at random.

    .venv/bin/python -m bench.soak [SECONDS [SEED]]

Knows what happens to a daemon and what must hold afterwards; must not know how it copes. It works
in rounds. A round is some dozens of things that happen, and then quiet: all connections are closed,
the links are as at first, and the daemon has nothing left to do. What it has then, memory,
descriptors, connections, addresses, is what it should have had all along.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench import machine
from bench.load import Churn
from bench.watched import Daemon, in_kernel
from lab import Lab, Link, traffic, wait_until
from lab.network import add_address, add_default_route, delete_address
from mptcpd.cli.control_client import ControlClient, NoDaemon, Refused
from mptcpd.nl.errors import KernelError

SECONDS = 600.0
THINGS = 40  # that happen in a round
WARM = 0.25  # of all rounds: until then memory may grow
PLUGINS = Path(__file__).resolve().parents[1] / "plugins"
# What the log may say, and why.
EXPLAINED = (
    r"Connections compared with the kernel: ",  # links and aborted connections
    r"Reloaded\. ",
    r"Reload refused, all goes on as before: .*(bogus|SyntaxError|'\(' was never closed)",  # ours
    r"Left out, for want of ",
    r"Log level set to ",
    r"Endpoint .* applies no more",
    r"<Connection .*has a subflow already; closing the new one",  # sspi, by design
    r"<Connection .*: there is a subflow from .* already; closing the new one",  # fullmesh, too
    r"  |Traceback|SyntaxError|    ",  # the lines below a refused reload
)


class Sample(NamedTuple):
    """After a round: resident memory in KiB, open descriptors."""

    resident: int
    descriptors: int


class Soak:
    """The network, the daemon, and what is done to them. Leaving the ``with`` block ends it all."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.samples: list[Sample] = []
        self.happened: dict[str, int] = {}
        self._stack = contextlib.ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._lab = self._stack.enter_context(Lab())
        self.client, self.server = self._lab.host("client"), self._lab.host("server")
        self.links = [self._link(index) for index in (1, 2, 3)]
        for host in (self.client, self.server):
            host.set_sysctl("net.mptcp.pm_type", 1)
        self._plugins = folder / "plugins"
        shutil.copytree(PLUGINS, self._plugins, ignore=shutil.ignore_patterns("__pycache__"))
        self._folder = folder
        self._open: list[traffic.Connection] = []
        self._clients: list[ControlClient | socket.socket] = []
        self._extra: set[str] = set()
        self._down: set[int] = set()
        self._churn: Churn | None = None
        self._version = 0
        self.daemon = Daemon(
            self.client, folder, "fullmesh", core=self._core(), runtime=folder / "run",
            arguments=[f"--plugin-dir={self._plugins}", "--load-plugins=fullmesh,sspi"],
        )  # fmt: skip
        self.file = str(folder / "run" / "control.sock")
        wait_until(lambda: self._asked("status") is not None, "the daemon answers", 20.0)
        self.things: dict[str, tuple[Callable[[], object], int]] = {
            "connection opened": (self._open_one, 10),
            "connection closed": (self._close_one, 8),
            "connection aborted": (self._abort_one, 2),
            "connections come and go": (self._some_load, 1),
            "link down or up": (self._flip_link, 4),
            "address comes or goes": (self._flip_address, 4),
            "reload": (self._reload, 3),
            "hang-up": (self._hang_up, 2),
            "question": (self._question, 8),
            "subscriber": (self._subscriber, 2),
            "rude client": (self._rude, 2),
            "client goes": (self._client_goes, 3),
        }

    def _link(self, index: int) -> Link:
        link = self._lab.link(
            self.client, f"eth{index}", f"10.0.{index}.1/24",
            self.server, f"eth{index}", f"10.0.{index}.2/24",
        )  # fmt: skip
        add_default_route(link.one, f"10.0.{index}.2", metric=100 * index)
        return link

    def __enter__(self) -> Soak:
        return self

    def __exit__(self, *_error: object) -> None:
        for sock in self._clients:
            sock.close()
        for connection in self._open:
            connection.close()
        if self.daemon.process.poll() is None:
            self.daemon.process.kill()
            self.daemon.process.wait()
        self._stack.close()

    def round(self) -> Sample:
        """Let things happen, then wait for quiet. Errors: TimeoutError, if it is not as it was."""
        names = list(self.things)
        weights = [self.things[name][1] for name in names]
        for name in self.random.choices(names, weights, k=THINGS):
            self.happened[name] = self.happened.get(name, 0) + 1
            self.things[name][0]()
        self._quiet()
        assert self.daemon.process.poll() is None, f"it has ended; it said:\n{self.daemon.tail()}"
        sample = Sample(self.daemon.memory().resident, self._descriptors())
        self.samples.append(sample)
        return sample

    def _descriptors(self) -> int:
        """The fewest of some looks: the client that asked last may only just have gone."""
        counts = []
        for _look in range(10):
            counts.append(len(os.listdir(f"/proc/{self.daemon.pid}/fd")))
            time.sleep(0.005)
        return min(counts)

    def _quiet(self) -> None:
        if self._churn is not None:
            self._churn.result()
            self._churn = None
        while self._clients:
            self._clients.pop().close()
        while self._open:
            self._open.pop().close()
        for index in list(self._down):
            self._set_link(index, up=True)
        for text in list(self._extra):
            self._set_address(text, there=False)
        self._configure(self._core())
        self._plugin(broken=False)  # or nothing would be reloaded any more
        wait_until(lambda: not in_kernel(self.client), "all connections are gone", 30.0)
        wait_until(self._as_at_first, f"all is as at first:\n{self.daemon.tail()}", 30.0)
        wait_until(self.daemon.sleeps, "it has nothing left to do", 10.0)

    def _as_at_first(self) -> bool:
        status = self._asked("status")
        if status is None:
            return False
        # The daemon itself may keep a client for a moment longer than the client has been there.
        here = (status["connections"], status["addresses"], status["control"]["clients"])
        if here == (0, 3, 1):
            return True
        if here[1] != 3:  # settings that a refused reload has kept
            with contextlib.suppress(NoDaemon, Refused), ControlClient(self.file) as client:
                client.ask("reload")
        return False

    # What happens

    def _open_one(self) -> None:
        if len(self._open) >= 30:
            return
        usable = [index for index in (1, 2, 3) if index not in self._down]
        if not usable:
            return
        index = self.random.choice(usable)
        with contextlib.suppress(OSError):  # a link may go while it is opened
            self._open.append(
                traffic.open_connection(
                    self.client, self.server, f"10.0.{index}.2", source=f"10.0.{index}.1",
                    timeout=2.0,
                )
            )  # fmt: skip

    def _close_one(self) -> None:
        if self._open:
            self._open.pop(self.random.randrange(len(self._open))).close()

    def _abort_one(self) -> None:
        if self._open:
            connection = self._open.pop(self.random.randrange(len(self._open)))
            end = self.random.choice((connection.client, connection.server))
            linger = b"\x01\0\0\0\0\0\0\0" if sys.byteorder == "little" else b"\0\0\0\x01\0\0\0\0"
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            end.close()
            connection.close()

    def _some_load(self) -> None:
        if self._churn is not None:
            self._churn.result()
        self._churn = Churn(self.client, seconds=0.5, rate=1000.0, processes=1)

    def _flip_link(self) -> None:
        index = self.random.choice((1, 2, 3))
        self._set_link(index, up=index in self._down)

    def _set_link(self, index: int, up: bool) -> None:
        end = self.links[index - 1].one
        if up:
            end.up()
            self._down.discard(index)
            wait_until(end.running, "the link runs")
            with contextlib.suppress(KernelError):  # it may be there
                add_default_route(end, f"10.0.{index}.2", metric=100 * index)
        else:
            end.down()
            self._down.add(index)

    def _flip_address(self) -> None:
        text = f"10.0.{self.random.choice((1, 2, 3))}.{self.random.choice((11, 12))}/24"
        self._set_address(text, there=text not in self._extra)

    def _set_address(self, text: str, there: bool) -> None:
        end = self.links[int(text.split(".")[2]) - 1].one
        if there:
            add_address(end, text)
            self._extra.add(text)
        else:
            with contextlib.suppress(KernelError):  # it goes with its link's last primary one
                delete_address(end, text)
            self._extra.discard(text)

    def _core(self, more: str = "") -> str:
        return f"hold-down-return=50ms\n{more}"

    def _configure(self, core: str, rest: str = "") -> None:
        file = self._folder / "mptcpd.conf"
        file.write_text(f"[core]\n{core}\n{rest}")

    def _change(self) -> None:
        """Change the configuration or a plugin, for the worse at times."""
        which = self.random.randrange(6)
        if which == 0:
            self._configure(self._core("addresses=!10.0.3.0/24"))
        elif which == 1:
            self._configure(self._core(), "[interface eth2]\nflags=subflow,backup\n")
        elif which == 2:
            most = self.random.choice((4, 8))
            self._configure(self._core(), f"[fullmesh]\nmax-subflows={most}\n")
        elif which == 3:
            self._configure(self._core("bogus=1"))
        elif which == 4:
            self._version += 1
            self._plugin(broken=self._version % 3 == 0)
        else:
            self._configure(self._core())

    def _plugin(self, broken: bool) -> None:
        """Write a plugin anew; it is another one with each version."""
        text = (PLUGINS / "fullmesh.py").read_text() + f"\n# {self._version}\n"
        fresh = self._plugins / "fullmesh.new"
        fresh.write_text(text + ("def broken(:\n" if broken else ""))
        fresh.rename(self._plugins / "fullmesh.py")

    def _reload(self) -> None:
        self._change()
        with contextlib.suppress(NoDaemon, Refused), ControlClient(self.file) as client:
            client.ask("reload")

    def _hang_up(self) -> None:
        self._change()
        self.daemon.process.send_signal(signal.SIGHUP)

    def _asked(self, command: str, **arguments: object) -> Any:
        with contextlib.suppress(NoDaemon, Refused), ControlClient(self.file, 5.0) as client:
            return client.ask(command, **arguments)
        return None

    def _question(self) -> None:
        command = self.random.choice(
            ("status", "connections", "interfaces", "endpoints", "plugins", "counters", "log")
        )
        self._asked(command)
        self._asked("explain", role="client", local="10.0.1.1", remote="192.0.2.1:80")

    def _subscriber(self) -> None:
        with contextlib.suppress(NoDaemon, Refused):
            client = ControlClient(self.file, 5.0)
            self._clients.append(client)
            client.ask("subscribe")

    def _rude(self) -> None:
        with contextlib.suppress(OSError):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._clients.append(sock)
            sock.settimeout(1.0)
            sock.connect(self.file)
            sock.sendall(self.random.choice((b'{"command":', b"\xff\n" * 50, b"[" * 20_000, b"")))

    def _client_goes(self) -> None:
        if self._clients:
            self._clients.pop(self.random.randrange(len(self._clients))).close()

    def unexplained(self) -> list[str]:
        """Lines of the log that are none of EXPLAINED."""
        known = re.compile("|".join(EXPLAINED))
        return [line for line in self.daemon.log.read_text().splitlines() if not known.match(line)]


def growth(samples: list[Sample]) -> int:
    """By how many KiB memory grew after the warm-up: from its first quarter to its last one.

    Medians: what a reload gives back to the system makes single samples differ by 0.6 MB.
    """
    rest = [sample.resident for sample in samples[max(1, int(WARM * len(samples))) :]]
    quarter = max(1, len(rest) // 4)
    return int(median(rest[-quarter:]) - median(rest[:quarter]))


def main(seconds: float, seed: int) -> int:
    """Print a line now and then, and what became of it. Returns the exit status."""
    print(f"{seconds:g} s, seed {seed}", flush=True)
    began = said = time.monotonic()
    with Soak(seed) as soak:
        while time.monotonic() < began + seconds or len(soak.samples) < 4:
            sample = soak.round()
            if time.monotonic() > said + seconds / 20:
                said = time.monotonic()
                print(
                    f"  {said - began:4.0f} s: {len(soak.samples)} rounds, "
                    f"{sample.resident} KiB, {sample.descriptors} descriptors",
                    flush=True,
                )
        print(", ".join(f"{name}: {count}" for name, count in sorted(soak.happened.items())))
        warm = max(1, int(WARM * len(soak.samples)))
        descriptors = {sample.descriptors for sample in soak.samples[warm - 1 :]}
        lines = soak.unexplained()
        resident = sorted(sample.resident for sample in soak.samples[warm:])
        print(
            f"after {warm} of {len(soak.samples)} rounds memory grew by {growth(soak.samples)} KiB "
            f"and was between {resident[0]} and {resident[-1]} KiB, {resident[len(resident) // 2]} "
            f"at the median; descriptors: {sorted(descriptors)}; unexplained lines: {len(lines)}"
        )
        for line in lines[:20]:
            print(f"  {line}")
        print(f"at most {machine.memory(soak.daemon.pid).peak} KiB")
        soak.daemon.stop()
        fine = growth(soak.samples) <= 1024 and len(descriptors) == 1 and not lines
        ended = soak.daemon.process.returncode
        print("fine" if fine and ended == 0 else f"NOT FINE (exit status {ended})")
    return 0 if fine and ended == 0 else 1


if __name__ == "__main__":
    _seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    sys.exit(main(_seconds, int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())))
