"""The event socket as far as it needs no privilege: batches, overruns, and who sent a message.

The messages are answers of rtnetlink about lo, asked for on the event socket itself. What needs a
network of its own is in ``tests/kernel/test_sock.py``.
"""

from __future__ import annotations

import errno
import gc
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from mptcpd.nl import bpf, messages, rtnl
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import Overrun
from mptcpd.nl.sock import EventSocket

# Every process may send to every other's socket of this protocol; no kernel listens to it.
NETLINK_USERSOCK = 2
LO = 1


@pytest.fixture
def events() -> Iterator[Callable[..., EventSocket]]:
    """Opens event sockets on rtnetlink; what they ask the kernel comes back to them."""
    opened: list[EventSocket] = []

    def open_it(**options: int) -> EventSocket:
        opened.append(EventSocket(u.NETLINK_ROUTE, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_it
    for one in opened:
        one.close()


def ask(events: EventSocket, seq: int = 1) -> None:
    """Make the kernel send an event socket a message with this sequence number."""
    request = messages.build(u.RTM_GETLINK, u.NLM_F_REQUEST, seq, 0, rtnl.get_link(LO))
    events._socket.send(request)


def sequence(datagrams: list[bytes]) -> list[int]:
    return [message.seq for datagram in datagrams for message in messages.split(datagram)]


def test_nothing_there(events: Callable[..., EventSocket]) -> None:
    assert events().receive() == []


def test_batches_keep_the_order(events: Callable[..., EventSocket]) -> None:
    one = events(slots=4)
    for seq in range(10):
        ask(one, seq)
    assert [sequence(one.receive()) for _ in range(4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], []]


def test_what_is_received_is_a_copy(events: Callable[..., EventSocket]) -> None:
    one = events(slots=1)
    ask(one, 1)
    first = one.receive()
    ask(one, 2)
    second = one.receive()
    assert (sequence(first), sequence(second)) == ([1], [2])
    assert all(type(datagram) is bytes for datagram in first + second)


def test_a_message_that_is_longer_than_a_slot(events: Callable[..., EventSocket]) -> None:
    """It cannot be read any more: that is an overrun, and the next is received."""
    one = events(slots=2, size=64)
    ask(one)
    with pytest.raises(Overrun, match="a message longer than 64 bytes was cut"):
        one.receive()
    assert one.receive() == []
    with pytest.raises(Overrun):
        ask(one, 2)
        ask(one, 3)
        one.receive()
    assert one.receive() == []


def test_overrun_and_on(events: Callable[..., EventSocket]) -> None:
    """ENOBUFS is told once; what had come before is still there, what comes later comes."""
    one = events(receive_buffer=1)
    for seq in range(50):
        ask(one, seq)
    with pytest.raises(Overrun, match="the kernel dropped messages"):
        one.receive()
    got = sequence(one.receive())
    assert got == list(range(len(got)))
    assert 0 < len(got) < 50
    assert one.receive() == []
    ask(one, 99)
    assert sequence(one.receive()) == [99]


def test_between_the_overrun_and_an_empty_queue_all_is_lost(
    events: Callable[..., EventSocket],
) -> None:
    """The rule in ``receive`` that a dump must wait: the kernel drops and does not say so."""
    one = events(receive_buffer=1)
    for seq in range(50):
        ask(one, seq)
    with pytest.raises(Overrun):
        one.receive()
    ask(one, 99)
    assert 99 not in sequence(one.receive())
    assert one.receive() == []
    ask(one, 100)
    assert sequence(one.receive()) == [100]


def test_forged_events_are_refused_and_counted() -> None:
    one = EventSocket(NETLINK_USERSOCK)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_USERSOCK) as forger:
        for _each in range(3):
            forger.sendto(messages.build(16, 0, 0, 0, b"forged!!"), (one.portid, 0))
    assert one.receive() == []
    assert one.foreign == 3
    one.close()


def test_the_loop_s_descriptor(events: Callable[..., EventSocket]) -> None:
    one = events()
    assert one.fileno() == one._socket.fileno() >= 0


def test_a_closed_event_socket(events: Callable[..., EventSocket]) -> None:
    one = events()
    one.close()
    with pytest.raises(OSError) as caught:
        one.receive()
    assert caught.value.errno == errno.EBADF


def test_a_filter_drops_in_the_kernel(events: Callable[..., EventSocket]) -> None:
    """By the first byte of the payload, which of an answer about a link is 0 (AF_UNSPEC)."""
    for wanted, received in ((set(), []), ({1, 7}, []), ({1, 0}, [1])):
        one = events()
        one.filter(bpf.commands(wanted))
        ask(one)
        assert sequence(one.receive()) == received


def test_a_group_that_is_not_there() -> None:
    """It closes what it had opened: a socket left open would fail this test by its warning."""
    with pytest.raises(OSError) as caught:
        EventSocket(u.NETLINK_ROUTE, (1 << 20,))
    assert caught.value.errno == errno.EINVAL
    gc.collect()


def test_the_queue_may_be_made_larger_later(events: Callable[..., EventSocket]) -> None:
    one = events(receive_buffer=8192)
    with socket.socket(fileno=os.dup(one.fileno())) as same:
        before = same.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        one.resize(65536)
        assert same.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) > before
