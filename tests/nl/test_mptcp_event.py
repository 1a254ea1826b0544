"""The 10 events: a table of value and bytes both ways, and what is refused.

Every row is parsed by the plain parser, by ``parse`` for the first time, and by ``parse`` again,
when the compiled layout has learnt its shape: always to the same value.
"""

from __future__ import annotations

import sys
from itertools import combinations
from typing import Any

import pytest

from mptcpd.nl import attrs, genl, mptcp_event
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs import Layouts
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.mptcp_event import EVENTS, REQUIRED, Event

little = pytest.mark.skipif(sys.byteorder == "big", reason="the table holds little-endian bytes")


@pytest.fixture(autouse=True)
def fresh_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins with nothing learnt."""
    layouts = mptcp_event._LAYOUTS
    monkeypatch.setattr(mptcp_event, "_LAYOUTS", Layouts(layouts._fields, layouts._width))


FOUR, FAR4 = bytes([10, 0, 1, 1]), bytes([10, 0, 1, 2])
SIX, FAR6 = (bytes.fromhex(f"fd0000010000000000000000000000{last}") for last in ("01", "02"))
MAPPED, FAR_MAPPED = (bytes(10) + b"\xff\xff" + ip for ip in (FOUR, FAR4))

TOKEN = "0800 0100 efbeadde"
FAMILY4, FAMILY6 = "0600 0200 0200 0000", "0600 0200 0a00 0000"
LOC, REM = "0500 0300 01000000", "0500 0400 02000000"
S4, D4 = "0800 0500 0a000101", "0800 0700 0a000102"
S6, D6 = "1400 0600 fd000001000000000000000000000001", "1400 0800 fd000001000000000000000000000002"
PORTS = "0600 0900 9c40 0000 0600 0a00 1f90 0000"  # network order: 0x9c40 = 40000, 0x1f90 = 8080
BACKUP = "0500 0b00 00000000"
T = 0xDEADBEEF
PAIR4: dict[str, Any] = {
    "local_ip": FOUR, "remote_ip": FAR4, "local_port": 40000, "remote_port": 8080,
}  # fmt: skip
PAIR6: dict[str, Any] = {**PAIR4, "local_ip": SIX, "remote_ip": FAR6}

TABLE: list[tuple[Event, str]] = [
    (
        Event(1, T, 2, local_id=0, remote_id=0, **PAIR4, backup=0, flags=1, server_side=0),
        f"01010000 {TOKEN} {FAMILY4} 0500 0300 00000000 0500 0400 00000000 {S4} {D4} {PORTS}"
        f" {BACKUP} 0600 0d00 0100 0000 0500 1200 00000000",
    ),
    (
        Event(2, T, 10, **PAIR6, server_side=1),
        f"02010000 {TOKEN} {FAMILY6} {S6} {D6} {PORTS} 0500 1200 01000000",
    ),
    (Event(3, T), f"03010000 {TOKEN}"),
    (Event(3, 0), "03010000 0800 0100 00000000"),
    (
        Event(6, T, 2, remote_id=2, remote_ip=FAR4, remote_port=8080),
        f"06010000 {TOKEN} {FAMILY4} {REM} {D4} 0600 0a00 1f90 0000",
    ),
    (
        Event(6, T, 10, remote_id=2, remote_ip=FAR6, remote_port=0),
        f"06010000 {TOKEN} {FAMILY6} {REM} {D6} 0600 0a00 0000 0000",
    ),
    (Event(7, T, remote_id=2), f"07010000 {TOKEN} {REM}"),
    (
        Event(10, T, 2, 1, 2, **PAIR4, backup=0, ifindex=7),
        f"0a010000 {TOKEN} {FAMILY4} {LOC} {REM} {S4} {D4} {PORTS} {BACKUP} 0800 0f00 07000000",
    ),
    (
        Event(11, T, 2, 1, 2, **PAIR4, backup=1, error=111, reset_reason=0xFF, reset_flags=3),
        f"0b010000 {TOKEN} {FAMILY4} {LOC} {REM} {S4} {D4} {PORTS} 0500 0b00 01000000"
        " 0500 0c00 6f000000 0800 1000 ff000000 0800 1100 03000000",
    ),
    (
        Event(13, T, 10, 1, 2, **PAIR6, backup=1, timeout=1000),
        f"0d010000 {TOKEN} {FAMILY6} {LOC} {REM} {S6} {D6} {PORTS} 0500 0b00 01000000"
        " 0800 0e00 e8030000",
    ),
    (
        Event(13, T, 10, 1, 2, MAPPED, FAR_MAPPED, 1, 65535, 0),
        f"0d010000 {TOKEN} {FAMILY6} {LOC} {REM} 1400 0600 {MAPPED.hex()}"
        f" 1400 0800 {FAR_MAPPED.hex()} 0600 0900 0001 0000 0600 0a00 ffff 0000 {BACKUP}",
    ),
    (
        Event(15, family=2, local_ip=FOUR, local_port=8080),
        f"0f010000 {FAMILY4} {S4} 0600 0900 1f90 0000",
    ),
    (
        Event(16, family=10, local_ip=SIX, local_port=8080),
        f"10010000 {FAMILY6} {S6} 0600 0900 1f90 0000",
    ),
    (Event(99, T), f"63010000 {TOKEN}"),  # of a kernel to come
    (Event(99), "63010000"),
]


@little
@pytest.mark.parametrize(("event", "text"), TABLE, ids=[str(e.name) for e, _ in TABLE])
def test_both_ways(event: Event, text: str) -> None:
    data = bytes.fromhex(text)
    assert mptcp_event.parse_plain(data) == event
    assert mptcp_event.parse(data) == event
    assert mptcp_event.parse(data) == event
    assert mptcp_event.build(event) == data


def test_every_event_is_in_the_table() -> None:
    assert {event.kind for event, _ in TABLE} >= set(EVENTS)
    assert sorted(EVENTS) == [1, 2, 3, 6, 7, 10, 11, 13, 15, 16]
    assert sorted(REQUIRED) == sorted(EVENTS)
    assert {event.name for event, _ in TABLE} >= {"MPTCP_EVENT_SUB_CLOSED", "MPTCP_EVENT 99"}
    for kind, name in EVENTS.items():
        assert getattr(u, name) == kind


def test_the_table_of_attributes() -> None:
    kinds = [row[0] for row in mptcp_event._TABLE]
    assert kinds == list(range(1, 19))
    assert all(getattr(u, name) == kind for kind, name, _field, _form in mptcp_event._TABLE)


@little
@pytest.mark.parametrize(("event", "text"), TABLE, ids=[str(e.name) for e, _ in TABLE])
def test_the_compiled_layout_was_used(
    event: Event, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another message of a known shape never reaches the plain parser."""
    data = bytes.fromhex(text)
    mptcp_event.parse(data)

    def plain(_payload: bytes) -> Event:
        raise AssertionError("the plain parser")

    monkeypatch.setattr(mptcp_event, "parse_plain", plain)
    if event == Event(99):  # no attribute, no shape
        return
    assert mptcp_event.parse(data) == event
    scalars = ("token", "local_id", "remote_id", "backup", "local_port")
    ones: dict[str, Any] = {field: 1 for field in scalars if getattr(event, field) is not None}
    changed = event._replace(**ones)
    assert mptcp_event.parse(mptcp_event.build(changed)) == changed


FULL = Event(0, T, 2, 1, 2, **PAIR4, backup=1)


@pytest.mark.parametrize("kind", sorted(REQUIRED))
def test_required(kind: int) -> None:
    """All of them suffice; without any one it is an error that names it."""
    required = REQUIRED[kind]
    least = Event(kind, **{field: getattr(FULL, field) for field in required})
    assert mptcp_event.parse(mptcp_event.build(least)) == least
    for field in required:
        absent: dict[str, Any] = {field: None}
        data = mptcp_event.build(least._replace(**absent))
        words = f"^Required {EVENTS[kind]} message attributes are missing: {field}$"
        for _again in range(2):
            with pytest.raises(DecodeError, match=words):
                mptcp_event.parse(data)
    with pytest.raises(DecodeError, match=f"are missing: {', '.join(required)}$"):
        mptcp_event.parse(genl.header(kind))


def test_what_is_required_is_asked_of_every_kind_for_itself() -> None:
    """One kind's known shape is not taken for another's."""
    body = mptcp_event.build(Event(3, T))[genl.HEADER :]
    assert mptcp_event.parse(genl.header(3) + body) == Event(3, T)
    with pytest.raises(DecodeError, match="MPTCP_EVENT_REMOVED"):
        mptcp_event.parse(genl.header(7) + body)


def with_attribute(kind: int, payload: bytes) -> bytes:
    """A CLOSED event with one more attribute."""
    return mptcp_event.build(Event(3, T)) + attrs.build([(kind, payload)])


@pytest.mark.parametrize(("kind", "name", "form"), [(k, n, f) for k, n, _, f in mptcp_event._TABLE])
def test_wrong_lengths(kind: int, name: str, form: str) -> None:
    size = {"u8": 1, "u16": 2, "be16": 2, "u32": 4, "ip4": 4, "ip6": 16}[form]
    for length in (0, 1, 2, 3, 4, 5, 8, 15, 16, 17):
        data = with_attribute(kind, bytes(length))
        for _again in range(2):
            if length == size:
                assert mptcp_event.parse(data) == mptcp_event.parse_plain(data)
                continue
            with pytest.raises(DecodeError, match=f"^{name}: {length} bytes instead of {size}$"):
                mptcp_event.parse(data)


def test_unknown_attributes_are_skipped_and_named() -> None:
    data = with_attribute(77, b"new") + attrs.build([(0, b""), (77, b"again"), (2000, b"?")])
    for _again in range(2):
        assert mptcp_event.parse(data) == Event(3, T)
    assert mptcp_event.unknown(data) == [77, 0, 2000]
    assert mptcp_event.unknown(mptcp_event.build(Event(3, T))) == []
    with pytest.raises(DecodeError):
        mptcp_event.unknown(with_attribute(77, b"1234")[:-1])


def test_the_last_of_an_attribute_counts() -> None:
    data = with_attribute(u.MPTCP_ATTR_TOKEN, bytes(4))
    for _again in range(2):
        assert mptcp_event.parse(data) == Event(3, 0)
    both = with_attribute(u.MPTCP_ATTR_SADDR6, SIX) + attrs.build([(u.MPTCP_ATTR_SADDR4, FOUR)])
    for _again in range(2):
        assert mptcp_event.parse(both) == Event(3, T, local_ip=FOUR)


def test_flags_of_an_attribute_type_are_no_part_of_it() -> None:
    plain = mptcp_event.build(Event(3, T))
    kind = (u.MPTCP_ATTR_TOKEN | u.NLA_F_NET_BYTEORDER).to_bytes(2, sys.byteorder)
    flagged = plain[:6] + kind + plain[8:]
    for data in (plain, flagged, plain, flagged):
        assert mptcp_event.parse(data) == Event(3, T)


@pytest.mark.parametrize("size", range(4))
def test_no_header(size: int) -> None:
    for parser in (mptcp_event.parse, mptcp_event.parse_plain):
        with pytest.raises(DecodeError, match=f"genlmsghdr: {size} bytes"):
            parser(bytes([3, 1, 0, 0])[:size])


@little
def test_every_truncation_is_an_event_of_its_own_or_an_error() -> None:
    """The compiled layout and the plain parser agree on each beginning of each message."""
    for _event, text in TABLE:
        data = bytes.fromhex(text)
        for size in range(len(data)):
            outcomes = []
            for parser in (mptcp_event.parse_plain, mptcp_event.parse, mptcp_event.parse):
                try:
                    outcomes.append(repr(parser(data[:size])))
                except DecodeError as error:
                    outcomes.append(str(error))
            assert len(set(outcomes)) == 1, (data.hex(), size, outcomes)


def test_more_shapes_than_are_remembered() -> None:
    """A peer that makes the kernel send ever new shapes costs time, not memory."""
    fields: dict[str, Any] = {
        "flags": 1, "timeout": 2, "ifindex": 3, "reset_reason": 4, "reset_flags": 5,
        "server_side": 1, "error": 6, "backup": 1,
    }  # fmt: skip
    for count in range(len(fields) + 1):
        for some in combinations(fields, count):
            event = Event(99, T, **{field: fields[field] for field in some})
            data = mptcp_event.build(event)
            assert mptcp_event.parse(data) == event == mptcp_event.parse(data)
    assert len(mptcp_event._LAYOUTS._known) <= Layouts.MOST


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Event(3, -1), "MPTCP_ATTR_TOKEN = -1"),
        (Event(3, 1 << 32), "MPTCP_ATTR_TOKEN = 4294967296"),
        (Event(3, T, local_id=256), "MPTCP_ATTR_LOC_ID = 256"),
        (Event(3, T, local_port=65536), "MPTCP_ATTR_SPORT = 65536"),
        (Event(3, T, local_ip=b""), "MPTCP_ATTR_SADDR4: an IP address has 4 or 16 bytes, not 0"),
        (Event(3, T, remote_ip=b"12345"), "MPTCP_ATTR_DADDR4: an IP address has 4 or 16"),
    ],
)
def test_build_refuses_what_does_not_fit(event: Event, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mptcp_event.build(event)


def test_events_are_immutable() -> None:
    with pytest.raises(AttributeError):
        Event(3, T).token = 1  # type: ignore[misc]
