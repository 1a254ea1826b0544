"""Input for the netlink codec: bytes of a kernel, damaged; attributes in any order; anything."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from mptcpd.nl import messages, mptcp_event
from mptcpd.nl.errors import DecodeError
from tests.captures import record

EVENTS = [data for recording in record.load("events") for data in recording.messages.values()]
REPLIES = [data for recording in record.load("replies") for data in recording.messages.values()]

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


def outcome(parser: Callable[[Any], Any], data: bytes | bytearray) -> Any:
    """The value, or the error's words."""
    try:
        return parser(data)
    except DecodeError as error:
        return f"DecodeError: {error}"
