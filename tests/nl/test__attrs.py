"""The fast codec against its oracles: cffi's struct layouts, attrs.build, and attrs.parse."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from mptcpd.nl import _attrs, attrs
from mptcpd.nl._attrs import Encoder, Layouts
from mptcpd.nl._attrs_abi import ffi

STRUCTS = {name: value for name, value in vars(_attrs).items() if isinstance(value, struct.Struct)}
PACKED = {name: value for name, value in STRUCTS.items() if not name.startswith("_")}


def test_the_table_of_structs_is_complete() -> None:
    """Every struct that cffi was told of is compared below, except those of system calls."""
    _typedefs, structs, _unions = ffi.list_types()
    of_system_calls = {"iovec", "msghdr", "mmsghdr", "sock_filter", "sock_fprog"}
    of_system_calls |= {"cap_header", "cap_data"}
    assert sorted(PACKED) == sorted({*structs} - of_system_calls)


def fields(kind: Any, base: int = 0) -> list[tuple[int, int, bool]]:
    """(offset, size, signed) of each scalar of a struct as cffi lays it out."""
    found = []
    for _name, field in kind.fields:
        if field.type.kind == "struct":
            found += fields(field.type, base + field.offset)
        else:
            signed = int(ffi.cast(field.type, -1)) < 0
            found.append((base + field.offset, ffi.sizeof(field.type), signed))
    return found


@pytest.mark.parametrize("name", sorted(PACKED))
def test_struct(name: str) -> None:
    """Size, and offset, size and sign of each field."""
    ours = []
    offset = 0
    assert PACKED[name].format[0] == "="
    for code in PACKED[name].format[1:]:
        size = struct.calcsize("=" + code)
        ours.append((offset, size, code.islower()))
        offset += size
    assert ours == fields(ffi.typeof(f"struct {name}"))
    assert PACKED[name].size == ffi.sizeof(f"struct {name}")


def test_byte_order() -> None:
    assert sys.byteorder == _attrs.ORDER


def test_the_generated_module_belongs_to_its_source() -> None:
    """_attrs_abi.py is written by the build; one that is older than _attrs_build.py misleads."""
    from mptcpd.nl import _attrs_build

    structs = ffi.list_types()[1]
    assert sorted(structs) == sorted(_attrs_build.ffi.list_types()[1])
    for name in structs:
        built, ours = (f.typeof(f"struct {name}").fields for f in (_attrs_build.ffi, ffi))
        assert [(name, field.offset, field.type.cname) for name, field in ours] == [
            (name, field.offset, field.type.cname) for name, field in built
        ]


# --- Encoder ---------------------------------------------------------------------------------

Build = Callable[[Encoder], Encoder]
ENCODED: list[tuple[str, Build, list[tuple[int, attrs.Payload]]]] = [
    ("nothing", lambda e: e, []),
    ("u8", lambda e: e.u8(1, 255), [(1, b"\xff")]),
    ("u16", lambda e: e.u16(2, 0x1234), [(2, struct.pack("=H", 0x1234))]),
    ("u32", lambda e: e.u32(3, 0xDEADBEEF), [(3, struct.pack("=I", 0xDEADBEEF))]),
    ("s32", lambda e: e.s32(4, -2), [(4, struct.pack("=i", -2))]),
    ("u64", lambda e: e.u64(5, 1 << 63), [(5, struct.pack("=Q", 1 << 63))]),
    ("data0", lambda e: e.data(6, b""), [(6, b"")]),
    ("data1", lambda e: e.data(6, b"a"), [(6, b"a")]),
    ("data4", lambda e: e.data(6, b"abcd"), [(6, b"abcd")]),
    ("data5", lambda e: e.data(6, b"abcde"), [(6, b"abcde")]),
    ("pads", lambda e: e.u8(1, 1).data(2, b"xy").u16(3, 3).u8(4, 4),
     [(1, b"\1"), (2, b"xy"), (3, struct.pack("=H", 3)), (4, b"\4")]),
    ("empty nest", lambda e: e.begin(1).end(), [(1, [])]),
    ("nest", lambda e: e.begin(1).u8(2, 3).end().u8(4, 5), [(1, [(2, b"\3")]), (4, b"\5")]),
    ("nests", lambda e: e.begin(1).begin(2).u8(3, 4).end().begin(2).end().end(),
     [(1, [(2, [(3, b"\4")]), (2, [])])]),
]  # fmt: skip


@pytest.mark.parametrize(("build", "values"), [row[1:] for row in ENCODED],
                         ids=[row[0] for row in ENCODED])  # fmt: skip
def test_encoder_builds_what_attrs_builds(
    build: Build, values: list[tuple[int, attrs.Payload]]
) -> None:
    encoder = Encoder()
    assert build(encoder.start()).finish() == attrs.build(values)
    assert build(encoder.start(b"head")).finish() == b"head" + attrs.build(values)


def test_encoder_reuses_its_buffer_and_gives_its_bytes_away() -> None:
    encoder = Encoder(32)
    first = encoder.start().u32(1, 0xFFFFFFFF).finish()
    second = encoder.start().u8(1, 0).finish()
    assert first == attrs.build([(1, b"\xff" * 4)])
    assert second == attrs.build([(1, b"\0")])  # and no pad left over from the first


def test_start_forgets_what_failed() -> None:
    encoder = Encoder(32).start().u8(1, 1).begin(2)
    with pytest.raises(ValueError):
        encoder.u8(3, 256)
    assert encoder.start().u8(4, 4).finish() == attrs.build([(4, b"\4")])


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("u8", -1), ("u8", 256), ("u16", -1), ("u16", 65536), ("u32", -1), ("u32", 1 << 32),
        ("s32", 1 << 31), ("s32", -(1 << 31) - 1), ("u64", -1), ("u64", 1 << 64), ("u8", "1"),
        ("u32", 1.0), ("u16", None),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit(method: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"attribute 9 = {value!r}"):
        getattr(Encoder().start(), method)(9, value)


@pytest.mark.parametrize("kind", [-1, 0x10000])
def test_a_type_that_does_not_fit(kind: int) -> None:
    with pytest.raises(ValueError, match=f"attribute {kind}"):
        Encoder().start().u8(kind, 1)
    with pytest.raises(ValueError, match=f"attribute {kind}"):
        Encoder().start().data(kind, b"")


def test_a_message_that_outgrows_its_buffer() -> None:
    encoder = Encoder(16)
    assert len(encoder.start().u64(1, 1).finish()) == 12
    assert len(encoder.start().u32(1, 1).u32(1, 1).finish()) == 16
    for method, value in (("u8", 1), ("u32", 1), ("data", b"")):
        encoder.start().u32(1, 1).u32(1, 1)
        with pytest.raises(ValueError):
            getattr(encoder, method)(2, value)
    with pytest.raises(ValueError, match="outgrows its buffer of 16 bytes"):
        encoder.start(bytes(17))


def test_payloads_and_nests_that_no_u16_can_tell_of() -> None:
    encoder = Encoder(1 << 18)
    assert encoder.start().data(1, bytes(65531)).finish() == attrs.build([(1, bytes(65531))])
    with pytest.raises(ValueError, match="65532 bytes of payload"):
        encoder.data(1, bytes(65532))
    encoder.start().begin(1).data(2, bytes(65520)).u8(3, 3)
    with pytest.raises(ValueError, match="a nest of 65536 bytes"):
        encoder.end()


def test_nests_must_be_closed() -> None:
    encoder = Encoder().start()
    with pytest.raises(ValueError, match="no nest is open"):
        encoder.end()
    with pytest.raises(ValueError, match=r"2 nest\(s\) not closed"):
        encoder.begin(1).begin(2).finish()


# --- Layouts ---------------------------------------------------------------------------------

FIELDS = {1: (0, "B"), 2: (1, "H"), 3: (2, "I"), 4: (3, "4s"), 5: (3, "16s")}


def plainly(payload: bytes) -> tuple[Any, ...]:
    """What a layout's result must be, attribute by attribute."""
    found: list[Any] = [None] * 4
    for kind, data in attrs.split(payload):
        position, code = FIELDS[kind]
        found[position] = struct.unpack("=" + code, data)[0]
    return tuple(found)


SAMPLES: dict[int, bytes] = {1: b"\x7f", 2: b"\1\2", 3: b"\1\2\3\4", 4: b"ABCD", 5: b"E" * 16}


def test_a_learnt_shape_reads_as_the_plain_parser_does() -> None:
    layouts = Layouts(FIELDS, width=4)
    shapes = [*product(SAMPLES, repeat=1), *product(SAMPLES, repeat=2)]
    for key, shape in enumerate(shapes):
        payload = attrs.build([(kind, SAMPLES[kind]) for kind in shape])
        other = attrs.build([(kind, SAMPLES[kind][::-1]) for kind in shape])
        assert layouts.unpack(key, payload) is None
        layouts.learn(key, payload)
        if len({FIELDS[kind][0] for kind in shape}) < len(shape):  # it says a thing twice
            assert layouts.unpack(key, payload) is None
            continue
        assert layouts.unpack(key, payload) == plainly(payload)
        assert layouts.unpack(key, other) == plainly(other)
        assert layouts.unpack(key + 1, payload) is None  # the shape of another command


def test_where_it_lies_in_a_buffer() -> None:
    """The same in the middle of a buffer, for whoever wants the values and who only asks."""
    layouts = Layouts(FIELDS, width=4)
    payload = attrs.build([(2, b"\1\2"), (3, b"1234")])
    changed = attrs.build([(2, b"\1\2"), (1, b"1")])
    layouts.learn(5, payload)
    buffer = memoryview(bytearray(b"\xff" * 7 + payload + changed + b"\xff" * 9))
    for key, start, length, known in (
        (5, 7, len(payload), True), (6, 7, len(payload), False), (5, 7, len(payload) - 1, False),
        (5, 8, len(payload), False), (5, 7 + len(payload), len(changed), False), (5, 7, 0, False),
    ):  # fmt: skip
        assert layouts.match_at(key, buffer, start, length) is known
        found = layouts.unpack_at(key, buffer, start, length)
        assert found == (plainly(payload) if known else None)


def test_a_missing_last_pad_is_a_shape_of_its_own() -> None:
    layouts = Layouts(FIELDS, width=4)
    payload = attrs.build([(3, b"1234"), (1, b"\7")])
    layouts.learn(0, payload)
    assert layouts.unpack(0, payload[:-3]) is None
    layouts.learn(0, payload[:-3])
    assert layouts.unpack(0, payload[:-3]) == plainly(payload)


def test_same_length_but_another_shape() -> None:
    layouts = Layouts(FIELDS, width=4)
    known = attrs.build([(1, b"\1"), (2, b"\2\0")])
    layouts.learn(0, known)
    for values in ([(2, b"\2\0"), (1, b"\1")], [(1, b"\1"), (3, b"\2\0\0\0")],
                   [(1, b"\1"), (9, b"\2\0")], [(4, b"ABCD"), (3, b"1234")]):  # fmt: skip
        payload = attrs.build(values)
        assert len(payload) == len(known)
        assert layouts.unpack(0, payload) is None
    flagged = known[:3] + b"\x80" + known[4:] if sys.byteorder == "little" else known
    assert sys.byteorder == "big" or layouts.unpack(0, flagged) is None


def test_the_newest_shape_of_a_length_is_remembered() -> None:
    layouts = Layouts(FIELDS, width=4)
    one, two = attrs.build([(1, b"\1")]), attrs.build([(2, b"\1\0")])
    layouts.learn(0, one)
    layouts.learn(0, two)
    assert layouts.unpack(0, two) == plainly(two)
    assert layouts.unpack(0, one) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\1\0",
        attrs.build([(9, b"1234")]),  # not ours to judge
        attrs.build([(3, b"123")]),  # of a wrong length
        attrs.build([(3, b"12345678")]),
        attrs.build([(3, [(1, b"")])]),  # a nest
        attrs.build([(3, b"1234")]) + b"\0",  # bytes behind the last
        attrs.build([(3, b"1234")]) + bytes(4),  # a length of 0
        attrs.build([(3, b"1234")]) + b"\xff\xff\1\0",  # a length beyond the end
    ],
)
def test_what_is_not_learnt(payload: bytes) -> None:
    layouts = Layouts(FIELDS, width=4)
    layouts.learn(0, payload)
    assert layouts.unpack(0, payload) is None


def test_no_peer_can_make_us_remember_without_end() -> None:
    layouts = Layouts(FIELDS, width=4)
    payload = attrs.build([(1, b"\1")])
    for count in range(1, Layouts.MOST + 10):
        layouts.learn(count, payload)
        assert (layouts.unpack(count, payload) is not None) == (count <= Layouts.MOST)
