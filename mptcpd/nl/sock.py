"""The netlink sockets: the only file of the stack that touches a socket.

Knows socket options, system calls and deadlines; must not know what is inside a message beyond its
header. Commands and events have sockets of their own, so that an answer never queues behind
events.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NoReturn

from mptcpd.nl import messages
from mptcpd.nl._attrs import nlmsghdr, sockaddr_nl
from mptcpd.nl._attrs_abi import ffi
from mptcpd.nl.errors import DecodeError, NetlinkError, Overrun, Unavailable
from mptcpd.nl.exchange import Exchange, Names
from mptcpd.nl.uapi import (
    NETLINK_ADD_MEMBERSHIP,
    NETLINK_CAP_ACK,
    NETLINK_EXT_ACK,
    NETLINK_GET_STRICT_CHK,
    NETLINK_ROUTE,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
)

_SOL_NETLINK = 270  # include/linux/socket.h; Python's socket module does not name it
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
# As plain numbers: "&" and "|" with the socket module's IntFlags take 1 us (measured).
_MSG_DONTWAIT, _MSG_TRUNC = int(socket.MSG_DONTWAIT), int(socket.MSG_TRUNC)
_REPLY = 65536  # bytes; the kernel's dumps come in datagrams of at most 32 KiB
_LIBC = ffi.dlopen(None)
_BLANK = ffi.new_allocator(should_clear_after_alloc=False)  # memory is touched only when written


def _open(protocol: int, receive_buffer: int | None) -> socket.socket:
    """A bound, non-blocking netlink socket with extended acks.

    Errors  Unavailable: the kernel has no such protocol. OSError: anything else, as it came.
    """
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
            raise Unavailable(f"this kernel has no netlink protocol {protocol}") from error
        raise
    try:
        sock.setblocking(False)
        strict = (NETLINK_GET_STRICT_CHK,) if protocol == NETLINK_ROUTE else ()
        for option in (NETLINK_EXT_ACK, NETLINK_CAP_ACK, *strict):
            try:
                sock.setsockopt(_SOL_NETLINK, option, 1)
            except OSError as error:
                # Kernels before 4.12 (4.20 for strict checking) do not know it; we do without.
                if error.errno != errno.ENOPROTOOPT:
                    raise
        if receive_buffer is not None:
            _receive_buffer(sock, receive_buffer)
        sock.bind((0, 0))
    except OSError:
        sock.close()
        raise
    return sock


def _receive_buffer(sock: socket.socket, size: int) -> None:
    # Only CAP_NET_ADMIN of the first user namespace may go beyond net.core.rmem_max.
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


class CommandSocket:
    """Asks the kernel one thing at a time and waits for the answer.

    A command on a netlink socket is carried out before ``send`` returns, so there is nothing to
    gain from doing it asynchronously: a round trip takes about 3 us. ``timeout`` in seconds bounds
    the wait for a kernel that does not answer.

    foreign   datagrams that no kernel sent, dropped      stray  answers to something else, dropped
    """

    def __init__(self, protocol: int, *, timeout: float = 5.0) -> None:
        self._protocol = protocol
        self._socket = _open(protocol, None)
        self._timeout = timeout
        self._memory = _BLANK("unsigned char[]", _REPLY)
        self._buffer = self._view = memoryview(ffi.buffer(self._memory))
        self._seq = 0
        self._recv = self._socket.recvfrom_into
        self._send = self._socket.send
        self.portid: int = self._socket.getsockname()[0]
        self.foreign = 0
        self.stray = 0

    def query(self, kind: int, body: bytes, command: str, names: Names | None = None) -> bytes:
        """Send a request that has exactly one answer; return that answer's payload.

        Errors  KernelError, DecodeError, Overrun (the answer was lost), NetlinkError (no answer in
                time), OSError from the system calls.

        This is the short way for the usual case, one datagram with one message; whatever else
        comes goes through ``Exchange`` like every other request (7 against 13 us, measured).
        """
        self._seq = seq = self._seq % 0xFFFFFFFF + 1
        request = nlmsghdr.pack(16 + len(body), kind, NLM_F_REQUEST, seq, self.portid) + body
        self._send(request)
        try:
            size, sender = self._recv(self._buffer, 0, _MSG_DONTWAIT | _MSG_TRUNC)
        except BlockingIOError:
            return self._one(request, command, names, None)
        except OSError as error:
            self._lost(error, command)
        if sender[0] == 0 and 16 <= size <= _REPLY:
            length, got, _flags, got_seq, got_portid = nlmsghdr.unpack_from(self._buffer)
            if length == size and got == kind and got_seq == seq and got_portid == self.portid:
                return bytes(self._view[16:size])
        return self._one(request, command, names, self._checked(size, sender[0], command))

    def request(
        self,
        kind: int,
        body: bytes,
        command: str,
        names: Names | None = None,
        *,
        flags: int = NLM_F_ACK,
        header: int = 4,
    ) -> list[bytes]:
        """Send a request and return the payloads of all messages that answer it.

        flags   beside NLM_F_REQUEST: NLM_F_ACK for a command, NLM_F_DUMP for a dump
        header  bytes of the family's own header in ``body``, for naming attributes in errors
        Errors  as ``query``.
        """
        self._seq = seq = self._seq % 0xFFFFFFFF + 1
        request = messages.build(kind, NLM_F_REQUEST | flags, seq, self.portid, body)
        self._send(request)
        exchange = Exchange(command, request, header=header, names=names)
        self._finish(exchange, command, None)
        if exchange.interrupted:
            raise Interrupted(command)
        return exchange.replies

    def dump(
        self,
        kind: int,
        body: bytes,
        command: str,
        names: Names | None = None,
        *,
        header: int = 4,
    ) -> list[bytes]:
        """Send a dump request; repeat it as long as the kernel says that it was interrupted.

        Errors  as ``query``; NetlinkError after 20 interrupted dumps in a row.
        Source  linux/netlink.h: NLM_F_DUMP_INTR.
        """
        for _attempt in range(20):
            try:
                return self.request(kind, body, command, names, flags=NLM_F_DUMP, header=header)
            except Interrupted:
                continue
        raise NetlinkError(f"{command}: interrupted by changes 20 times in a row")

    def stream(
        self,
        kind: int,
        body: bytes,
        command: str,
        names: Names | None = None,
        *,
        header: int = 4,
    ) -> Iterator[bytes]:
        """Send a dump request and yield the answers' payloads as they come.

        For dumps too long to be kept, of kinds that the kernel never marks as interrupted
        (sock_diag). It must be read to its end before the next request.
        Errors  as ``query``.
        """
        self._seq = seq = self._seq % 0xFFFFFFFF + 1
        request = messages.build(kind, NLM_F_REQUEST | NLM_F_DUMP, seq, self.portid, body)
        self._send(request)
        exchange = Exchange(command, request, header=header, names=names)
        deadline = time.monotonic() + self._timeout
        try:
            while not exchange.done:
                datagram = self._receive(deadline, command)
                if datagram is not None:
                    exchange.feed(datagram)
                    yield from exchange.take()
                    deadline = time.monotonic() + self._timeout
        finally:
            self.stray += exchange.stray

    def close(self) -> None:
        """Close the socket; the object is of no use afterwards."""
        self._socket.close()

    def _one(
        self, request: bytes, command: str, names: Names | None, datagram: bytes | None
    ) -> bytes:
        exchange = Exchange(command, request, names=names)
        self._finish(exchange, command, datagram)
        if len(exchange.replies) != 1:
            raise DecodeError(f"{command}: {len(exchange.replies)} answers instead of one")
        return exchange.replies[0]

    def _finish(self, exchange: Exchange, command: str, datagram: bytes | None) -> None:
        deadline = time.monotonic() + self._timeout
        try:
            while not (datagram is not None and exchange.feed(datagram)):
                datagram = self._receive(deadline, command)
        finally:
            self.stray += exchange.stray

    def _receive(self, deadline: float, command: str) -> bytes | None:
        try:
            size, sender = self._recv(self._buffer, 0, _MSG_DONTWAIT | _MSG_TRUNC)
        except BlockingIOError:
            left = deadline - time.monotonic()
            if left <= 0 or not self._wait(left):
                raise NetlinkError(
                    f"{command}: no answer from the kernel within {self._timeout:g} s"
                ) from None
            return None
        except OSError as error:
            self._lost(error, command)
        return self._checked(size, sender[0], command)

    def _wait(self, seconds: float) -> bool:
        poll = select.poll()  # select() itself refuses descriptors from 1024 on
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(1000 * seconds))

    def _checked(self, size: int, sender: int, command: str) -> bytes | None:
        """The datagram in the buffer, or None if no kernel sent it."""
        if sender:
            self.foreign += 1
            return None
        if size > _REPLY:
            raise DecodeError(f"{command}: an answer of {size} bytes, at most {_REPLY}")
        return bytes(self._view[:size])

    def _lost(self, error: OSError, command: str) -> NoReturn:
        """A failed recv: Overrun for an answer that found our receive buffer full, else as it came.

        The kernel goes on dropping until we have read all (see ``EventSocket.receive``): without
        that the next answer would be lost, too.
        """
        if error.errno != errno.ENOBUFS:
            raise error
        with contextlib.suppress(BlockingIOError):
            while True:
                self._recv(self._buffer, 0, _MSG_DONTWAIT)
                self.stray += 1
        raise Overrun(f"{command}: the kernel dropped the answer") from error


class Interrupted(NetlinkError):
    """A dump saw changes while it ran; ``dump`` repeats it."""

    def __init__(self, command: str) -> None:
        super().__init__(f"{command}: the dump was interrupted by changes")


# The two fields of struct mmsghdr that recvmmsg writes, where this architecture has them.
_FLAGS_AT = ffi.offsetof("struct mmsghdr", "msg_hdr") + ffi.offsetof("struct msghdr", "msg_flags")
_LENGTH_AT = ffi.offsetof("struct mmsghdr", "msg_len")
_MMSGHDR = Struct(
    f"={_FLAGS_AT}xi{_LENGTH_AT - _FLAGS_AT - 4}xI{ffi.sizeof('struct mmsghdr') - _LENGTH_AT - 4}x"
)


class EventSocket:
    """Receives multicast messages in batches: one ``recvmmsg`` fills up to ``slots`` buffers.

    receive_buffer  bytes of the kernel's queue for us (SO_RCVBUFFORCE, else SO_RCVBUF)
    size            bytes of one slot: the longest datagram that can come
    foreign         datagrams that no kernel sent, dropped
    memory          where ``batch`` puts what it receives; slots: how many at most
    """

    def __init__(
        self,
        protocol: int,
        groups: tuple[int, ...] = (),
        *,
        receive_buffer: int = 4 << 20,
        slots: int = 64,
        size: int = 16384,
    ) -> None:
        self._socket = _open(protocol, receive_buffer)
        self.portid: int = self._socket.getsockname()[0]
        self.foreign = 0
        self.slots, self._size = slots, size
        self._data = _BLANK("unsigned char[]", slots * size)
        self.memory = memoryview(ffi.buffer(self._data))
        self._names = ffi.new("struct sockaddr_nl[]", slots)
        self._names_seen = memoryview(ffi.buffer(self._names))
        self._iov = ffi.new("struct iovec[]", slots)
        self._batch = ffi.new("struct mmsghdr[]", slots)
        self._heads_seen = memoryview(ffi.buffer(self._batch))
        for slot in range(slots):
            self._iov[slot].iov_base = self._data + slot * size
            self._iov[slot].iov_len = size
            header = self._batch[slot].msg_hdr
            header.msg_name = self._names + slot
            header.msg_namelen = sockaddr_nl.size
            header.msg_iov = self._iov + slot
            header.msg_iovlen = 1
        try:
            for group in groups:
                self.join(group)
        except OSError:
            self.close()
            raise

    def join(self, group: int) -> None:
        """Join a multicast group. Errors: OSError, EPERM without CAP_NET_ADMIN for mptcp_pm."""
        self._socket.setsockopt(_SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        """The descriptor, for the loop."""
        return self._socket.fileno()

    def receive(self) -> list[bytes]:
        """As ``batch``, as bytes of their own."""
        memory = self.memory
        return [bytes(memory[start : start + length]) for start, length in self.batch()]

    def resize(self, receive_buffer: int) -> None:
        """Change the kernel's queue for us; what waits in it stays. Errors: OSError."""
        _receive_buffer(self._socket, receive_buffer)

    def filter(self, program: Sequence[tuple[int, int, int, int]]) -> None:
        """Let the kernel drop what this classic BPF program returns 0 for (``nl.bpf``)."""
        instructions = ffi.new("struct sock_filter[]", list(program))
        fprog = ffi.new("struct sock_fprog *", (len(program), instructions))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(ffi.buffer(fprog)))

    def batch(self) -> list[tuple[int, int]]:
        """Receive a batch into ``memory``: start and length of each datagram.

        What they hold is overwritten by the next call: nobody may keep a view of it.

        A full batch means that more may wait: the descriptor stays readable.
        Errors  Overrun: the kernel dropped messages, or one was longer than a slot. OSError.

        After an overrun the kernel goes on dropping, silently, until the queue has been read empty
        (net/netlink/af_netlink.c: NETLINK_S_CONGESTED). So: read until the list is empty, and only
        then dump; what a dump made earlier missed would never be told.
        """
        receive, fd = _LIBC.recvmmsg, self._socket.fileno()
        while (count := receive(fd, self._batch, self.slots, _MSG_DONTWAIT, ffi.NULL)) < 0:
            number = ffi.errno
            if number == errno.EAGAIN:
                return []
            if number == errno.ENOBUFS:
                raise Overrun("the kernel dropped messages: the receive buffer was full")
            if number != errno.EINTR:  # after that the queue need not be empty
                raise OSError(number, "recvmmsg")
        return self._sorted_out(count)

    def _sorted_out(self, count: int) -> list[tuple[int, int]]:
        """Start and length of the datagrams of a batch, without those that no kernel sent.

        Three reads of whole arrays instead of one cffi access for each field of each message: 0.25
        instead of 0.6 us a message.
        """
        found = []
        foreign = truncated = 0
        senders = sockaddr_nl.iter_unpack(self._names_seen[: count * sockaddr_nl.size])
        heads = _MMSGHDR.iter_unpack(self._heads_seen[: count * _MMSGHDR.size])
        start = 0
        for (_family, _pad, sender, _groups), (flags, length) in zip(senders, heads, strict=True):
            if sender:
                foreign += 1
            else:
                truncated |= flags & _MSG_TRUNC
                found.append((start, length))
            start += self._size
        self.foreign += foreign
        if truncated:
            raise Overrun(f"a message longer than {self._size} bytes was cut")
        return found

    def close(self) -> None:
        """Close the socket; the object is of no use afterwards."""
        self._socket.close()
