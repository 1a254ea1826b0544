"""Claims about the netlink codec, for any bytes whatever and for damaged bytes of a real kernel:

1. A parser returns a value or raises DecodeError; an exchange may also raise KernelError and
   Overrun, and every error can be printed.
2. A result keeps no view into the input: it does not change with the buffer, which may be resized.
3. No length in the input makes a parser loop, or give out more than the input holds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcpd.nl import attrs, diag, genl, messages, mptcp, mptcp_event, rtnl, words
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import DecodeError, KernelError, Overrun
from mptcpd.nl.exchange import Exchange, blame
from mptcpd.nl.messages import Ack, Message
from mptcpd.nl.mptcp import Address
from tests.fuzz.nl_input import DATAGRAMS, PAYLOAD, outcome


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
