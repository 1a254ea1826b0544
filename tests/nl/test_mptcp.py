"""The 11 commands: a table of call and bytes; the answers: a table of bytes and value."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from mptcpd.nl import attrs, genl, mptcp
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.mptcp import Address, Limits

little = pytest.mark.skipif(sys.byteorder == "big", reason="the table holds little-endian bytes")

FOUR = bytes([10, 0, 1, 2])
SIX = bytes.fromhex("fd000001000000000000000000000002")
FAMILY4, FAMILY6 = "0600 0100 0200 0000", "0600 0100 0a00 0000"
ADDR4, ADDR6 = "0800 0300 0a000102", "1400 0400 fd000001000000000000000000000002"
TOKEN = "0800 0400 efbeadde"

# What is called, and what goes behind the nlmsghdr. The port of an address is in host order,
# 8080 = 0x1f90, its bytes the other way round than on the wire; the IP is as on the wire.
COMMANDS: list[tuple[Callable[[], bytes], str]] = [
    (
        lambda: mptcp.add_addr(Address(FOUR, 8080, 5, u.MPTCP_PM_ADDR_FLAG_SIGNAL, 2)),
        f"01010000 3400 0180 {FAMILY4} {ADDR4} 0500 0200 05000000"
        " 0600 0500 901f 0000 0800 0600 01000000 0800 0700 02000000",
    ),
    (
        lambda: mptcp.add_addr(Address(SIX, flags=0x2E)),
        f"01010000 2800 0180 {FAMILY6} {ADDR6} 0800 0600 2e000000",
    ),
    (lambda: mptcp.add_addr(Address(FOUR)), f"01010000 1400 0180 {FAMILY4} {ADDR4}"),
    (lambda: mptcp.del_addr(Address(None, id=255)), "02010000 0c00 0180 0500 0200 ff000000"),
    (
        lambda: mptcp.del_addr(Address(FOUR, id=0)),
        f"02010000 1c00 0180 {FAMILY4} {ADDR4} 0500 0200 00000000",
    ),
    (lambda: mptcp.get_addr(7), "03010000 0c00 0180 0500 0200 07000000"),
    (lambda: mptcp.get_addr(0, 0xDEADBEEF), f"03010000 0c00 0180 0500 0200 00000000 {TOKEN}"),
    (lambda: mptcp.dump_addrs(), "03010000"),
    (lambda: mptcp.dump_addrs(0xDEADBEEF), f"03010000 {TOKEN}"),
    (lambda: mptcp.flush_addrs(), "04010000"),
    (lambda: mptcp.set_limits(), "05010000"),
    (lambda: mptcp.set_limits(8, 0), "05010000 0800 0200 00000000 0800 0300 08000000"),
    (lambda: mptcp.set_limits(subflows=0), "05010000 0800 0300 00000000"),
    (lambda: mptcp.set_limits(add_addr_accepted=1), "05010000 0800 0200 01000000"),
    (lambda: mptcp.get_limits(), "06010000"),
    (
        lambda: mptcp.set_flags(Address(None, id=3, flags=u.MPTCP_PM_ADDR_FLAG_BACKUP)),
        "07010000 1400 0180 0500 0200 03000000 0800 0600 04000000",
    ),
    (
        lambda: mptcp.set_flags(Address(FOUR, flags=0), Address(FOUR, 80), 0xDEADBEEF),
        f"07010000 {TOKEN} 1c00 0180 {FAMILY4} {ADDR4} 0800 0600 00000000"
        f" 1c00 0680 {FAMILY4} {ADDR4} 0600 0500 5000 0000",
    ),
    (
        lambda: mptcp.announce(0xDEADBEEF, Address(SIX, 0, 9, u.MPTCP_PM_ADDR_FLAG_SIGNAL)),
        f"08010000 {TOKEN} 3000 0180 {FAMILY6} {ADDR6} 0500 0200 09000000 0800 0600 01000000",
    ),
    (lambda: mptcp.remove(0xDEADBEEF, 9), f"09010000 {TOKEN} 0500 0500 09000000"),
    (lambda: mptcp.remove(1, 0), "09010000 0800 0400 01000000 0500 0500 00000000"),
    (
        lambda: mptcp.subflow_create(0xDEADBEEF, Address(FOUR, id=4), Address(FOUR, 65535)),
        f"0a010000 {TOKEN} 1c00 0180 {FAMILY4} {ADDR4} 0500 0200 04000000"
        f" 1c00 0680 {FAMILY4} {ADDR4} 0600 0500 ffff 0000",
    ),
    (
        lambda: mptcp.subflow_destroy(0xDEADBEEF, Address(SIX, 8080), Address(SIX, 80)),
        f"0b010000 {TOKEN} 2800 0180 {FAMILY6} {ADDR6} 0600 0500 901f 0000"
        f" 2800 0680 {FAMILY6} {ADDR6} 0600 0500 5000 0000",
    ),
]


@little
@pytest.mark.parametrize(("call", "text"), COMMANDS)
def test_command(call: Callable[[], bytes], text: str) -> None:
    assert call().hex() == bytes.fromhex(text).hex()


def address(nest: bytes) -> Address:
    """An address as the builders made it, read attribute by attribute."""
    found = attrs.parse(nest)
    ip = found.get(u.MPTCP_PM_ADDR_ATTR_ADDR4, found.get(u.MPTCP_PM_ADDR_ATTR_ADDR6))
    family = None if ip is None else mptcp.AF_INET if len(ip) == 4 else mptcp.AF_INET6
    told = found.get(u.MPTCP_PM_ADDR_ATTR_FAMILY)
    assert (None if told is None else attrs.u16("", told)) == family

    def scalar(kind: int, reader: Callable[[str, bytes], int] = attrs.u32) -> int | None:
        return reader("", found[kind]) if kind in found else None

    return Address(
        ip,
        scalar(u.MPTCP_PM_ADDR_ATTR_PORT, attrs.u16) or 0,
        scalar(u.MPTCP_PM_ADDR_ATTR_ID, attrs.u8),
        scalar(u.MPTCP_PM_ADDR_ATTR_FLAGS),
        scalar(u.MPTCP_PM_ADDR_ATTR_IF_IDX),
    )


@pytest.mark.parametrize(
    "value",
    [
        Address(FOUR), Address(SIX), Address(None, id=1), Address(FOUR, 1), Address(SIX, 65535),
        Address(FOUR, id=0), Address(FOUR, id=255), Address(FOUR, flags=0),
        Address(FOUR, flags=0xFFFFFFFF), Address(FOUR, ifindex=0), Address(SIX, ifindex=2**31 - 1),
        Address(SIX, 8080, 17, 0x2E, 3),
    ],
)  # fmt: skip
def test_address_both_ways(value: Address) -> None:
    """In both places; what was not given is not sent, and zero is zero."""
    sent = attrs.parse(mptcp.subflow_create(1, value, value), genl.HEADER)
    assert address(sent[u.MPTCP_PM_ATTR_ADDR]) == value
    assert address(sent[u.MPTCP_PM_ATTR_ADDR_REMOTE]) == value


def test_every_command_is_in_the_table() -> None:
    assert sorted({bytes.fromhex(text)[0] for _call, text in COMMANDS}) == list(range(1, 12))
    assert sorted(mptcp.COMMANDS) == list(range(1, 12))
    assert mptcp.COMMANDS[u.MPTCP_PM_CMD_SUBFLOW_DESTROY] == "MPTCP_PM_CMD_SUBFLOW_DESTROY"


def test_names() -> None:
    """Every attribute that the header has is called by its name."""
    for value, (name, _inner) in mptcp.NAMES.items():
        assert getattr(u, name) == value
    assert sorted(mptcp.NAMES) == list(range(1, 7))
    for outer in (u.MPTCP_PM_ATTR_ADDR, u.MPTCP_PM_ATTR_ADDR_REMOTE):
        inner = mptcp.NAMES[outer][1]
        assert sorted(inner) == list(range(1, 8))
        assert all(getattr(u, name) == value for value, name in inner.items())
    assert sorted(mptcp.FLAGS.values()) == [1 << bit for bit in range(6)]


@pytest.mark.parametrize(
    "call",
    [
        lambda: mptcp.add_addr(Address(b"")),
        lambda: mptcp.add_addr(Address(b"12345")),
        lambda: mptcp.add_addr(Address(FOUR, 65536)),
        lambda: mptcp.add_addr(Address(FOUR, -1)),
        lambda: mptcp.add_addr(Address(FOUR, id=256)),
        lambda: mptcp.add_addr(Address(FOUR, id=-1)),
        lambda: mptcp.add_addr(Address(FOUR, flags=1 << 32)),
        lambda: mptcp.add_addr(Address(FOUR, ifindex=1 << 31)),
        lambda: mptcp.get_addr(256),
        lambda: mptcp.dump_addrs(1 << 32),
        lambda: mptcp.set_limits(subflows=-1),
        lambda: mptcp.remove(0, 256),
        lambda: mptcp.announce(-1, Address(FOUR)),
    ],
)
def test_a_value_that_does_not_fit(call: Callable[[], bytes]) -> None:
    with pytest.raises(ValueError):
        call()
    assert mptcp.flush_addrs() == genl.header(u.MPTCP_PM_CMD_FLUSH_ADDRS)  # and nothing of it stays


def number(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, sys.byteorder)


# --- limits ----------------------------------------------------------------------------------


@little
def test_limits_both_ways() -> None:
    data = bytes.fromhex("06010000 0800 0200 01000000 0800 0300 02000000")
    for _plain_then_compiled in range(2):
        assert mptcp.parse_limits(data) == Limits(add_addr_accepted=1, subflows=2)
    built = mptcp.set_limits(subflows=2, add_addr_accepted=1)
    assert built[0] == u.MPTCP_PM_CMD_SET_LIMITS
    assert built[1:] == data[1:]


def limits(*parts: tuple[int, bytes]) -> bytes:
    return genl.header(u.MPTCP_PM_CMD_GET_LIMITS) + attrs.build(parts)


def test_limits_in_another_order_and_with_something_new() -> None:
    accepted = (u.MPTCP_PM_ATTR_RCV_ADD_ADDRS, number(3))
    subflows = (u.MPTCP_PM_ATTR_SUBFLOWS, number(4))
    for parts in ((accepted, subflows), (subflows, accepted), (subflows, accepted, (99, b"new"))):
        for _again in range(2):
            assert mptcp.parse_limits(limits(*parts)) == Limits(3, 4)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "lack MPTCP_PM_ATTR_RCV_ADD_ADDRS"),
        (limits(), "lack MPTCP_PM_ATTR_RCV_ADD_ADDRS"),
        (limits((u.MPTCP_PM_ATTR_RCV_ADD_ADDRS, number(1))), "lack MPTCP_PM_ATTR_SUBFLOWS"),
        (limits((u.MPTCP_PM_ATTR_RCV_ADD_ADDRS, b"\1"), (u.MPTCP_PM_ATTR_SUBFLOWS, number(1))),
         "MPTCP_PM_ATTR_RCV_ADD_ADDRS: 1 bytes instead of 4"),
        (limits((u.MPTCP_PM_ATTR_RCV_ADD_ADDRS, number(1)), (u.MPTCP_PM_ATTR_SUBFLOWS, bytes(8))),
         "MPTCP_PM_ATTR_SUBFLOWS: 8 bytes instead of 4"),
    ],
)  # fmt: skip
def test_malformed_limits(data: bytes, words: str) -> None:
    for _again in range(2):
        with pytest.raises(DecodeError, match=words):
            mptcp.parse_limits(data)


# --- addresses -------------------------------------------------------------------------------


@little
@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            f"03010000 2c00 0180 {FAMILY4} 0500 0200 01000000 0800 0600 02000000"
            f" 0800 0700 03000000 {ADDR4}",
            Address(FOUR, 0, 1, 2, 3),
        ),
        (
            f"03010000 3000 0180 {FAMILY6} 0600 0500 901f 0000 0500 0200 ff000000 {ADDR6}",
            Address(SIX, 8080, 255, None, None),
        ),
        (
            f"03010000 2c00 0100 {FAMILY4} 0500 0200 00000000 0800 0600 00000000"
            f" 0800 0700 00000000 {ADDR4}",  # NLA_F_NESTED not set, as older kernels had it
            Address(FOUR, 0, 0, 0, None),
        ),
    ],
)
def test_parse_address(text: str, value: Address) -> None:
    assert mptcp.parse_address(bytes.fromhex(text)) == value


def reply(*parts: tuple[int, attrs.Payload]) -> bytes:
    return genl.header(3) + attrs.build([(u.MPTCP_PM_ATTR_ADDR, parts)])


@pytest.mark.parametrize(
    "value",
    [Address(FOUR, id=1, flags=0), Address(SIX, 1, 2, 3, 4), Address(FOUR, 65535, 255, 0x3F)],
)
def test_parse_is_the_inverse_of_build(value: Address) -> None:
    built = mptcp.add_addr(value)
    assert mptcp.parse_address(genl.header(3) + built[genl.HEADER :]) == value


F4 = (u.MPTCP_PM_ADDR_ATTR_FAMILY, number(mptcp.AF_INET, 2))
F6 = (u.MPTCP_PM_ADDR_ATTR_FAMILY, number(mptcp.AF_INET6, 2))
A4, A6 = (u.MPTCP_PM_ADDR_ATTR_ADDR4, FOUR), (u.MPTCP_PM_ADDR_ATTR_ADDR6, SIX)
ID = (u.MPTCP_PM_ADDR_ATTR_ID, b"\1")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "lacks MPTCP_PM_ATTR_ADDR"),
        (genl.header(3), "lacks MPTCP_PM_ATTR_ADDR"),
        (reply(), "family None without"),
        (reply(A4, ID), "family None without"),
        (reply(F4, ID), "family 2 without"),
        (reply(F4, A6, ID), "family 2 without"),
        (reply(F6, A4, ID), "family 10 without"),
        (reply((F4[0], number(7, 2)), A4, ID), "family 7 without"),
        (reply((F4[0], number(2)), A4, ID), "MPTCP_PM_ADDR_ATTR_FAMILY: 4 bytes instead of 2"),
        (reply(F4, (A4[0], SIX), ID), "MPTCP_PM_ADDR_ATTR_ADDR4: 16 bytes instead of 4"),
        (reply(F6, (A6[0], FOUR), ID), "MPTCP_PM_ADDR_ATTR_ADDR6: 4 bytes instead of 16"),
        (reply(F4, A4), "lacks MPTCP_PM_ADDR_ATTR_ID"),
        (reply(F4, A4, (ID[0], number(1))), "MPTCP_PM_ADDR_ATTR_ID: 4 bytes instead of 1"),
        (reply(F4, A4, ID, (u.MPTCP_PM_ADDR_ATTR_PORT, b"\1")), "ADDR_ATTR_PORT: 1 bytes"),
        (reply(F4, A4, ID, (u.MPTCP_PM_ADDR_ATTR_FLAGS, b"\1")), "ADDR_ATTR_FLAGS: 1 bytes"),
        (reply(F4, A4, ID, (u.MPTCP_PM_ADDR_ATTR_IF_IDX, b"")), "ADDR_ATTR_IF_IDX: 0 bytes"),
        (genl.header(3) + attrs.build([(u.MPTCP_PM_ATTR_ADDR, b"\xff\xff\0\0")]), "length 65535"),
    ],
)
def test_malformed_address(data: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        mptcp.parse_address(data)
