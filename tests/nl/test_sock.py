"""Opening sockets, and commands, as far as they need no privilege and change nothing: questions
about the kernel's interfaces, messages between sockets of our own, system calls made to fail.

What needs a network of its own is in ``tests/kernel/test_sock.py``.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mptcpd.nl import attrs, genl, messages, rtnl, sock
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import DecodeError, KernelError, NetlinkError, Overrun, Unavailable
from mptcpd.nl.exchange import Names
from mptcpd.nl.sock import CommandSocket, EventSocket, Interrupted

# Every process may send to every other's socket of this protocol; no kernel listens to it.
NETLINK_USERSOCK = 2
LO = 1
GET_LO = (u.RTM_GETLINK, rtnl.get_link(LO), "RTM_GETLINK")
GET_NLCTRL = (u.GENL_ID_CTRL, genl.get_family("nlctrl"), "CTRL_CMD_GETFAMILY")


@pytest.fixture
def route() -> Iterator[CommandSocket]:
    commands = CommandSocket(u.NETLINK_ROUTE)
    yield commands
    commands.close()


@pytest.fixture
def generic() -> Iterator[CommandSocket]:
    commands = CommandSocket(u.NETLINK_GENERIC)
    yield commands
    commands.close()


def ask_lo(commands: CommandSocket) -> rtnl.Link:
    (answer,) = commands.request(*GET_LO, flags=0, header=rtnl.IFINFOMSG)
    return rtnl.parse_link(u.RTM_NEWLINK, answer)


# --- opening ---------------------------------------------------------------------------------


def test_options(route: CommandSocket) -> None:
    def option(number: int) -> int:
        return route._socket.getsockopt(270, number)

    assert option(u.NETLINK_EXT_ACK) == 1
    assert option(u.NETLINK_CAP_ACK) == 1
    assert option(u.NETLINK_GET_STRICT_CHK) == 1
    assert not route._socket.getblocking()
    assert not os.get_inheritable(route._socket.fileno())
    assert route.portid == route._socket.getsockname()[0] != 0


def test_no_such_protocol() -> None:
    for open_it in (CommandSocket, EventSocket):
        with pytest.raises(Unavailable, match="no netlink protocol 31"):
            open_it(31)


def test_no_netlink_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(Unavailable):
        CommandSocket(u.NETLINK_ROUTE)


def test_no_descriptor_left() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(OSError) as caught:
            CommandSocket(u.NETLINK_ROUTE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE


class Refusing(socket.socket):
    """A socket that fails to set some options; ``refused`` holds (option, errno)."""

    refused: dict[int, int] = {}
    opened: list[Refusing] = []

    def __init__(self, *arguments: int) -> None:
        super().__init__(*arguments)
        self.opened.append(self)

    def setsockopt(self, level: int, option: int, value: Any, *rest: Any) -> None:
        if option in self.refused:
            number = self.refused[option]
            raise OSError(number, os.strerror(number))
        super().setsockopt(level, option, value)


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> type[Refusing]:
    monkeypatch.setattr(Refusing, "refused", {})
    monkeypatch.setattr(Refusing, "opened", [])
    monkeypatch.setattr(socket, "socket", Refusing)
    return Refusing


@pytest.mark.parametrize(
    "option", [u.NETLINK_EXT_ACK, u.NETLINK_CAP_ACK, u.NETLINK_GET_STRICT_CHK]
)
def test_an_option_that_an_older_kernel_lacks(option: int, refusing: type[Refusing]) -> None:
    """All goes on without it; an extended ack is then found behind the whole request."""
    refusing.refused[option] = errno.ENOPROTOOPT
    commands = CommandSocket(u.NETLINK_ROUTE)
    try:
        assert ask_lo(commands).ifindex == LO
        body = rtnl.get_link(LO) + attrs.build([(u.IFLA_EXT_MASK, b"\1")])
        names: Names = {u.IFLA_EXT_MASK: ("IFLA_EXT_MASK", {})}
        with pytest.raises(KernelError) as caught:
            commands.request(u.RTM_GETLINK, body, "RTM_GETLINK", names, header=rtnl.IFINFOMSG)
    finally:
        commands.close()
    assert caught.value.errno in (errno.ERANGE, errno.EINVAL)
    told = option != u.NETLINK_EXT_ACK
    assert caught.value.attribute == ("IFLA_EXT_MASK" if told else None)


def test_an_option_that_fails_otherwise(refusing: type[Refusing]) -> None:
    refusing.refused[u.NETLINK_EXT_ACK] = errno.EPERM
    with pytest.raises(PermissionError):
        CommandSocket(u.NETLINK_ROUTE)
    assert [opened.fileno() for opened in refusing.opened] == [-1]


def test_the_receive_buffer_without_privilege(refusing: type[Refusing]) -> None:
    refusing.refused[33] = errno.EPERM  # SO_RCVBUFFORCE
    events = EventSocket(u.NETLINK_ROUTE, receive_buffer=8192)
    # The kernel doubles it for its own bookkeeping: socket(7).
    assert refusing.opened[0].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * 8192
    events.close()


def test_a_group_that_cannot_be_joined(refusing: type[Refusing]) -> None:
    refusing.refused[u.NETLINK_ADD_MEMBERSHIP] = errno.EPERM
    with pytest.raises(PermissionError):
        EventSocket(u.NETLINK_ROUTE, (u.RTNLGRP_LINK,))
    assert [opened.fileno() for opened in refusing.opened] == [-1]


# --- commands: the kernel answers ------------------------------------------------------------


def test_query(generic: CommandSocket) -> None:
    for _again in range(3):
        family = genl.parse_family(generic.query(*GET_NLCTRL))
        assert (family.name, family.id) == ("nlctrl", u.GENL_ID_CTRL)
    assert (generic.stray, generic.foreign) == (0, 0)


def test_request(route: CommandSocket) -> None:
    assert ask_lo(route).name == "lo"


def test_request_with_an_ack(route: CommandSocket) -> None:
    """The ack is read with the answer, so that the next answer is the next request's."""
    for _again in range(2):
        answers = route.request(*GET_LO, header=rtnl.IFINFOMSG)
        assert [rtnl.parse_link(u.RTM_NEWLINK, answer).ifindex for answer in answers] == [LO]
    assert route.stray == 0


def test_dump(route: CommandSocket) -> None:
    answers = route.dump(u.RTM_GETLINK, rtnl.get_links(), "RTM_GETLINK", header=rtnl.IFINFOMSG)
    assert LO in [rtnl.parse_link(u.RTM_NEWLINK, answer).ifindex for answer in answers]


def test_stream(route: CommandSocket) -> None:
    found = []
    for answer in route.stream(u.RTM_GETLINK, rtnl.get_links(), "RTM_GETLINK", header=16):
        found.append(rtnl.parse_link(u.RTM_NEWLINK, answer).ifindex)
    assert LO in found
    assert ask_lo(route).ifindex == LO


def test_a_dump_of_many_datagrams(generic: CommandSocket) -> None:
    """nlctrl's own policy does not fit into one."""
    body = genl.header(u.CTRL_CMD_GETPOLICY) + attrs.build([(u.CTRL_ATTR_FAMILY_NAME, b"nlctrl\0")])
    whole = generic.dump(u.GENL_ID_CTRL, body, "CTRL_CMD_GETPOLICY")
    assert whole
    assert list(generic.stream(u.GENL_ID_CTRL, body, "CTRL_CMD_GETPOLICY")) == whole


def test_refused(generic: CommandSocket) -> None:
    body = genl.get_family("no_such_family")
    for ask in (generic.query, generic.request):
        with pytest.raises(KernelError) as caught:
            ask(u.GENL_ID_CTRL, body, "CTRL_CMD_GETFAMILY")
        assert (caught.value.command, caught.value.errno) == ("CTRL_CMD_GETFAMILY", errno.ENOENT)
    assert genl.parse_family(generic.query(*GET_NLCTRL)).name == "nlctrl"


def test_the_kernel_names_the_attribute(generic: CommandSocket) -> None:
    """Missing, and too short: extended acks as this kernel words them."""
    names: Names = {u.CTRL_ATTR_FAMILY_NAME: ("CTRL_ATTR_FAMILY_NAME", {}),
             u.CTRL_ATTR_FAMILY_ID: ("CTRL_ATTR_FAMILY_ID", {})}  # fmt: skip
    body = genl.header(u.CTRL_CMD_GETFAMILY) + attrs.build(
        [(u.CTRL_ATTR_FAMILY_NAME, b"nlctrl\0"), (u.CTRL_ATTR_FAMILY_ID, b"\1")]
    )
    for ask in (generic.query, generic.request):
        with pytest.raises(KernelError) as caught:
            ask(u.GENL_ID_CTRL, body, "CTRL_CMD_GETFAMILY", names)
        assert caught.value.attribute == "CTRL_ATTR_FAMILY_ID"
        assert "olicy" in (caught.value.words or "")


def test_sequence_numbers_start_again_from_1(route: CommandSocket, generic: CommandSocket) -> None:
    """0 is what the kernel puts into messages that answer nothing."""
    generic._seq = route._seq = 0xFFFFFFFE
    for expected in (0xFFFFFFFF, 1, 2):
        generic.query(*GET_NLCTRL)
        ask_lo(route)
        assert generic._seq == route._seq == expected


def test_an_answer_to_something_else(generic: CommandSocket) -> None:
    """As after a timeout: the late answer waits in the queue when the next question is asked."""
    for ask in (generic.query, generic.request):
        late = messages.build(u.GENL_ID_CTRL, u.NLM_F_REQUEST, 0, generic.portid, GET_NLCTRL[1])
        generic._socket.send(late)
        generic.stray = 0
        ask(*GET_NLCTRL)
        assert generic.stray == 1


def test_an_answer_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sock, "_REPLY", 64)
    commands = CommandSocket(u.NETLINK_GENERIC)
    for ask in (commands.query, commands.request):
        with pytest.raises(DecodeError, match=r"CTRL_CMD_GETFAMILY: an answer of \d+ bytes"):
            ask(*GET_NLCTRL)
    commands.close()


def test_an_answer_that_found_the_queue_full(generic: CommandSocket) -> None:
    """Overrun, and not a wait for what will never come; the next question is answered."""
    generic._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    for ask in (generic.query, generic.request):
        for _unread in range(50):
            generic._socket.send(
                messages.build(u.GENL_ID_CTRL, u.NLM_F_REQUEST, 0, generic.portid, GET_NLCTRL[1])
            )
        with pytest.raises(Overrun, match="CTRL_CMD_GETFAMILY: the kernel dropped the answer"):
            ask(*GET_NLCTRL)
        assert generic.stray > 0
        assert genl.parse_family(generic.query(*GET_NLCTRL)).name == "nlctrl"


def test_a_high_descriptor(generic: CommandSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting works beyond the 1024 descriptors that select() knows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2000:
        pytest.skip(f"at most {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    try:
        high = os.dup2(generic._socket.fileno(), 1500, inheritable=False)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    os.close(generic._socket.detach())
    generic._socket = socket.socket(fileno=high)
    monkeypatch.setattr(generic, "_recv", generic._socket.recvfrom_into)
    monkeypatch.setattr(generic, "_send", len)
    generic._timeout = 0.01
    with pytest.raises(NetlinkError, match="no answer"):
        generic.request(*GET_NLCTRL)


# --- commands: no kernel answers -------------------------------------------------------------


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandSocket]:
    """A socket that nobody answers."""
    commands = CommandSocket(NETLINK_USERSOCK, timeout=0.05)
    monkeypatch.setattr(commands, "_send", len)
    yield commands
    commands.close()


def test_no_answer_in_time(deaf: CommandSocket) -> None:
    def stream(*question: Any) -> list[bytes]:
        return list(deaf.stream(*question))

    asks: tuple[Callable[..., object], ...] = (deaf.query, deaf.request, deaf.dump, stream)
    for ask in asks:
        with pytest.raises(NetlinkError, match=r"^CMD: no answer from the kernel within 0.05 s$"):
            ask(16, b"\0\0\0\0", "CMD")


def test_a_forged_answer_is_refused_and_counted(deaf: CommandSocket) -> None:
    """Right type, sequence number and port ID; but no kernel sent it."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_USERSOCK) as forger:
        asks: tuple[Callable[..., object], ...] = (deaf.query, deaf.request)
        for count, ask in enumerate(asks, 1):
            forged = messages.build(16, 0, deaf._seq + 1, deaf.portid, b"forged!!")
            forger.sendto(forged, (deaf.portid, 0))
            with pytest.raises(NetlinkError, match="no answer"):
                ask(16, b"\0\0\0\0", "CMD")
            assert deaf.foreign == count
        forged = messages.build(u.NLMSG_DONE, 0, deaf._seq + 1, deaf.portid, bytes(4))
        forger.sendto(forged, (deaf.portid, 0))
        with pytest.raises(NetlinkError, match="no answer"):
            list(deaf.stream(16, b"\0\0\0\0", "CMD"))
        assert deaf.foreign == 3
    assert deaf.stray == 0


def test_the_kernel_does_not_listen() -> None:
    commands = CommandSocket(NETLINK_USERSOCK)
    with pytest.raises(ConnectionRefusedError):
        commands.query(16, b"\0\0\0\0", "CMD")
    commands.close()


def test_a_system_call_that_fails_is_not_renamed(
    deaf: CommandSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> tuple[int, tuple[int, int]]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(deaf, "_recv", broken)
    for ask in (deaf.query, deaf.request):
        with pytest.raises(OSError) as caught:
            ask(16, b"\0\0\0\0", "CMD")
        assert caught.value.errno == errno.EIO


def say(commands: CommandSocket, *datagrams: bytes | None) -> None:
    """Make the socket receive these, as if from the kernel; None: nothing is there yet."""
    left = list(datagrams)

    def recv(buffer: bytearray, _size: int, _flags: int) -> tuple[int, tuple[int, int]]:
        datagram = left.pop(0) if left else None
        if datagram is None:
            raise BlockingIOError
        buffer[: len(datagram)] = datagram
        return len(datagram), (0, 0)

    commands._recv = recv  # type: ignore[assignment]


def test_as_many_answers_as_a_query_has(deaf: CommandSocket) -> None:
    """Two datagrams, an ack alone: the short way does not take them for its one answer."""
    ours = (0, 1, deaf.portid)
    say(deaf, messages.build(u.NLMSG_NOOP, *ours, b""), messages.build(16, *ours, b"yes!"))
    assert deaf.query(16, b"\0\0\0\0", "CMD") == b"yes!"
    deaf._seq = 0
    ack = struct.pack("=i", 0) + messages.build(16, 1, 1, deaf.portid, b"")
    say(deaf, messages.build(u.NLMSG_ERROR, *ours, ack))
    with pytest.raises(DecodeError, match="0 answers instead of one"):
        deaf.query(16, b"\0\0\0\0", "CMD")
    deaf._seq = 0
    say(deaf, b"\1\2\3")
    with pytest.raises(DecodeError, match="3 bytes are no header"):
        deaf.query(16, b"\0\0\0\0", "CMD")


def test_an_answer_that_is_waited_for(
    deaf: CommandSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return True

    monkeypatch.setattr(deaf, "_wait", wait)
    say(deaf, None, None, messages.build(16, 0, 1, deaf.portid, b"late"))
    assert deaf.query(16, b"\0\0\0\0", "CMD") == b"late"
    assert len(waited) == 1
    assert 0 < waited[0] <= 0.05


def test_an_answer_keeps_nothing_of_the_buffer(deaf: CommandSocket) -> None:
    ours = (0, 1, deaf.portid)
    say(deaf, messages.build(16, *ours, b"one!"))
    answer = deaf.query(16, b"\0\0\0\0", "CMD")
    deaf._buffer[:] = bytes(len(deaf._buffer))
    assert answer == b"one!"


def interrupted(commands: CommandSocket, times: int) -> None:
    """Answer ``times`` dumps with NLM_F_DUMP_INTR, and then one without."""
    datagrams = []
    for seq in range(1, times + 2):
        flags = u.NLM_F_MULTI | (u.NLM_F_DUMP_INTR if seq <= times else 0)
        datagrams.append(
            messages.build(16, flags, seq, commands.portid, seq.to_bytes(4, "big"))
            + messages.build(u.NLMSG_DONE, u.NLM_F_MULTI, seq, commands.portid, bytes(4))
        )
    say(commands, *datagrams)


@pytest.mark.parametrize("times", [0, 1, 19])
def test_an_interrupted_dump_is_repeated(deaf: CommandSocket, times: int) -> None:
    """And nothing of the interrupted ones is in the answer."""
    interrupted(deaf, times)
    assert deaf.dump(16, b"\0\0\0\0", "CMD") == [(times + 1).to_bytes(4, "big")]


def test_a_dump_that_is_always_interrupted(deaf: CommandSocket) -> None:
    interrupted(deaf, 1000)
    with pytest.raises(NetlinkError, match="CMD: interrupted by changes 20 times in a row"):
        deaf.dump(16, b"\0\0\0\0", "CMD")


def test_request_tells_of_an_interruption(deaf: CommandSocket) -> None:
    interrupted(deaf, 1)
    with pytest.raises(Interrupted, match="CMD: the dump was interrupted"):
        deaf.request(16, b"\0\0\0\0", "CMD", flags=u.NLM_F_DUMP)
