"""Input for the netlink codec: bytes of a kernel, damaged; attributes in any order; anything."""

from __future__ import annotations

import sys

from hypothesis import strategies as st

from mptcpd.nl import messages, mptcp_event
from tests.captures import record
from tests.fuzz import damage
from tests.fuzz.parsers import EVENTS, REPLIES

# Answers of sock_diag, and dumps of mptcp_pm and rtnetlink, as whole messages and as payloads.
_REPLIES = [item for recording in record.load("replies") for item in recording.messages.items()]
SOCKET_MESSAGES = [
    data for name, data in _REPLIES
    if name.startswith(("connections/", "subflows/"))
    and not name.endswith("request") and len(data) >= 88
]  # fmt: skip
SOCKETS = [data[messages.HEADER :] for data in SOCKET_MESSAGES]
DUMPED = [
    data for name, data in _REPLIES
    if name.startswith(("endpoints.", "links.", "routes/")) and not name.endswith("request")
]  # fmt: skip

ANY = st.binary(max_size=200)


@st.composite
def damaged(draw: st.DrawFn, whole: list[bytes]) -> bytes:
    """Messages of a kernel after something bad has happened to them."""

    def choose(low: int, high: int) -> int:
        return draw(st.integers(low, high))

    return damage.damaged(draw(st.sampled_from(whole)), choose)


@st.composite
def hit(draw: st.DrawFn, whole: list[bytes]) -> bytes:
    """Any bytes with a few of them changed, cut, doubled or put in."""

    def choose(low: int, high: int) -> int:
        return draw(st.integers(low, high))

    return damage.hit(draw(st.sampled_from(whole)), choose)


def payloads(whole: list[bytes]) -> st.SearchStrategy[bytes]:
    """What lies behind the nlmsghdr of damaged messages."""
    return damaged(whole).map(lambda message: message[messages.HEADER :])


def with_header(payload: bytes) -> bytes:
    """As a message, its length right, so that damage further in is reached."""
    return messages.build(28, 0, 1, 2, payload)


# Lengths that are as they should be, nearly always.
WRONG = st.sampled_from([0] * 12 + [-20, -16, -8, -4, -3, -2, -1, 1, 2, 3, 4, 8, 60000])


def nearly(payload: bytes, wrong: int) -> bytes:
    """A message, padded, whose length is wrong by so much."""
    data = with_header(payload)
    length = max(0, len(data) + wrong) & 0xFFFFFFFF
    return length.to_bytes(4, sys.byteorder) + data[4:] + bytes(-len(data) & 3)


# Attributes of types and lengths that the parsers know, in any order.
KINDS = st.integers(0, 20) | st.integers(0, 0xFFFF)
PAYLOADS = st.sampled_from([0, 1, 2, 3, 4, 8, 16, 32]).flatmap(
    lambda size: st.binary(min_size=size, max_size=size)
) | st.binary(max_size=20)


def attribute(kind: int, payload: bytes, wrong: int = 0) -> bytes:
    """``wrong``: by how much its length is."""
    length = 4 + len(payload)
    said = max(0, length + wrong) & 0xFFFF
    head = said.to_bytes(2, sys.byteorder) + kind.to_bytes(2, sys.byteorder)
    return head + payload + bytes(-length & 3)


def nested(depth: int, kind: int, payload: bytes) -> bytes:
    """Nests in nests, as deep as 16 bits of length allow."""
    for _level in range(depth):
        payload = attribute(kind, payload)
    return payload


LEAVES = st.builds(attribute, KINDS, PAYLOADS, WRONG)
NESTS = st.recursive(
    st.lists(LEAVES, max_size=3).map(b"".join),
    lambda inner: st.lists(st.builds(attribute, KINDS, inner), max_size=3).map(b"".join),
    max_leaves=8,
)
DEEP = st.builds(nested, st.sampled_from([1, 2, 5, 40, 400]), KINDS, PAYLOADS)
# Routes over several next hops, whose lengths are wrong now and then.
HOPS = st.builds(
    lambda wrong, rest: attribute(0, bytes(4) + rest, wrong),
    WRONG, st.just(b"") | st.just(attribute(5, bytes(4))),
).map(lambda hop: hop[:2] + bytes(2) + hop[4:])  # fmt: skip
ROUTES = st.builds(
    lambda family, hops: bytes([family]) + bytes(11) + attribute(9, b"".join(hops)),
    st.sampled_from([2, 10, 2, 10, 7]), st.lists(HOPS, max_size=4),
)  # fmt: skip
ATTRIBUTES = st.lists(LEAVES, max_size=12).map(b"".join)
EVENT_KINDS = st.sampled_from(sorted(mptcp_event.EVENTS)) | st.integers(0, 255)
STRUCTURED = st.builds(
    lambda kind, rest: bytes([kind, 1, 0, 0]) + rest, EVENT_KINDS, ATTRIBUTES | NESTS | DEEP
)
EVENT_PAYLOADS = st.one_of(payloads(EVENTS), STRUCTURED, ANY)
PAYLOAD = st.one_of(payloads(EVENTS + REPLIES), STRUCTURED, ATTRIBUTES, NESTS, DEEP, ANY)
DATAGRAMS = st.one_of(
    st.lists(damaged(EVENTS + REPLIES), max_size=3).map(b"".join),
    st.lists(st.builds(nearly, PAYLOAD, WRONG), max_size=3).map(b"".join),
    PAYLOAD.map(with_header),
    ANY,
)
