"""Netlink sockets and their groups, from bytes that Linux 6.18 sent."""

from __future__ import annotations

import sys

import pytest

from mptcpd.nl import netlink_diag
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.netlink_diag import NetlinkSocket

SOCKET = bytes.fromhex("10031007 ac2857f0 00000000 00000000 cd12b500 01000000 00000000")
GROUPS = bytes.fromhex("0c000100 0001000000000000")


@pytest.mark.skipif(sys.byteorder == "big", reason="bytes of a little-endian kernel")
def test_parse() -> None:
    socket = NetlinkSocket(16, 0xF05728AC, 11866829, ())
    assert netlink_diag.parse(SOCKET) == socket
    assert netlink_diag.parse(SOCKET + GROUPS) == socket._replace(groups=(9,))


@pytest.mark.parametrize(
    ("bits", "order", "long", "numbers"),
    [
        ("0100000000000080", "little", 8, [1, 64]),
        ("0100000000000080", "little", 4, [1, 64]),
        ("8000000000000001", "big", 8, [1, 64]),
        ("0000000180000000", "big", 4, [1, 64]),
        ("00010000000000000100000000000000", "little", 8, [9, 65]),
        ("", "little", 8, []),
    ],
)
def test_groups(bits: str, order: str, long: int, numbers: list[int]) -> None:
    assert netlink_diag.groups(bytes.fromhex(bits), order, long) == numbers


def test_request() -> None:
    assert len(netlink_diag.request(16)) == netlink_diag.REQUEST == 20


@pytest.mark.parametrize(
    "payload", [b"", SOCKET[:-1], b"\x02" + SOCKET[1:], SOCKET + b"\x03\0\1\0"]
)
def test_malformed(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        netlink_diag.parse(payload)
