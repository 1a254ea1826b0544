"""Listening sockets without a kernel: counting, options, errors, and strangers that cannot come in.

What the kernel does with the real ones is in tests/kernel/test_listeners.py.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest

from mptcpd.core.address import sockaddr
from mptcpd.core.listeners import BACKLOG, Listeners
from mptcpd.core.loop import Loop
from mptcpd.nl import uapi as u


class FakeSocket:
    """Notes what is done to it. ``fails``: operation -> errno. ``queue``: who waits, or errors."""

    opened: list[FakeSocket] = []

    def __init__(self, family: int, kind: int, protocol: int) -> None:
        self.calls: list[tuple[str, Any]] = [("socket", (family, kind, protocol))]
        self.closed = False
        self.queue: list[FakeSocket | int] = []
        self.number = 100 + len(self.opened)
        self.opened.append(self)

    fails: dict[str, int] = {}

    def _do(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, arguments))
        if name in self.fails:
            raise OSError(self.fails[name], "as the kernel says it")

    def setblocking(self, value: bool) -> None:
        self._do("setblocking", value)

    def setsockopt(self, *arguments: Any) -> None:
        self._do("setsockopt", *arguments)

    def bind(self, address: tuple[str, int]) -> None:
        self._do("bind", address)
        self.bound = address

    def listen(self, backlog: int) -> None:
        self._do("listen", backlog)

    def getsockname(self) -> tuple[str, int]:
        host, port = self.bound
        return host, port or 40000 + self.number

    def fileno(self) -> int:
        return self.number

    def accept(self) -> tuple[FakeSocket, Any]:
        if not self.queue:
            raise BlockingIOError(errno.EAGAIN, "")
        first = self.queue.pop(0)
        if isinstance(first, int):
            raise OSError(first, "accept")
        return first, None

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> FakeSocket:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class FakeLoop(Loop):
    """Readers that the test calls itself, and a clock that it moves."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(lambda: self.now)
        self.readers: dict[int, Callable[[], object]] = {}

    def add_reader(self, fd: int, function: Callable[[], object]) -> None:
        assert fd not in self.readers
        self.readers[fd] = function

    def remove_reader(self, fd: int) -> None:
        del self.readers[fd]

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self._expire()


@pytest.fixture
def loop() -> FakeLoop:
    FakeSocket.opened, FakeSocket.fails = [], {}
    return FakeLoop()


@pytest.fixture
def listeners(loop: FakeLoop) -> Listeners:
    opener: Any = FakeSocket
    return Listeners(loop, opener)


@pytest.mark.parametrize(
    ("address", "family", "v6only"),
    [
        ("10.0.0.1:80", socket.AF_INET, False),
        ("::ffff:10.0.0.1", socket.AF_INET, False),
        ("[fd00::1]:80", socket.AF_INET6, True),
    ],
)
def test_how_a_socket_is_opened(
    address: str, family: int, v6only: bool, listeners: Listeners
) -> None:
    bound = listeners.listen(address)
    (sock,) = FakeSocket.opened
    where = sockaddr(address)
    options = [("setsockopt", (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1))]
    if v6only:
        options.append(("setsockopt", (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)))
    assert sock.calls == [
        ("socket", (family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, u.IPPROTO_MPTCP)),
        ("setblocking", (False,)),
        *options,
        ("bind", ((str(where.ip), where.port),)),
        ("listen", (BACKLOG,)),
    ]
    assert bound == where._replace(port=where.port or 40100)


def test_users_are_counted(listeners: Listeners, loop: FakeLoop) -> None:
    one = listeners.listen("10.0.0.1:80")
    listeners.listen(one)
    other = listeners.listen("10.0.0.2:80")
    assert len(FakeSocket.opened) == len(listeners) == len(loop.readers) == 2
    listeners.close("10.0.0.1:80")
    assert closed() == [False, False]
    listeners.close(one)
    assert closed() == [True, False]
    assert list(loop.readers) == [101]
    with pytest.raises(KeyError):
        listeners.close(one)
    listeners.close(other)
    assert len(listeners) == len(loop.readers) == 0


def test_port_0_is_never_one_that_is_held(listeners: Listeners) -> None:
    one, other = listeners.listen("10.0.0.1"), listeners.listen("10.0.0.1")
    assert one != other
    listeners.close(one)
    assert [sock.closed for sock in FakeSocket.opened] == [True, False]


@pytest.mark.parametrize("operation", ["bind", "listen", "setsockopt"])
def test_a_socket_that_fails_is_closed(
    operation: str, listeners: Listeners, loop: FakeLoop
) -> None:
    FakeSocket.fails = {operation: errno.EADDRINUSE}
    with pytest.raises(OSError, match=r"^\[Errno 98\] 10.0.0.1:80: Address already in use$"):
        listeners.listen("10.0.0.1:80")
    assert FakeSocket.opened[0].closed
    assert len(listeners) == len(loop.readers) == 0


@pytest.mark.parametrize("address", ["0.0.0.0:80", "::", "255.255.255.255", "224.0.0.1", "ff02::1"])
def test_addresses_that_nobody_could_join(address: str, listeners: Listeners) -> None:
    with pytest.raises(ValueError, match="cannot be announced"):
        listeners.listen(address)
    assert FakeSocket.opened == []


def test_everything_is_closed_in_the_end(listeners: Listeners, loop: FakeLoop) -> None:
    listeners.listen(listeners.listen("10.0.0.1:80"))
    listeners.listen("10.0.0.2:80")
    listeners.close_all()
    listeners.close_all()
    assert all(sock.closed for sock in FakeSocket.opened)
    assert len(listeners) == len(loop.readers) == 0


def closed() -> list[bool]:
    return [sock.closed for sock in FakeSocket.opened]


def stranger() -> FakeSocket:
    return FakeSocket(0, 0, 0)


def test_strangers_are_reset(listeners: Listeners, loop: FakeLoop) -> None:
    listeners.listen("10.0.0.1:80")
    listening, strangers = FakeSocket.opened[0], [stranger(), stranger()]
    listening.queue = [*strangers]
    loop.readers[100]()
    assert listeners.strangers == 2
    for each in strangers:
        assert each.closed
        ((_name, (level, option, value)),) = [call for call in each.calls if call[0] != "socket"]
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)
        assert value == (1).to_bytes(4, "little") + bytes(4) or value[:4] == b"\0\0\0\1"


def test_a_flood_of_strangers_leaves_others_their_turn(
    listeners: Listeners, loop: FakeLoop
) -> None:
    listeners.listen("10.0.0.1:80")
    FakeSocket.opened[0].queue = [stranger() for _ in range(100)]
    loop.readers[100]()
    assert 0 < listeners.strangers < 100
    loop.readers[100]()
    assert listeners.strangers == 100


def test_a_stranger_that_has_gone_again(listeners: Listeners, loop: FakeLoop) -> None:
    listeners.listen("10.0.0.1:80")
    FakeSocket.opened[0].queue = [errno.ECONNABORTED, stranger()]
    loop.readers[100]()
    loop.readers[100]()
    assert listeners.strangers == 1


def test_without_descriptors_nothing_spins(
    listeners: Listeners, loop: FakeLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """The queue stays readable: looking again at once would use all of a processor."""
    caplog.set_level(logging.WARNING)
    listeners.listen("10.0.0.1:80")
    listening = FakeSocket.opened[0]
    listening.queue = [errno.EMFILE, stranger()]
    loop.readers[100]()
    assert loop.readers == {}
    assert len(caplog.records) == 1
    loop.later(1.0)
    loop.readers[100]()
    assert listeners.strangers == 1


def test_closed_while_strangers_wait(listeners: Listeners, loop: FakeLoop) -> None:
    held = listeners.listen("10.0.0.1:80")
    FakeSocket.opened[0].queue = [errno.ENFILE]
    loop.readers[100]()
    listeners.close(held)
    assert FakeSocket.opened[0].closed
    loop.later(5.0)
    assert loop.readers == {}
