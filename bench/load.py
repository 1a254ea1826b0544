"""The load: MPTCP connections opened and closed at a rate, or held open, on one host's loopback.

Knows sockets and pace; must not know the daemon. Both ends are in one network namespace, so each
connection is two for a daemon there: two tokens, CREATED, ESTABLISHED and CLOSED for each.

What one process does for one connection are eight system calls, about 4 us of Python (measured)
beside 70 us of the kernel: the kernel is the limit, and a generator in C would not be faster.
"""

from __future__ import annotations

import mmap
import os
import resource
import socket
import time
from _socket import socket as Socket  # without the object that socket.socket wraps around it
from struct import Struct
from typing import NamedTuple

from lab.host import Host
from lab.process import Call
from mptcpd.nl.uapi import IPPROTO_MPTCP

EVENTS = 6  # that the kernel sends for one connection, both ends counted
TOKENS = 2
_PORT = 5000
_PACE = 8  # connections between two looks at the clock
_FILES = 18_000  # descriptors in one process
_COUNT = Struct("=Q")


class Churned(NamedTuple):
    """What ``Churn`` did: connections opened and closed, in so many seconds."""

    connections: int
    seconds: float

    @property
    def rate(self) -> float:
        """Connections in a second."""
        return self.connections / self.seconds


class Churn:
    """Opens connections and closes them at once, in child processes, until ``result`` has waited.

    The client sends a byte, for only then the kernel calls its side established. It closes first,
    the usual way; the server closes without having read the byte, which resets the connection
    (MP_FASTCLOSE): nothing is left in TIME_WAIT. The other way round the kernel would never tell of
    the end of the client's side: a peer's MP_FASTCLOSE takes the token without an event.
    """

    def __init__(
        self, host: Host, *, seconds: float, rate: float | None = None, processes: int = 2
    ) -> None:
        """``rate`` in connections a second, all processes together; None: as fast as it goes."""
        self._shared = mmap.mmap(-1, _COUNT.size * processes)
        self._calls = [
            host.call(_churn, f"127.1.{index}.1", seconds, rate and rate / processes,
                      self._shared, index)
            for index in range(processes)
        ]  # fmt: skip
        self._seconds = seconds

    @property
    def connections(self) -> int:
        """Connections made so far."""
        return sum(count for (count,) in _COUNT.iter_unpack(self._shared[:]))

    @property
    def running(self) -> bool:
        return any(call.running for call in self._calls)

    def stop(self) -> None:
        """End it early; connections that were open then end with their processes."""
        for call in self._calls:
            call.stop()

    def result(self) -> Churned:
        """Wait for the end. Errors: as ``lab.Call.result``."""
        done = [call.result(self._seconds + 30) for call in self._calls]
        return Churned(sum(count for count, _ in done), max(seconds for _, seconds in done))


def _churn(
    address: str, seconds: float, rate: float | None, shared: mmap.mmap, index: int
) -> tuple[int, float]:
    listener = _listener(address)
    there = (address, _PORT)
    accept, close, clock = listener._accept, os.close, time.monotonic  # type: ignore[attr-defined]
    began = now = clock()
    count = 0
    while now - began < seconds:
        for _connection in range(_PACE):
            client = Socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
            client.connect(there)
            server, _peer = accept()
            client.send(b"x")
            client.close()
            close(server)
        count += _PACE
        _COUNT.pack_into(shared, index * _COUNT.size, count)
        now = clock()
        if rate is not None and (ahead := count / rate - (now - began)) > 0:
            time.sleep(ahead)
            now = clock()
    return count, now - began


class Held:
    """Connections held open by child processes until ``close``."""

    def __init__(self, host: Host, connections: int, *, first: int = 0) -> None:
        """``first`` numbers the addresses, so that several can be held at once on a host."""
        self._calls: list[Call] = []
        self._release: list[int] = []
        per = _FILES // 2
        for index in range(-(-connections // per)):
            share = min(per, connections - index * per)
            ready, tell = os.pipe()
            wait, release = os.pipe()
            self._release.append(release)
            self._calls.append(
                host.call(_hold, f"127.2.{first + index}.1", share, tell, wait)
            )
            os.close(tell)
            os.close(wait)
            told = os.read(ready, 1)
            os.close(ready)
            if not told:
                self._calls[-1].result()  # raises what the child raised
                raise RuntimeError("a process that was to hold connections has ended")

    def close(self) -> None:
        """Close all connections and wait until that is done. Harmless when repeated."""
        while self._release:
            release = self._release.pop()
            os.write(release, b"x")  # other children have copies of it: no end of file would come
            os.close(release)
        while self._calls:
            self._calls.pop().result()


def _hold(address: str, connections: int, tell: int, wait: int) -> None:
    limit = 2 * connections + 100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(hard, limit)))
    listener = _listener(address)
    held: list[object] = []
    for _connection in range(connections):
        client = Socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
        client.connect((address, _PORT))
        client.send(b"x")
        held.append((client, listener.accept()[0]))
    os.write(tell, b"x")
    os.read(wait, 1)


def _listener(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, _PORT))
    listener.listen(1024)
    return listener
