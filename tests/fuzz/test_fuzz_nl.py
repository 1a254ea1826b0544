"""Claims about the netlink codec, for any bytes whatever and for damaged bytes of a real kernel:

1. A parser returns a value or raises DecodeError (one of text its own error); an exchange may also
   raise KernelError and Overrun, and every error can be printed.
2. A result keeps no view into the input: it does not change with the buffer, which may be resized.
3. No length in the input makes a parser loop, or give out more than the input holds.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mptcpd.core.connections import Connections
from mptcpd.nl import attrs, diag, messages, mptcp, mptcp_event, rtnl, words
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import DecodeError, KernelError, Overrun
from mptcpd.nl.exchange import Exchange, blame
from mptcpd.nl.messages import Ack, Message
from mptcpd.nl.mptcp import Address
from tests.fuzz import datagrams, parsers
from tests.fuzz.nl_input import (
    ACKS as ACK_PAYLOADS,
)
from tests.fuzz.nl_input import (
    ADDRESSES,
    ATTRIBUTES,
    DATAGRAMS,
    EVENT_PAYLOADS,
    FAMILIES,
    IFADDRS,
    LINKS,
    NESTS,
    PAYLOAD,
    ROUTES,
    SOCKETS,
    attribute,
    hit,
    nearly,
    payloads,
)

# What a parser is tried with beside what all are, by a part of its name.
OWN = {
    "LINK": LINKS, "ADDR": IFADDRS, "ROUTE": ROUTES, "family": FAMILIES,
    "mptcp.parse_address": ADDRESSES, "parse_error": ACK_PAYLOADS,
}  # fmt: skip


def nest(*parts: tuple[int, bytes]) -> bytes:
    return attribute(1, b"".join(attribute(kind, data) for kind, data in parts))


# What each breaks just one rule, by the parser's name: chance would find it, but not in each run.
FOUR, SIX = (family.to_bytes(2, sys.byteorder) for family in (2, 10))
EDGES = {
    "genl.parse_family": [
        bytes([1, 2, 0, 0]) + attribute(2, b"a") + attribute(1, bytes(2)) + attribute(7, group)
        for group in (nest((1, b"b")), nest((2, bytes(4))))
    ],
    "diag.parse_connection": [
        bytes([family]) + bytes(71) + attribute(2, bytes(96)) for family in (2, 7, 10)
    ],
    "rtnl.parse RTM_NEWLINK": [bytes(15), bytes(4)],
    "rtnl.parse RTM_NEWROUTE": [bytes([2]) + bytes(11) + attribute(9, bytes(8))],
    "mptcp.parse_address": [
        bytes([3, 1, 0, 0]) + address
        for address in (
            nest((1, FOUR), (2, b"1")), nest((1, SIX), (2, b"1")),
            nest((1, SIX), (2, b"1"), (4, bytes(17))), nest((1, FOUR), (3, bytes(4))),
        )
    ],
}  # fmt: skip
BARE = bytes([u.MPTCP_EVENT_CREATED, 1, 0, 0]) + attribute(u.MPTCP_ATTR_TOKEN, b"\1\1\1\1")


def inputs(name: str) -> st.SearchStrategy[bytes]:
    """What a parser is tried with: what it takes, damaged; what others take; anything."""
    seeds = parsers.PARSERS[name].seeds
    if seeds is not parsers.PAYLOADS:
        return st.binary() | hit(seeds) | hit(seeds)
    found = PAYLOAD
    own = parsers.takes(name, parsers.EVENTS + parsers.REPLIES)
    more = [strategy for part, strategy in OWN.items() if part in name]
    if own:
        more.append(payloads(own))
    for strategy in more * 3:  # one_of chooses each as often as the others
        found |= strategy
    return found


def any_bytes(name: str) -> Any:
    """The test of one parser. Each has its own, as each has its own inputs."""

    def test(data: bytes) -> None:
        parsers.check(name, data)

    test.__name__ = test.__qualname__ = parsers.name_of_test(name)
    found: Any = given(data=inputs(name))(test)
    for edge in EDGES.get(name, []):
        found = example(data=edge)(found)
    return found


for _name in parsers.PARSERS:
    globals()[parsers.name_of_test(_name)] = any_bytes(_name)


@given(DATAGRAMS)
def test_datagrams(data: bytes) -> None:
    """Through everything that the daemon does with a datagram, twice: shapes may be known then."""
    entry = datagrams.Entry()
    entry.take(data)
    entry.take(data)


@given(st.sampled_from(sorted(rtnl._PARSERS)) | st.integers(0, 64), PAYLOAD)
def test_notifications(kind: int, data: bytes) -> None:
    parser = parsers.Parser(lambda payload: rtnl.parse(kind, payload))
    parsers.check_one(parser, data)


def by_the_letter(data: bytes, header: int, width: int) -> list[tuple[bytes, bytes]] | None:
    """Headers and payloads as linux/netlink.h lays them out, None where it cannot be.

    width  of the length that a header begins with; it counts the header, and what follows begins
           at the next multiple of 4
    """
    found = []
    while len(data) >= header:
        length = int.from_bytes(data[:width], sys.byteorder)
        if not header <= length <= len(data):
            return None
        found.append((data[:header], data[header:length]))
        data = data[length + 3 & ~3 :]
    # Attributes may be followed by a few bytes that are none, messages not.
    return None if data and header > 4 else found


@example(attribute(1, b"", -1))
@example(attribute(1, b"", 1))
@example(attribute(1, b"a") + attribute(2, b"b"))
@example(attribute(0x8001, b""))
@given(ATTRIBUTES | NESTS | PAYLOAD)
def test_attributes_are_where_the_header_says(data: bytes) -> None:
    found = by_the_letter(data, 4, 2)
    if found is None:
        with pytest.raises(DecodeError):
            attrs.split(data)
        return
    expected = [
        (int.from_bytes(head[2:], sys.byteorder) & attrs.TYPE_MASK, payload)
        for head, payload in found
    ]
    assert attrs.split(data) == expected
    assert attrs.parse(data) == dict(expected)


@example(nearly(b"", -1))
@example(nearly(b"", 1))
@example(nearly(b"", 0) + nearly(b"", 4))
@example(nearly(b"a", 0) + nearly(b"b", 0))
@given(DATAGRAMS)
def test_messages_are_where_the_header_says(data: bytes) -> None:
    found = by_the_letter(data, 16, 4)
    if found is None:
        with pytest.raises(DecodeError):
            list(messages.split(data))
        return
    assert [message.payload for message in messages.split(data)] == [rest for _, rest in found]
    heads = [messages.build(*message)[4:16] for message in messages.split(data)]
    assert heads == [head[4:] for head, _rest in found]


class Quiet:
    """Is told of everything and says nothing."""

    def __getattr__(self, hook: str) -> Any:
        if hook.startswith("_"):
            raise AttributeError(hook)
        return lambda *told: None


@example([BARE])
@given(st.lists(EVENT_PAYLOADS, max_size=4))
def test_the_table_takes_whatever_the_parser_makes(some: list[bytes]) -> None:
    """An event that lacks what its kind cannot do without would end in another error there."""
    quiet: Any = Quiet()
    table = Connections(quiet, lambda connection: None)
    for payload in [*some, *some]:
        with contextlib.suppress(DecodeError):
            table.take(mptcp_event.parse(payload))


INFO = st.integers(0, 300).flatmap(lambda size: st.binary(min_size=size, max_size=size))


@given(st.sampled_from(SOCKETS), INFO)
def test_mptcp_info_of_any_length(socket: bytes, info: bytes) -> None:
    """Flags and token are read from where they are, whatever the kernel's version appends."""
    payload = socket[: diag.MESSAGE] + attribute(u.INET_DIAG_INFO, info)
    for _known in range(2):
        try:
            found = diag.parse_connection(payload)
        except DecodeError:
            assert len(info) < diag._INFO_LEAST
        else:
            assert found.info == info
            assert found.flags == int.from_bytes(info[8:12], sys.byteorder)
            assert found.token == int.from_bytes(info[12:16], sys.byteorder)
    for wrong in (4, 60_000):  # beyond the end of the message
        longer = socket[: diag.MESSAGE] + attribute(u.INET_DIAG_INFO, info, wrong)
        with pytest.raises(DecodeError):
            diag.parse_connection(longer)


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
def test_exchanges(request: bytes, answers: list[bytes]) -> None:
    exchange = Exchange("COMMAND", request, names=mptcp.NAMES)
    try:
        with parsers.bounded(sum(map(len, answers))):
            for answer in answers:
                exchange.feed(answer)
    except (DecodeError, KernelError, Overrun) as error:
        assert str(error)
    assert parsers.held(exchange.replies) <= sum(map(len, answers))


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
    with parsers.bounded(len(request)):
        attribute = blame(ack, request, 20, names)
    assert attribute is None or attribute
    text = str(KernelError("COMMAND", ack.errno, ack.words, attribute))
    assert text.startswith("COMMAND: ")
    assert ack.words is None or ack.words in text
