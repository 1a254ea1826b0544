"""Claims about the netlink codec, for any bytes whatever and for damaged bytes of a real kernel:

1. A parser returns a value or raises DecodeError; an exchange may also raise KernelError and
   Overrun, and every error can be printed.
2. What was built parses to what it was built from.
3. The compiled event parser and the plain one come to the same end, whatever was learnt before;
   so do the reader of batches, the encoder and ``attrs.build``, and the search for sockets.
4. A result keeps no view into the input: it does not change with the buffer, which may be resized.
5. No length in the input makes a parser loop, or give out more than the input holds.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcpd.nl import attrs, diag, genl, messages, mptcp, mptcp_event, mptcp_reader, rtnl, words
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs import Encoder, Layouts
from mptcpd.nl.errors import DecodeError, KernelError, Overrun
from mptcpd.nl.exchange import Exchange, blame
from mptcpd.nl.messages import Ack, Message
from mptcpd.nl.mptcp import Address
from mptcpd.nl.mptcp_event import Event
from tests.captures import record

EVENTS = [data for recording in record.load("events") for data in recording.messages.values()]
REPLIES = [data for recording in record.load("replies") for data in recording.messages.values()]

# --- input -----------------------------------------------------------------------------------

ANY = st.binary(max_size=200)
NUMBERS = st.sampled_from([0, 1, 2, 3, 4, 5, 7, 8, 0x7F, 0x80, 0xFF])


@st.composite
def damaged(draw: st.DrawFn, whole: list[bytes]) -> bytes:
    """Bytes of a kernel, or of nobody, with a few of them changed, cut, doubled or put in."""
    data = bytearray(draw(st.sampled_from(whole)) if whole else draw(ANY))
    for _each in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 5)):
            case 0 | 1 if place < len(data):
                data[place] = draw(NUMBERS)
            case 2:
                del data[place:]
            case 3:
                del data[place : place + draw(st.integers(1, 8))]
            case 4:
                data[place:place] = draw(st.binary(min_size=1, max_size=8))
            case 5:
                data[place:place] = data[place : place + draw(st.integers(1, 24))]
            case _:
                pass
    return bytes(data)


def with_header(payload: bytes) -> bytes:
    """As a message, its length right, so that damage further in is reached."""
    return messages.build(28, 0, 1, 2, payload)


# Attributes of types and lengths that the parsers know, in any order.
KINDS = st.integers(0, 20) | st.integers(0, 0xFFFF)
PAYLOADS = st.sampled_from([0, 1, 2, 3, 4, 8, 16, 32]).flatmap(
    lambda size: st.binary(min_size=size, max_size=size)
) | st.binary(max_size=20)


def attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    head = length.to_bytes(2, sys.byteorder) + kind.to_bytes(2, sys.byteorder)
    return head + payload + bytes(-length & 3)


ATTRIBUTES = st.lists(st.builds(attribute, KINDS, PAYLOADS), max_size=12).map(b"".join)
EVENT_KINDS = st.sampled_from(sorted(mptcp_event.EVENTS)) | st.integers(0, 255)
STRUCTURED = st.builds(lambda kind, rest: bytes([kind, 1, 0, 0]) + rest, EVENT_KINDS, ATTRIBUTES)
EVENT_PAYLOADS = st.one_of(
    damaged([data[messages.HEADER :] for data in EVENTS]), STRUCTURED, ANY
)
PAYLOAD = st.one_of(
    damaged([data[messages.HEADER :] for data in EVENTS + REPLIES]), STRUCTURED, ATTRIBUTES, ANY
)
DATAGRAMS = st.one_of(
    st.lists(damaged(EVENTS + REPLIES), max_size=3).map(b"".join),
    PAYLOAD.map(with_header),
    ANY,
)

# --- 1, 4, 5: a value or DecodeError, and nothing of the input in it -------------------------


def outcome(parser: Callable[[Any], Any], data: bytes | bytearray) -> Any:
    """The value, or the error's words."""
    try:
        return parser(data)
    except DecodeError as error:
        return f"DecodeError: {error}"


def held(value: Any) -> int:
    """Bytes in a result, all of which must be immutable."""
    if isinstance(value, bytes):
        return len(value)
    assert not isinstance(value, (bytearray, memoryview))
    if isinstance(value, dict):
        return sum(map(held, value.values())) + sum(map(held, value))
    if isinstance(value, (tuple, list)):
        return sum(map(held, value))
    assert value is None or isinstance(value, (int, str))
    return 0


PARSERS: dict[str, Callable[[Any], Any]] = {
    "attrs.split": attrs.split,
    "attrs.parse": attrs.parse,
    "messages.split": lambda data: list(messages.split(data)),
    "messages.parse_error": lambda data: messages.parse_error(data, 0),
    "messages.parse_error TLVs": lambda data: messages.parse_error(data, u.NLM_F_ACK_TLVS),
    "messages.parse_error capped": lambda data: messages.parse_error(data, 0x300),
    "messages.parse_done": lambda data: messages.parse_done(data, 0),
    "messages.parse_done TLVs": lambda data: messages.parse_done(data, u.NLM_F_ACK_TLVS),
    "genl.command": genl.command,
    "genl.parse_family": genl.parse_family,
    "mptcp.parse_limits": mptcp.parse_limits,
    "mptcp.parse_address": mptcp.parse_address,
    "mptcp_event.parse": mptcp_event.parse,
    "mptcp_event.parse_plain": mptcp_event.parse_plain,
    "mptcp_event.unknown": mptcp_event.unknown,
    "rtnl.parse_link": lambda data: rtnl.parse_link(u.RTM_NEWLINK, data),
    "rtnl.parse_address": lambda data: rtnl.parse_address(u.RTM_NEWADDR, data),
    "rtnl.parse_route": lambda data: rtnl.parse_route(u.RTM_NEWROUTE, data),
    "diag.parse_connection": diag.parse_connection,
    "diag.parse_subflow": diag.parse_subflow,
}


def check(parser: Callable[[Any], Any], data: bytes) -> None:
    value = outcome(parser, data)
    buffer = bytearray(data)
    again = outcome(parser, buffer)
    buffer[:] = bytes(len(buffer))
    buffer.clear()  # BufferError if the result still looked into it
    assert repr(again) == repr(value)
    # Each byte is given out at most once, but for an address in an event and its attribute.
    assert held(value) <= len(data)


@pytest.mark.parametrize("name", PARSERS)
@given(data=PAYLOAD)
def test_a_value_or_an_error(name: str, data: bytes) -> None:
    check(PARSERS[name], data)


@given(DATAGRAMS)
def test_datagrams(data: bytes) -> None:
    check(PARSERS["messages.split"], data)


@given(st.integers(0, 64), PAYLOAD)
def test_notifications(kind: int, data: bytes) -> None:
    check(lambda payload: rtnl.parse(kind, payload), data)


@given(st.integers(0, 64), PAYLOAD)
def test_in_words(kind: int, data: bytes) -> None:
    """What --debug says is always a line of text."""
    lines = [
        words.route(Message(kind, 0, 1, 2, data)),
        words.command("NAME", data, mptcp.NAMES),
        words.command("NAME", data, None),
        words.answer("NAME", data, mptcp.NAMES),
    ]
    with contextlib.suppress(DecodeError):
        lines.append(words.event(mptcp_event.parse(data)))
    for line in lines:
        assert line
        assert "\n" not in line


SAMPLE_REQUESTS = [
    messages.build(28, flags, 1, 2, body)
    for flags in (u.NLM_F_REQUEST, u.NLM_F_REQUEST | u.NLM_F_ACK, u.NLM_F_REQUEST | u.NLM_F_DUMP)
    for body in (
        mptcp.get_limits(),
        mptcp.add_addr(Address(bytes(4), 1, 2, 3, 4)),
        mptcp.subflow_create(1, Address(bytes(16), id=1), Address(bytes(16), 80)),
    )
]


@given(st.sampled_from(SAMPLE_REQUESTS), st.lists(DATAGRAMS, max_size=4))
def test_exchanges(request: bytes, datagrams: list[bytes]) -> None:
    exchange = Exchange("COMMAND", request, names=mptcp.NAMES)
    try:
        for datagram in datagrams:
            exchange.feed(datagram)
    except (DecodeError, KernelError, Overrun) as error:
        assert str(error)
    assert held(exchange.replies) <= sum(map(len, datagrams))


ACKS = st.builds(
    Ack,
    st.integers(0, 4095),
    st.none() | st.text(max_size=20) | st.from_regex(r": -[0-9]{1,30}", fullmatch=True),
    st.none() | st.integers(0, 130) | st.integers(0, 0xFFFFFFFF),
    st.none() | st.integers(0, 10) | st.integers(0, 0xFFFFFFFF),
    st.none() | st.integers(0, 130),
)


@given(st.sampled_from(SAMPLE_REQUESTS), ACKS, st.sampled_from([mptcp.NAMES, {}]))
def test_refusals_can_be_printed(request: bytes, ack: Ack, names: Any) -> None:
    attribute = blame(ack, request, 20, names)
    assert attribute is None or attribute
    text = str(KernelError("COMMAND", ack.errno, ack.words, attribute))
    assert text.startswith("COMMAND: ")
    assert ack.words is None or ack.words in text


# --- 2: build, then parse --------------------------------------------------------------------

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


# --- 3: the fast way and the plain one -------------------------------------------------------


def forget() -> None:
    """Make the compiled parser forget what it has learnt."""
    for name in ("_LAYOUTS", "_OPENED_LAYOUTS"):
        layouts = getattr(mptcp_event, name)
        setattr(mptcp_event, name, Layouts(layouts._fields, layouts._width))


@given(st.lists(EVENT_PAYLOADS, min_size=1, max_size=6))
def test_compiled_is_plain(payloads: list[bytes]) -> None:
    """After whatever was learnt: each message twice, the second time its shape may be known."""
    forget()
    for payload in [*payloads, *payloads]:
        plain = outcome(mptcp_event.parse_plain, payload)
        assert repr(outcome(mptcp_event.parse, payload)) == repr(plain)


SOCKETS = [
    data[messages.HEADER :]
    for recording in record.load("replies")
    for name, data in recording.messages.items()
    if name.startswith(("connections/", "subflows/"))
]


@given(st.lists(damaged(SOCKETS), min_size=1, max_size=6))
def test_sockets_are_found_as_if_nothing_was_learnt(payloads: list[bytes]) -> None:
    for payload in [*payloads, *payloads]:
        for parser in (diag.parse_connection, diag.parse_subflow):
            found = outcome(parser, payload)
            tables: tuple[dict[Any, Any], ...] = (
                diag._INFO_AT, diag._ULP_AT,
            )  # fmt: skip
            learnt = [table.copy() for table in tables]
            for table in tables:
                table.clear()
            assert outcome(parser, payload) == found
            for table, before in zip(tables, learnt, strict=True):
                table.update(before)


class Batch:
    """What an event socket holds after one receive: datagrams in slots full of older bytes."""

    def __init__(self, datagrams: list[bytes], older: bytes) -> None:
        self.slot = 4096
        self.memory = memoryview(
            bytearray((older * self.slot)[: self.slot] * len(datagrams) if older else
                      bytes(self.slot * len(datagrams)))
        )  # fmt: skip
        self.spans = []
        for index, datagram in enumerate(datagrams):
            start = index * self.slot
            self.memory[start : start + len(datagram)] = datagram
            self.spans.append((start, len(datagram)))

    def batch(self) -> list[tuple[int, int]]:
        return self.spans


def slowly(datagrams: list[bytes], family: int) -> tuple[list[Event], list[str]]:
    """Events and errors of datagrams, message by message with the plain parsers."""
    events, errors = [], []
    for datagram in datagrams:
        try:
            for message in messages.split(datagram):
                if message.type != family:
                    continue
                try:
                    events.append(mptcp_event.parse_plain(message.payload))
                except DecodeError as error:
                    errors.append(str(error))
        except DecodeError as error:
            errors.append(str(error))
    return events, errors


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


@given(
    st.lists(EVENT_DATAGRAMS, max_size=5),
    st.one_of(st.sampled_from(EVENTS), st.just(b"")) if EVENTS else st.just(b""),
    st.booleans(),
)
def test_batches_are_read_as_one_by_one(
    datagrams: list[bytes], older: bytes, hurry: bool
) -> None:
    """What lay in the buffer before is never taken for a part of a message."""
    forget()
    batch = Batch(datagrams, older)
    expected, errors = slowly(datagrams, 28)
    events: list[Event] = []
    malformed: list[DecodeError] = []
    hasty = Hasty() if hurry else None
    for _learning_then_known in range(2):
        reader = mptcp_reader.EventReader(batch, 28)
        assert reader.receive(events.append, malformed.append, hasty) == len(datagrams)
        assert reader.events == len(expected)
    batch.memory[:] = bytes(len(batch.memory))
    assert events == expected * 2
    assert [str(error) for error in malformed] == errors * 2
    if hasty is not None:
        assert set(hasty.offered) <= {offer(event) for event in expected}
