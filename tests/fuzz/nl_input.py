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


# By how much a length is wrong; mostly it is right. NONE and below: 0, 1, 2 and so on instead.
NONE = -1000
WRONG = st.sampled_from(
    [0] * 60 + [-4, -3, -2, -1, 1, 2, 3, 4, 8, 60000] + [NONE - few for few in range(4)]
)


def told(length: int, wrong: int) -> int:
    """What is told of a length."""
    return NONE - wrong if wrong <= NONE else max(0, length + wrong)


def nearly(payload: bytes, wrong: int) -> bytes:
    """A message, padded, whose length is wrong by so much, or less than a header's."""
    data = with_header(payload)
    length = told(len(data), wrong) * (5 if wrong <= NONE else 1)
    return length.to_bytes(4, sys.byteorder) + data[4:] + bytes(-len(data) & 3)


# Attributes of types and lengths that the parsers know, in any order.
KINDS = st.integers(0, 20) | st.integers(0, 0xFFFF)
PAYLOADS = st.sampled_from([0, 1, 2, 3, 4, 8, 16, 32]).flatmap(
    lambda size: st.binary(min_size=size, max_size=size)
) | st.binary(max_size=20)


def attribute(kind: int, payload: bytes, wrong: int = 0) -> bytes:
    """``wrong``: by how much its length is."""
    length = 4 + len(payload)
    said = told(length, wrong) & 0xFFFF
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
HEADS = {"LINK": bytes([0] * 4 + [1] * 12), "ADDR": bytes([2] + [1] * 7)}
NAMES = st.sampled_from([b"eth0\0", b"a\0b\0", b"\xff\xfe\0", b"", b"\0\0"])
LINKS = st.builds(
    lambda name, rest: HEADS["LINK"] + attribute(3, name) + rest,
    NAMES, st.sampled_from([b"", attribute(23, bytes(30)), attribute(23, bytes(192)),
                            attribute(16, b"\6"), attribute(16, bytes(2))]),
)  # fmt: skip
IFADDRS = st.builds(
    lambda ip, cache: HEADS["ADDR"] + attribute(1, ip) + cache,
    st.sampled_from([bytes(4), bytes(16), bytes(5), b""]),
    st.sampled_from([b"", attribute(6, bytes(16)), attribute(6, bytes(9)), attribute(3, b"a\0b")]),
)
# nlctrl's answer and mptcp_pm's, with parts that are not there.
PARTS = st.lists(st.sampled_from([0, 1, 2, 3, 4]), max_size=6, unique=True)
FAMILIES = st.builds(
    lambda parts, inside, name: bytes([1, 2, 0, 0]) + b"".join(
        [attribute(2, name), attribute(1, bytes(2)), attribute(3, bytes(4)), attribute(5, bytes(4)),
         attribute(7, attribute(1, b"".join(
             [attribute(1, name), attribute(2, bytes(4)), b"", b"", b""][part] for part in inside
         )))][part]
        for part in parts
    ),
    PARTS, PARTS, NAMES,
)  # fmt: skip
ADDRESSES = st.builds(
    lambda parts, family, more: bytes([3, 1, 0, 0]) + attribute(1, b"".join(
        [attribute(1, family), attribute(2, b"\1"), attribute(3, bytes(4)),
         attribute(4, bytes(more)), attribute(6, bytes(4))][part]
        for part in parts
    )),
    PARTS,
    st.sampled_from([n.to_bytes(2, sys.byteorder) for n in (2, 10, 2, 10, 0)]),
    st.sampled_from([16, 16, 4, 17, 0]),
)  # fmt: skip
ACKS = st.builds(
    lambda error, words: error.to_bytes(4, sys.byteorder, signed=True) + bytes(16)
    + attribute(1, words),
    st.sampled_from([0, -22, -4095, -4096, 1, -(2**31)]), NAMES,
)  # fmt: skip
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
