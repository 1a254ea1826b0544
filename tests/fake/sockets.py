"""Sockets to a fake kernel, for ``nl.sock`` to open in place of the system's.

Knows what the socket calls do that ``nl.sock`` and ``core.listeners`` make: options, queues,
filters, readiness, time; must not know messages. Readiness is real (an eventfd), so that the
daemon's loop waits on it; time is the kernel's own and passes only while somebody waits for an
answer, so that no test does.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from mptcpd.core.address import SockAddr, sockaddr
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs_abi import ffi

if TYPE_CHECKING:
    from tests.fake_kernel import FakeKernel

_SO_ATTACH_FILTER, _SO_RCVBUFFORCE, _SOL_NETLINK = 26, 33, 270
_LIBC = ffi.dlopen(None)


class Item(NamedTuple):
    """What waits to be received. ``error``: what recv fails with instead; ``at``: not before."""

    data: bytes
    sender: int = 0
    error: int = 0
    at: float = 0.0


class Ready:
    """A descriptor that is readable exactly while it is said to be."""

    def __init__(self) -> None:
        self._fd = -1
        self._ready = False

    def fileno(self) -> int:
        if self._fd < 0:
            self._fd = os.eventfd(int(self._ready), os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return self._fd

    def say(self, ready: bool) -> None:
        if ready != self._ready and self._fd >= 0:
            (os.eventfd_write(self._fd, 1) if ready else os.eventfd_read(self._fd))
        self._ready = ready

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class NetlinkSocket(Ready):
    """A netlink socket of one protocol.

    room     how many messages of groups may wait; more are dropped, and recv says ENOBUFS
    dropped  how many were
    """

    def __init__(self, kernel: FakeKernel, protocol: int, portid: int) -> None:
        super().__init__()
        self._kernel, self.protocol, self.portid = kernel, protocol, portid
        self.groups: set[int] = set()
        self.room = kernel.room
        self.dropped = 0
        self._queue: deque[Item] = deque()
        self._congested = False
        self._filter: list[tuple[int, int, int, int]] = []
        self._capped = False

    # As a socket.

    def setblocking(self, _blocking: bool) -> None: ...

    def bind(self, _address: tuple[int, int]) -> None: ...

    def getsockname(self) -> tuple[int, int]:
        return self.portid, 0

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        if level == _SOL_NETLINK and option == u.NETLINK_ADD_MEMBERSHIP:
            if not self._kernel.subscribable(self.protocol, value):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            self.groups.add(value)
        elif level == _SOL_NETLINK and option == u.NETLINK_CAP_ACK:
            self._capped = bool(value)
        elif level == socket.SOL_SOCKET and option == _SO_ATTACH_FILTER:
            self._filter = _program(value)

    def send(self, datagram: bytes) -> int:
        answers = self._kernel.ask(self.protocol, datagram, capped=self._capped)
        self.put(self._kernel.in_mood(self.protocol, [Item(answer) for answer in answers]))
        self._kernel.tell()
        return len(datagram)

    def recvfrom_into(
        self, buffer: memoryview, _size: int, flags: int
    ) -> tuple[int, tuple[int, int]]:
        item = self._next()
        if item.error:
            raise OSError(item.error, os.strerror(item.error))
        count = min(len(item.data), len(buffer))
        buffer[:count] = item.data[:count]
        return len(item.data) if flags & socket.MSG_TRUNC else count, (item.sender, 0)

    def close(self) -> None:
        super().close()
        self._kernel.closed(self)

    # For the kernel, and for tests.

    def put(self, items: Iterable[Item]) -> None:
        """Let these wait to be received, whatever the room."""
        self._queue.extend(items)
        self.refresh()

    def multicast(self, item: Item) -> None:
        """A message of a group: filtered, and dropped where there is no room."""
        if item.error:
            self.put([item])
            return
        if self._filter and not _passes(self._filter, item.data):
            return
        if self._congested or len(self._queue) >= self.room:
            self.dropped += 1
            if not self._congested:
                self._congested = True
                self._queue.appendleft(Item(b"", error=errno.ENOBUFS))
                self.refresh()
            return
        self.put([item])

    def refresh(self) -> None:
        """Say whether something can be received now."""
        self.say(bool(self._queue) and self._queue[0].at <= self._kernel.clock)

    def due(self) -> float | None:
        """When the next item can be received; None if there is none."""
        return self._queue[0].at if self._queue else None

    def receive_many(self, batch: Any, slots: int) -> int:
        """recvmmsg: fill up to so many slots; -1 for an error, with errno set."""
        count = 0
        while count < slots:
            item = self._next()
            if item.error:
                if count and item.error != errno.EAGAIN:
                    self._queue.appendleft(item)  # it is for the next call (net/socket.c)
                    self.refresh()
                if count:
                    return count
                ffi.errno = item.error
                return -1
            header, size = batch[count].msg_hdr, batch[count].msg_hdr.msg_iov[0].iov_len
            ffi.memmove(header.msg_iov[0].iov_base, item.data[:size], min(size, len(item.data)))
            name = ffi.cast("struct sockaddr_nl *", header.msg_name)
            name.nl_family, name.nl_pid, name.nl_groups = socket.AF_NETLINK, item.sender, 0
            header.msg_flags = int(socket.MSG_TRUNC) if len(item.data) > size else 0
            batch[count].msg_len = min(size, len(item.data))
            count += 1
        return count

    def _next(self) -> Item:
        if not self._queue or self._queue[0].at > self._kernel.clock:
            return Item(b"", error=errno.EAGAIN)
        item = self._queue.popleft()
        if not self._queue:
            self._congested = False
        self.refresh()
        return item


def _program(fprog: bytes) -> list[tuple[int, int, int, int]]:
    """The instructions that SO_ATTACH_FILTER was given."""
    given = ffi.new("struct sock_fprog *")
    ffi.buffer(given)[:] = fprog
    return [
        (each.code, each.jt, each.jf, each.k) for each in ffi.unpack(given.filter, given.len)
    ]


def _passes(program: list[tuple[int, int, int, int]], data: bytes) -> int:
    """What a classic BPF program returns, as far as ours go: ld [k] as a byte, jeq, ret."""
    value = at = 0
    while True:
        code, true, false, constant = program[at]
        at += 1
        if code == 0x30:
            if constant >= len(data):
                return 0
            value = data[constant]
        elif code == 0x15:
            at += true if value == constant else false
        elif code == 0x06:
            return constant
        else:
            raise AssertionError(f"an instruction that is not known here: {code:#x}")


class Stranger:
    """Who connects to a listening socket without joining, once accepted."""

    def __init__(self, listener: ListeningSocket) -> None:
        self._listener, self._linger = listener, b""

    def setsockopt(self, _level: int, option: int, value: bytes) -> None:
        if option == socket.SO_LINGER:
            self._linger = value

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_error: object) -> None:
        # l_onoff 1, l_linger 0: closed with a reset
        self._listener.reset += self._linger == (1).to_bytes(4, sys.byteorder) + bytes(4)


class ListeningSocket(Ready):
    """An MPTCP socket, as far as it listens.

    waiting  strangers that have connected, and were not accepted yet
    fails    what the next accept fails with; reset: strangers that were turned away
    """

    def __init__(self, kernel: FakeKernel) -> None:
        super().__init__()
        self._kernel = kernel
        self._at: SockAddr | None = None
        self._listens = False
        self.waiting = self.fails = self.reset = 0
        self.closed = False

    def connect(self, strangers: int, fails: int = 0) -> None:
        """So many connect that are no joins."""
        self.waiting += strangers
        self.fails = fails
        self.say(True)

    def setblocking(self, _blocking: bool) -> None: ...

    def setsockopt(self, *_option: object) -> None: ...

    def bind(self, address: tuple[str, int]) -> None:
        self._at = self._kernel.bind(sockaddr(address[0])._replace(port=address[1]))

    def listen(self, _backlog: int) -> None:
        assert self._at is not None
        self._listens = True
        self._kernel.listens(self._at, True)

    def getsockname(self) -> tuple[str, int]:
        assert self._at is not None
        return str(self._at.ip), self._at.port

    def accept(self) -> Any:
        if not self.waiting:
            raise BlockingIOError
        number, self.fails = self.fails, 0
        if number == errno.ECONNABORTED:
            self.waiting -= 1
        self.say(bool(self.waiting))
        if number:
            raise OSError(number, os.strerror(number))
        self.waiting -= 1
        self.say(bool(self.waiting))
        return Stranger(self), ("10.8.8.8", 1234)

    def close(self) -> None:
        if self._listens and self._at is not None:
            self._listens = False
            self._kernel.listens(self._at, False)
        self.closed = True
        super().close()


class Poll:
    """``select.poll`` for one socket: waits in the kernel's own time."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel
        self._sockets: list[NetlinkSocket] = []

    def register(self, sock: NetlinkSocket, _events: int) -> None:
        self._sockets.append(sock)

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        due = [at for sock in self._sockets if (at := sock.due()) is not None]
        end = self._kernel.clock + milliseconds / 1000
        self._kernel.pass_time(max(0.0, min([*due, end]) - self._kernel.clock))
        return [(sock.fileno(), 1) for sock in self._sockets if (sock.due() or 0.0) <= end and due]


class Standin:
    """A module, with some of its names meaning something else."""

    def __init__(self, module: Any, **names: Any) -> None:
        self._module = module
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class Libc:
    """The libc calls of ``nl.sock``."""

    def __init__(self, by_descriptor: Callable[[int], NetlinkSocket]) -> None:
        self._find = by_descriptor

    def recvmmsg(self, fd: int, batch: Any, slots: int, _flags: int, _timeout: Any) -> int:
        return self._find(fd).receive_many(batch, slots)
