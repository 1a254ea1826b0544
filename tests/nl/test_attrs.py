"""The plain attribute codec: tables of attributes and bytes, both ways, and what it refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from mptcpd.nl import attrs
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.uapi import NLA_F_NESTED, NLA_F_NET_BYTEORDER

little = pytest.mark.skipif(sys.byteorder == "big", reason="the table holds little-endian bytes")

# Attributes in order, and their bytes.
TABLE: list[tuple[list[tuple[int, attrs.Payload]], str]] = [
    ([], ""),
    ([(1, b"")], "0400 0100"),
    ([(1, b"a")], "0500 0100 61 000000"),
    ([(1, b"ab")], "0600 0100 6162 0000"),
    ([(1, b"abc")], "0700 0100 616263 00"),
    ([(1, b"abcd")], "0800 0100 61626364"),
    ([(1, b"abcde")], "0900 0100 6162636465 000000"),
    ([(0x3FFF, b"z")], "0500 ff3f 7a 000000"),
    ([(2, b"x"), (1, b"y")], "0500 0200 78 000000 0500 0100 79 000000"),
    ([(7, b"a"), (7, b"b")], "0500 0700 61 000000 0500 0700 62 000000"),
]


@little
@pytest.mark.parametrize(("values", "text"), TABLE)
def test_both_ways(values: list[tuple[int, attrs.Payload]], text: str) -> None:
    data = bytes.fromhex(text)
    assert attrs.build(values) == data
    assert attrs.split(data) == values
    assert attrs.parse(data) == dict(values)


@little
def test_nests_both_ways() -> None:
    data = bytes.fromhex("1800 0180 0500 0200 07 000000 0c00 0380 0600 0100 0200 0000")
    assert attrs.build([(1, [(2, b"\7"), (3, [(1, b"\2\0")])])]) == data
    outer = attrs.parse(data)
    assert list(outer) == [1]
    inner = attrs.parse(outer[1])
    assert inner == {2: b"\7", 3: bytes.fromhex("0600 0100 0200 0000")}
    assert attrs.parse(inner[3]) == {1: b"\2\0"}


def test_flags_are_no_part_of_the_type() -> None:
    data = attrs.build([(5, b"1234")])
    for flag in (NLA_F_NESTED, NLA_F_NET_BYTEORDER, NLA_F_NESTED | NLA_F_NET_BYTEORDER):
        flagged = data[:2] + (5 | flag).to_bytes(2, sys.byteorder) + data[4:]
        assert attrs.parse(flagged) == {5: b"1234"}


def test_the_last_of_a_type_counts() -> None:
    assert attrs.parse(attrs.build([(1, b"old"), (2, b""), (1, b"new")])) == {1: b"new", 2: b""}


def test_starts_behind_a_header() -> None:
    assert attrs.parse(b"\xff" * 4 + attrs.build([(1, b"x")]), 4) == {1: b"x"}
    assert attrs.parse(b"header", 6) == {}
    assert attrs.parse(b"head", 16) == {}  # the header itself was cut: its owner must have seen it


def test_the_last_pad_may_be_missing() -> None:
    data = attrs.build([(1, b"abcd"), (2, b"e")])
    assert attrs.parse(data[:-3]) == attrs.parse(data)


@pytest.mark.parametrize("extra", [1, 2, 3])
def test_less_than_a_header_behind_the_last_is_ignored(extra: int) -> None:
    assert attrs.parse(attrs.build([(1, b"abcd")]) + b"\xff" * extra) == {1: b"abcd"}


@little
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0000 0100", "offset 0: length 0 is below its header"),  # would loop for ever
        ("0300 0100", "offset 0: length 3 is below its header"),
        ("0900 0100 61626364", "offset 0: length 9, but 8 bytes are left"),
        ("ffff 0100", "offset 0: length 65535, but 4 bytes are left"),
        ("0400 0100 0000 0200", "offset 4: length 0 is below its header"),
        ("0500 0100 61 000000 0800 0200 61", "offset 8: length 8, but 5 bytes are left"),
    ],
)
def test_malformed(text: str, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        attrs.parse(bytes.fromhex(text))
    with pytest.raises(DecodeError, match=words):
        attrs.split(bytes.fromhex(text))


def test_the_offset_in_an_error_counts_from_the_start_of_the_buffer() -> None:
    with pytest.raises(DecodeError, match="offset 8: length 0"):
        attrs.parse(bytes(12), 8)


@pytest.mark.parametrize("kind", [-1, 0x4000, 0x8001, 0x10000])
def test_build_refuses_a_type_of_more_than_14_bits(kind: int) -> None:
    with pytest.raises(ValueError, match="14 bits"):
        attrs.build([(kind, b"")])


def test_build_refuses_a_payload_that_no_u16_can_tell_of() -> None:
    assert attrs.split(attrs.build([(1, bytes(65531))])) == [(1, bytes(65531))]
    with pytest.raises(ValueError, match="attribute 1: 65532 bytes"):
        attrs.build([(1, bytes(65532))])
    with pytest.raises(ValueError, match="attribute 3: 65536 bytes"):
        attrs.build([(3, [(1, bytes(32764)), (1, bytes(32764))])])


def test_results_are_copies() -> None:
    buffer = bytearray(attrs.build([(1, b"abcd")]))
    view = memoryview(buffer)
    found = attrs.parse(view)  # type: ignore[arg-type]
    view.release()
    buffer[:] = bytes(len(buffer))
    buffer.clear()  # BufferError if anything still looked into it
    assert found == {1: b"abcd"}


Reader = Callable[[str, bytes], int]


@little
@pytest.mark.parametrize(
    ("reader", "text", "value"),
    [
        (attrs.u8, "00", 0),
        (attrs.u8, "ff", 255),
        (attrs.u16, "0102", 0x0201),
        (attrs.u16, "ffff", 65535),
        (attrs.be16, "0102", 0x0102),
        (attrs.be16, "1f90", 8080),
        (attrs.u32, "01020304", 0x04030201),
        (attrs.u32, "ffffffff", 0xFFFFFFFF),
        (attrs.s32, "ffffffff", -1),
        (attrs.u64, "0102030405060708", 0x0807060504030201),
        (attrs.u64, "ff" * 8, 0xFFFFFFFFFFFFFFFF),
    ],
)
def test_scalars(reader: Reader, text: str, value: int) -> None:
    assert reader("NAME", bytes.fromhex(text)) == value


@pytest.mark.parametrize(
    ("reader", "size"),
    [(attrs.u8, 1), (attrs.u16, 2), (attrs.be16, 2), (attrs.u32, 4), (attrs.s32, 4),
     (attrs.u64, 8)],
)
def test_a_scalar_has_one_length(reader: Reader, size: int) -> None:
    for length in range(10):
        if length != size:
            with pytest.raises(DecodeError, match=f"NAME: {length} bytes instead of {size}"):
                reader("NAME", bytes(length))


def test_ip() -> None:
    assert attrs.ip("NAME", b"\x0a\0\0\1", 4) == b"\x0a\0\0\1"
    assert attrs.ip("NAME", bytes(16), 16) == bytes(16)
    for payload, size in ((bytes(16), 4), (bytes(4), 16), (b"", 4), (bytes(5), 4)):
        with pytest.raises(DecodeError, match=f"NAME: {len(payload)} bytes instead of {size}"):
            attrs.ip("NAME", payload, size)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"", ""),
        (b"\0", ""),
        (b"eth0", "eth0"),
        (b"eth0\0", "eth0"),
        ("größe\0".encode(), "größe"),
        (b"\xff\xfe", "\udcff\udcfe"),  # an interface name may hold any byte
    ],
)
def test_string(payload: bytes, text: str) -> None:
    assert attrs.string("NAME", payload) == text
    assert text.encode("utf-8", "surrogateescape") == payload.rstrip(b"\0")


@pytest.mark.parametrize("payload", [b"\0\0", b"a\0b", b"a\0\0", b"\0a"])
def test_string_with_a_nul_inside(payload: bytes) -> None:
    with pytest.raises(DecodeError, match="NAME: a NUL inside"):
        attrs.string("NAME", payload)
