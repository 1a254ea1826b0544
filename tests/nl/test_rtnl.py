"""Links, addresses and routes: a table of bytes and value for each, and what is refused.

The bytes are written attribute by attribute, as the kernel's own fill functions order them; bytes
that a kernel sent are in ``tests/captures``.
"""

from __future__ import annotations

import struct
import sys
from typing import Any

import pytest

from mptcpd.nl import attrs, rtnl
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.mptcp import AF_INET, AF_INET6
from mptcpd.nl.rtnl import Address, Link, Route

little = pytest.mark.skipif(sys.byteorder == "big", reason="the table holds little-endian bytes")


def u8(value: int) -> bytes:
    return bytes([value])


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


# --- requests --------------------------------------------------------------------------------


@little
@pytest.mark.parametrize(
    ("body", "text"),
    [
        (rtnl.get_links(), "00" * 16 + "0800 1d00 08000000"),
        (rtnl.get_link(5), "00000000 05000000 00000000 00000000"),
        (rtnl.get_addresses(), "00000000 00000000"),
        (rtnl.get_addresses(AF_INET6, 3), "0a000000 03000000"),
        (rtnl.get_routes(AF_INET), "02000000 00000000 00000000"),
        (
            rtnl.get_route(bytes([1, 1, 1, 1])),  # 0x3000: FIB_MATCH, LOOKUP_TABLE
            "02200000 00000000 00300000 0800 0100 01010101",
        ),
        (
            rtnl.get_route(bytes([1, 1, 1, 1]), 7, bytes([10, 0, 0, 1])),
            "02202000 00000000 00300000 0800 0100 01010101 0800 0200 0a000001 0800 0400 07000000",
        ),
        (
            rtnl.get_route(bytes(15) + b"\1", 7),  # 0x2000: FIB_MATCH
            f"0a800000 00000000 00200000 1400 0100 {'00' * 15}01 0800 0400 07000000",
        ),
        (
            rtnl.get_route(bytes(15) + b"\1", src=b"\xfd" + bytes(15)),
            f"0a808000 00000000 00200000 1400 0100 {'00' * 15}01 1400 0200 fd{'00' * 15}",
        ),
    ],
)
def test_request(body: bytes, text: str) -> None:
    assert body.hex() == bytes.fromhex(text).hex()


# --- links -----------------------------------------------------------------------------------


def link(*parts: tuple[int, attrs.Payload], index: int = 2, family: int = 0) -> bytes:
    return struct.pack("=BBHiII", family, 0, 1, index, 0x11043, 0) + attrs.build(parts)


NAME = (u.IFLA_IFNAME, b"eth0\0")
STATS = struct.pack("=QQQQ", 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (link(NAME), Link(2, 1, 0x11043, "eth0")),
        (
            link(NAME, (u.IFLA_OPERSTATE, u8(6)), (u.IFLA_MASTER, u32(9)),
                 (u.IFLA_STATS64, STATS + bytes(160)), (u.IFLA_ADDRESS, bytes(6)), (999, b"new")),
            Link(2, 1, 0x11043, "eth0", 6, 9, 3, 4),
        ),
        (link(NAME, (u.IFLA_STATS64, STATS)), Link(2, 1, 0x11043, "eth0", rx_bytes=3, tx_bytes=4)),
        (link((u.IFLA_IFNAME, b"\xff\0"), index=2**31 - 1), Link(2**31 - 1, 1, 0x11043, "\udcff")),
        (link(NAME, (u.IFLA_OPERSTATE, u8(0))), Link(2, 1, 0x11043, "eth0", 0)),
    ],
)  # fmt: skip
def test_link(data: bytes, value: Link) -> None:
    assert rtnl.parse_link(u.RTM_NEWLINK, data) == value
    assert rtnl.parse_link(u.RTM_DELLINK, data) == value._replace(gone=True)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "ifinfomsg: 0 bytes instead of 16"),
        (link(NAME)[:15], "ifinfomsg: 15 bytes instead of 16"),
        (link(), "link 2 lacks IFLA_IFNAME"),
        (link(NAME, index=0), "a link with ifindex 0"),
        (link(NAME, index=-1), "a link with ifindex -1"),
        (link((u.IFLA_IFNAME, b"a\0b\0")), "IFLA_IFNAME: a NUL inside"),
        (link(NAME, (u.IFLA_OPERSTATE, u32(6))), "IFLA_OPERSTATE: 4 bytes instead of 1"),
        (link(NAME, (u.IFLA_MASTER, u8(6))), "IFLA_MASTER: 1 bytes instead of 4"),
        (link(NAME, (u.IFLA_STATS64, STATS[:-1])), "IFLA_STATS64: 31 bytes, at least 32"),
        (link(NAME) + bytes(4), "length 0"),
    ],
)
def test_malformed_link(data: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        rtnl.parse_link(u.RTM_NEWLINK, data)


# --- addresses -------------------------------------------------------------------------------

FOUR, PEER4 = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
SIX, PEER6 = b"\xfd" + bytes(14) + b"\1", b"\xfd" + bytes(14) + b"\2"


def address(family: int, *parts: tuple[int, attrs.Payload], flags: int = 0x80) -> bytes:
    return struct.pack("=BBBBI", family, 24, flags, 253, 2) + attrs.build(parts)


CACHE = struct.pack("=IIII", 60, 3600, 1, 2)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (
            address(AF_INET, (u.IFA_ADDRESS, FOUR), (u.IFA_LOCAL, FOUR), (u.IFA_LABEL, b"e:1\0"),
                    (u.IFA_FLAGS, u32(0x280)), (u.IFA_CACHEINFO, CACHE)),
            Address(2, FOUR, 24, 253, 0x280, "e:1", 60, 3600, created=1),
        ),
        (  # point to point: IFA_ADDRESS is the far end
            address(AF_INET, (u.IFA_ADDRESS, PEER4), (u.IFA_LOCAL, FOUR)),
            Address(2, FOUR, 24, 253, 0x80, peer=PEER4),
        ),
        (
            address(AF_INET6, (u.IFA_LOCAL, SIX), (u.IFA_ADDRESS, PEER6)),
            Address(2, SIX, 24, 253, 0x80, peer=PEER6),
        ),
        (address(AF_INET6, (u.IFA_ADDRESS, SIX)), Address(2, SIX, 24, 253, 0x80)),
        (address(AF_INET, (u.IFA_LOCAL, FOUR)), Address(2, FOUR, 24, 253, 0x80)),
        (  # IFA_FLAGS has more bits than the header, and counts also where it has fewer
            address(AF_INET6, (u.IFA_ADDRESS, SIX), (u.IFA_FLAGS, u32(0)), flags=0xFF),
            Address(2, SIX, 24, 253, 0),
        ),
        (
            address(AF_INET6, (u.IFA_ADDRESS, SIX), (u.IFA_CACHEINFO, b"\xff" * 20), (99, b"new")),
            Address(2, SIX, 24, 253, 0x80, None, rtnl.FOREVER, rtnl.FOREVER, created=0xFFFFFFFF),
        ),
    ],
)  # fmt: skip
def test_address(data: bytes, value: Address) -> None:
    assert rtnl.parse_address(u.RTM_NEWADDR, data) == value
    assert rtnl.parse_address(u.RTM_DELADDR, data) == value._replace(gone=True)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "ifaddrmsg: 0 bytes instead of 8"),
        (address(AF_INET)[:7], "ifaddrmsg: 7 bytes instead of 8"),
        (address(AF_INET), "neither IFA_LOCAL nor IFA_ADDRESS"),
        (address(AF_INET, (u.IFA_LOCAL, SIX)), "IFA_LOCAL: 16 bytes instead of 4"),
        (address(AF_INET6, (u.IFA_ADDRESS, FOUR)), "IFA_ADDRESS: 4 bytes instead of 16"),
        (address(AF_INET, (u.IFA_LOCAL, FOUR), (u.IFA_ADDRESS, SIX)), "IFA_ADDRESS: 16 bytes"),
        (address(AF_INET, (u.IFA_LOCAL, FOUR), (u.IFA_FLAGS, u8(1))), "IFA_FLAGS: 1 bytes"),
        (address(AF_INET, (u.IFA_LOCAL, FOUR), (u.IFA_CACHEINFO, CACHE[:15])),
         "IFA_CACHEINFO: 15 bytes instead of 16"),
        (address(AF_INET, (u.IFA_LOCAL, FOUR), (u.IFA_LABEL, b"a\0b")), "IFA_LABEL: a NUL"),
        (address(AF_INET, (u.IFA_LOCAL, FOUR)) + b"\3\0\0\0", "length"),
    ],
)  # fmt: skip
def test_malformed_address(data: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        rtnl.parse_address(u.RTM_NEWADDR, data)


# --- routes ----------------------------------------------------------------------------------


def route(family: int, *parts: tuple[int, attrs.Payload], flags: int = 0, size: int = 0) -> bytes:
    return struct.pack("=BBBBBBBBI", family, size, 0, 0, 254, 3, 0, 1, flags) + attrs.build(parts)


def hop(ifindex: int, *parts: tuple[int, attrs.Payload]) -> bytes:
    inner = attrs.build(parts)
    return struct.pack("=HBBi", 8 + len(inner), 0, 0, ifindex) + inner


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (
            route(AF_INET, (u.RTA_TABLE, u32(254)), (u.RTA_PRIORITY, u32(100)),
                  (u.RTA_GATEWAY, PEER4), (u.RTA_OIF, u32(2))),
            Route(AF_INET, None, 0, None, 254, 1, 3, 0, (2,), PEER4, None, 100),
        ),
        (
            route(AF_INET, (u.RTA_DST, FOUR), (u.RTA_PREFSRC, PEER4), (u.RTA_OIF, u32(0)), size=32),
            Route(AF_INET, FOUR, 32, None, 254, 1, 3, 0, (0,), None, PEER4),
        ),
        (
            route(AF_INET6, (u.RTA_DST, SIX), (u.RTA_SRC, PEER6), (u.RTA_TABLE, u32(70000)),
                  (99, b"new"), flags=u.RTM_F_CLONED, size=128),
            Route(AF_INET6, SIX, 128, PEER6, 70000, 1, 3, u.RTM_F_CLONED, ()),
        ),
        (
            route(AF_INET, (u.RTA_MULTIPATH, hop(2, (u.RTA_GATEWAY, PEER4)) + hop(3))),
            Route(AF_INET, None, 0, None, 254, 1, 3, 0, (2, 3)),
        ),
        (
            route(AF_INET, (u.RTA_MULTIPATH, b"")),
            Route(AF_INET, None, 0, None, 254, 1, 3, 0, ()),
        ),
        (
            route(AF_INET, (u.RTA_MULTIPATH, hop(5) + bytes(7))),
            Route(AF_INET, None, 0, None, 254, 1, 3, 0, (5,)),
        ),
    ],
)  # fmt: skip
def test_route(data: bytes, value: Route) -> None:
    assert rtnl.parse_route(u.RTM_NEWROUTE, data) == value
    assert rtnl.parse_route(u.RTM_DELROUTE, data) == value._replace(gone=True)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "rtmsg: 0 bytes instead of 12"),
        (route(AF_INET)[:11], "rtmsg: 11 bytes instead of 12"),
        (route(AF_INET, (u.RTA_DST, SIX)), "RTA_DST: 16 bytes instead of 4"),
        (route(AF_INET6, (u.RTA_SRC, FOUR)), "RTA_SRC: 4 bytes instead of 16"),
        (route(AF_INET, (u.RTA_GATEWAY, b"")), "RTA_GATEWAY: 0 bytes instead of 4"),
        (route(AF_INET, (u.RTA_PREFSRC, SIX)), "RTA_PREFSRC: 16 bytes instead of 4"),
        (route(AF_INET, (u.RTA_OIF, u8(1))), "RTA_OIF: 1 bytes instead of 4"),
        (route(AF_INET, (u.RTA_TABLE, bytes(8))), "RTA_TABLE: 8 bytes instead of 4"),
        (route(AF_INET, (u.RTA_PRIORITY, b"")), "RTA_PRIORITY: 0 bytes instead of 4"),
        (route(AF_INET, (u.RTA_MULTIPATH, bytes(8))), "next hop at offset 0 with length 0"),
        (route(AF_INET, (u.RTA_MULTIPATH, hop(2) + b"\x09\0" + bytes(6))),
         "next hop at offset 8 with length"),
        (route(AF_INET) + bytes(4), "length 0"),
    ],
)  # fmt: skip
def test_malformed_route(data: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        rtnl.parse_route(u.RTM_NEWROUTE, data)


# --- any notification ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "data", "value"),
    [
        (u.RTM_NEWLINK, link(NAME), Link(2, 1, 0x11043, "eth0")),
        (u.RTM_DELLINK, link(NAME), Link(2, 1, 0x11043, "eth0", gone=True)),
        (u.RTM_NEWADDR, address(AF_INET, (u.IFA_LOCAL, FOUR)), Address(2, FOUR, 24, 253, 0x80)),
        (u.RTM_DELADDR, address(AF_INET, (u.IFA_LOCAL, FOUR)),
         Address(2, FOUR, 24, 253, 0x80, gone=True)),
        (u.RTM_NEWROUTE, route(AF_INET6), Route(AF_INET6, None, 0, None, 254, 1, 3, 0, ())),
        (u.RTM_DELROUTE, route(AF_INET6),
         Route(AF_INET6, None, 0, None, 254, 1, 3, 0, (), gone=True)),
        # what we do not follow
        (u.RTM_NEWADDR, address(129), None),  # mctp
        (u.RTM_NEWROUTE, route(28), None),  # mpls
        (u.RTM_NEWRULE, b"whatever", None),
        (12345, b"", None),
    ],
)  # fmt: skip
def test_parse(kind: int, data: bytes, value: Any) -> None:
    assert rtnl.parse(kind, data) == value


def test_leaving_a_bridge_is_not_being_gone() -> None:
    """A bridge says RTM_DELLINK of family AF_BRIDGE when a link leaves it; the link lives on."""
    bridge = 7  # AF_BRIDGE
    assert rtnl.parse(u.RTM_DELLINK, link(NAME, family=bridge)) is None
    assert rtnl.parse(u.RTM_NEWLINK, link(NAME, family=bridge)) is None


@pytest.mark.parametrize("kind", sorted(rtnl._PARSERS))
def test_malformed_notification(kind: int) -> None:
    with pytest.raises(DecodeError, match="0 bytes instead of"):
        rtnl.parse(kind, b"")
