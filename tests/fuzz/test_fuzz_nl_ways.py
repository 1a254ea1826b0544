"""Claims about the ways to build and parse netlink messages:

1. What was built parses to what it was built from; what was parsed, built and parsed is the same.
2. The compiled event parser and the plain one come to the same end, whatever was learnt before;
   so do the reader of batches, the encoder and ``attrs.build``, the search for sockets, and the
   quick way through a dump.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from mptcpd.nl import attrs, diag, genl, messages, mptcp, mptcp_event, mptcp_reader
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs import Encoder
from mptcpd.nl.errors import DecodeError, KernelError, Overrun
from mptcpd.nl.exchange import Exchange
from mptcpd.nl.messages import Message
from mptcpd.nl.mptcp import Address
from mptcpd.nl.mptcp_event import Event
from tests.fuzz.datagrams import FAMILY, Batch, events_of
from tests.fuzz.nl_input import (
    ANY,
    DUMPED,
    EVENT_PAYLOADS,
    SOCKET_MESSAGES,
    attribute,
    damaged,
    nearly,
    payloads,
    with_header,
)
from tests.fuzz.parsers import EVENTS, Parser, bounded, forget
from tests.fuzz.parsers import outcome as outcome_of


def outcome(parser: Callable[[Any], Any], data: bytes) -> Any:
    return outcome_of(Parser(parser), data)


# --- 1: build, then parse --------------------------------------------------------------------

LEAVES = st.tuples(st.integers(0, attrs.TYPE_MASK), st.binary(max_size=20))
TREES = st.recursive(
    st.lists(LEAVES, max_size=4),
    lambda inner: st.lists(
        LEAVES | st.tuples(st.integers(0, attrs.TYPE_MASK), inner), max_size=4
    ),
    max_leaves=12,
)


def flat(tree: Any) -> list[tuple[int, bytes]]:
    """A tree as ``attrs.split`` sees it: nests are payloads."""
    return [(k, p if isinstance(p, bytes) else attrs.build(p)) for k, p in tree]


def encode(encoder: Encoder, tree: Any) -> Encoder:
    for kind, payload in tree:
        if isinstance(payload, bytes):
            encoder.data(kind, payload)
        else:
            encode(encoder.begin(kind), payload).end()
    return encoder


@given(TREES, st.binary(max_size=16))
def test_attributes_built_and_parsed(tree: Any, header: bytes) -> None:
    built = attrs.build(tree)
    assert attrs.split(built) == flat(tree)
    assert attrs.split(header + built, len(header)) == flat(tree)
    assert attrs.parse(built) == dict(flat(tree))
    assert encode(Encoder().start(header), tree).finish() == header + built


@given(st.data())
def test_scalars_built_and_parsed(data: st.DataObject) -> None:
    for method, bits, low in (("u8", 8, 0), ("u16", 16, 0), ("u32", 32, 0), ("u64", 64, 0),
                              ("s32", 32, -(1 << 31))):  # fmt: skip
        value = data.draw(st.integers(low, low + (1 << bits) - 1))
        (found,) = attrs.parse(getattr(Encoder(64).start(), method)(5, value).finish()).values()
        if method == "s32":
            assert int.from_bytes(found, sys.byteorder, signed=True) == value
        else:
            assert getattr(attrs, method)("NAME", found) == value


MESSAGES = st.builds(
    Message,
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=10).map(lambda data: data * 4),  # whole words, as families send them
)


@given(st.lists(MESSAGES, max_size=5))
def test_messages_built_and_split(some: list[Message]) -> None:
    assert list(messages.split(b"".join(messages.build(*message) for message in some))) == some


U8, U16, U32 = (st.none() | st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32))
IPS = st.none() | st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
VALUES = st.builds(
    Event, st.integers(0, 255), U32, U16, U8, U8, IPS, IPS, U16, U16, U8, U8, U16, U32, U32, U32,
    U32, U8,
)  # fmt: skip


def required(event: Event) -> Event:
    """The event with everything that its kind cannot do without."""
    whole = Event(0, 1, 2, 3, 4, bytes(4), bytes(4), 5, 6, 7)
    missing = {
        field: getattr(whole, field)
        for field in mptcp_event.REQUIRED.get(event.kind, ())
        if getattr(event, field) is None
    }
    return event._replace(**missing)


@given(VALUES)
def test_events_built_and_parsed(event: Event) -> None:
    event = required(event)
    built = mptcp_event.build(event)
    assert mptcp_event.parse_plain(built) == event
    assert mptcp_event.parse(built) == mptcp_event.parse(built) == event


ADDRESSES = st.builds(
    Address, IPS.filter(lambda ip: ip is not None), st.integers(0, 65535), st.integers(0, 255),
    U32, st.none() | st.integers(1, 2**31 - 1),
)  # fmt: skip


@given(ADDRESSES)
def test_addresses_built_and_parsed(address: Address) -> None:
    body = mptcp.add_addr(address)[genl.HEADER :]
    assert mptcp.parse_address(genl.header(u.MPTCP_PM_CMD_GET_ADDR) + body) == address


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF))
def test_limits_built_and_parsed(subflows: int, accepted: int) -> None:
    assert mptcp.parse_limits(mptcp.set_limits(subflows, accepted)) == (accepted, subflows)


@given(EVENT_PAYLOADS)
def test_events_parsed_built_and_parsed(payload: bytes) -> None:
    event = outcome(mptcp_event.parse_plain, payload)
    if isinstance(event, Event):
        # Where both were sent, an event keeps the last of an IPv4 and an IPv6 address.
        built = mptcp_event.build(event)
        assert mptcp_event.parse_plain(built) == event
        assert mptcp_event.build(mptcp_event.parse(built)) == built


@given(payloads(DUMPED))
def test_addresses_parsed_built_and_parsed(payload: bytes) -> None:
    address = outcome(mptcp.parse_address, payload)
    if isinstance(address, Address):
        body = mptcp.add_addr(address)
        answer = genl.header(u.MPTCP_PM_CMD_GET_ADDR) + body[genl.HEADER :]
        again = mptcp.parse_address(answer)
        assert again == address
        assert mptcp.add_addr(again) == body


@given(st.lists(damaged(DUMPED), max_size=3).map(b"".join))
def test_bytes_parsed_built_and_parsed(datagram: bytes) -> None:
    with contextlib.suppress(DecodeError):
        found = list(messages.split(datagram))
        assert list(messages.split(b"".join(map(padded, found)))) == found
        for message in found:
            inside = attrs.split(message.payload, genl.HEADER)
            assert attrs.split(attrs.build(inside)) == inside


def padded(message: Message) -> bytes:
    return messages.build(*message) + bytes(-len(message.payload) & 3)


# --- 2: the fast way and the plain one -------------------------------------------------------


def bare(kind: int, token: int) -> bytes:
    """The payload of an event with what its kind cannot do without, and no more."""
    return mptcp_event.build(required(Event(kind, token)))


# A port that is none, in an event of a shape that is known but for this.
UNPORTED = bare(u.MPTCP_EVENT_ESTABLISHED, 2).replace(
    attribute(u.MPTCP_ATTR_DPORT, b"\0\6"), attribute(u.MPTCP_ATTR_FLAGS, b"\0\6")
)
KNOWN = bare(u.MPTCP_EVENT_ESTABLISHED, 1)


@example([KNOWN, UNPORTED])
@given(st.lists(EVENT_PAYLOADS, min_size=1, max_size=6))
def test_compiled_is_plain(some: list[bytes]) -> None:
    """After whatever was learnt: each message twice, the second time its shape may be known."""
    forget()
    for payload in [*some, *some]:
        plain = outcome(mptcp_event.parse_plain, payload)
        assert repr(outcome(mptcp_event.parse, payload)) == repr(plain)


@given(st.lists(payloads(SOCKET_MESSAGES), min_size=1, max_size=6))
def test_sockets_are_found_as_if_nothing_was_learnt(some: list[bytes]) -> None:
    for payload in [*some, *some]:
        for parser in (diag.parse_connection, diag.parse_subflow):
            found = outcome(parser, payload)
            learnt = diag._INFO_AT.copy(), diag._ULP_AT.copy()
            forget()
            assert outcome(parser, payload) == found
            diag._INFO_AT.update(learnt[0])
            diag._ULP_AT.update(learnt[1])


DUMP_REQUEST = messages.build(28, u.NLM_F_REQUEST | u.NLM_F_DUMP, 1, 4711, genl.header(3))


class Slow(Exchange):
    """An exchange that looks at every message by itself."""

    def _plain(self, datagram: bytes) -> bool:
        return False


@example([messages.build(28, 0, 2, 4711, b"")])  # of another question
@example([messages.build(28, u.NLM_F_DUMP_INTR, 1, 4711, b"")])
@example([messages.build(28, 0, 1, 4711, b"") + bytes(4)])
@given(
    st.lists(
        st.lists(st.sampled_from(DUMPED) | damaged(DUMPED), max_size=4).map(b"".join), max_size=4
    )
)
def test_dumps_are_read_as_message_by_message(datagrams: list[bytes]) -> None:
    ends: list[tuple[object, ...]] = []
    for kind in (Exchange, Slow):
        exchange = kind("COMMAND", DUMP_REQUEST)
        try:
            with bounded(sum(map(len, datagrams))):
                said = [exchange.feed(datagram) for datagram in datagrams]
        except (DecodeError, KernelError, Overrun) as error:
            # What a dump said until it failed is of no use to anybody.
            ends.append((str(error), exchange.done))
            continue
        state = exchange.done, exchange.stray, exchange.interrupted
        ends.append((said, exchange.replies, *state))
    assert ends[0] == ends[1]


class Hasty:
    """Notes what it is offered and takes nothing: the event comes as well."""

    def __init__(self) -> None:
        self.offered: list[tuple[object, ...]] = []

    def created(
        self, token: int, path: bytes, flags: int | None, server_side: int | None
    ) -> bool:
        self.offered.append((u.MPTCP_EVENT_CREATED, token, path, flags, server_side))
        return False

    def established(self, token: int) -> bool:
        self.offered.append((u.MPTCP_EVENT_ESTABLISHED, token))
        return False

    def closed(self, token: int) -> bool:
        self.offered.append((u.MPTCP_EVENT_CLOSED, token))
        return False


def offer(event: Event) -> tuple[object, ...]:
    """What ``Hasty`` notes of an event."""
    if event.kind != u.MPTCP_EVENT_CREATED:
        return event.kind, event.token
    assert event.local_ip is not None and event.local_port is not None
    assert event.remote_ip is not None and event.remote_port is not None
    local = event.local_ip + event.local_port.to_bytes(2, "big")
    remote = event.remote_ip + event.remote_port.to_bytes(2, "big")
    return event.kind, event.token, local + remote, event.flags, event.server_side


EVENT_DATAGRAMS = st.one_of(
    damaged(EVENTS), st.lists(damaged(EVENTS), max_size=2).map(b"".join),
    EVENT_PAYLOADS.map(with_header), ANY,
)  # fmt: skip


CLOSED = bytes([u.MPTCP_EVENT_CLOSED, 1, 0, 0])
TOKEN = attribute(u.MPTCP_ATTR_TOKEN, b"\3\0\0\0")
TOKENLESS = attribute(u.MPTCP_ATTR_TIMEOUT, b"\3\0\0\0")


# Each would be taken by one of the quick ways if that looked a little less closely.
@example([with_header(KNOWN), with_header(UNPORTED)], b"", True)
@example([with_header(KNOWN), nearly(KNOWN, 4)], b"", False)
@example([with_header(KNOWN), messages.build(29, 0, 1, 2, KNOWN)], b"", False)
@example([with_header(CLOSED + TOKENLESS)], b"", True)
@example([with_header(CLOSED + TOKEN + attribute(u.MPTCP_ATTR_FLAGS, b"a"))], b"", True)
@example([with_header(bytes([u.MPTCP_EVENT_ESTABLISHED, 1, 0, 0]) + TOKEN)], b"", True)
@given(
    st.lists(EVENT_DATAGRAMS, max_size=5),
    st.one_of(st.sampled_from(EVENTS), st.just(b"")),
    st.booleans(),
)
def test_batches_are_read_as_one_by_one(
    datagrams: list[bytes], older: bytes, hurry: bool
) -> None:
    """What lay in the buffer before is never taken for a part of a message."""
    forget()
    batch = Batch(datagrams, older)
    expected, errors = events_of(datagrams)
    events: list[Event] = []
    malformed: list[DecodeError] = []
    hasty = Hasty() if hurry else None
    for _learning_then_known in range(2):
        reader = mptcp_reader.EventReader(batch, FAMILY)
        with bounded(sum(map(len, datagrams))):
            assert reader.receive(events.append, malformed.append, hasty) == len(datagrams)
        assert reader.events == len(expected)
    batch.memory[:] = bytes(len(batch.memory))
    assert events == expected * 2
    assert [str(error) for error in malformed] == errors * 2
    if hasty is not None:
        assert set(hasty.offered) <= {offer(event) for event in expected}
