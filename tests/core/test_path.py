"""Packed paths: one key for each pair of ends, whatever form the kernel tells them in."""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcpd.core.address import SockAddr, from_packed, sockaddr
from mptcpd.core.path import pack_path, path_of, unpack_path


class Ends(NamedTuple):
    local_ip: bytes | None
    local_port: int | None
    remote_ip: bytes | None
    remote_port: int | None


def ends(local: str, local_port: int | None, remote: str, remote_port: int | None) -> Ends:
    return Ends(ip_address(local).packed, local_port, ip_address(remote).packed, remote_port)


@pytest.mark.parametrize(
    ("given_ends", "expected"),
    [
        (
            ends("10.0.1.1", 0x1234, "10.0.1.2", 80),
            bytes([10, 0, 1, 1, 0x12, 0x34, 10, 0, 1, 2, 0, 80]),
        ),
        (
            ends("::ffff:10.0.1.1", 0x1234, "::ffff:10.0.1.2", 80),
            bytes([10, 0, 1, 1, 0x12, 0x34, 10, 0, 1, 2, 0, 80]),
        ),
        (
            ends("fd00::1", 1, "fd00::2", 65535),
            ip_address("fd00::1").packed + b"\0\1" + ip_address("fd00::2").packed + b"\xff\xff",
        ),
        (
            ends("::ffff:10.0.1.1", 1, "fd00::2", 2),
            ip_address("::ffff:10.0.1.1").packed + b"\0\1" + ip_address("fd00::2").packed
            + b"\0\2",
        ),
        (ends("0.0.0.0", None, "10.0.1.2", None), bytes(6) + bytes([10, 0, 1, 2, 0, 0])),
    ],
)  # fmt: skip
def test_bytes(given_ends: Ends, expected: bytes) -> None:
    assert pack_path(given_ends) == expected


IPS = st.ip_addresses()
PORTS = st.integers(0, 0xFFFF)


@given(st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)) | st.tuples(
    st.ip_addresses(v=6), st.ip_addresses(v=6)), PORTS, PORTS)  # fmt: skip
def test_there_and_back(ips: tuple[object, object], local_port: int, remote_port: int) -> None:
    """From an event and from addresses the same key, which gives back what plugins are shown."""
    local, remote = (from_packed(ip.packed, port) for ip, port in  # type: ignore[attr-defined]
                     zip(ips, (local_port, remote_port), strict=True))  # fmt: skip
    if local.ip.version == remote.ip.version:
        path = path_of(local, remote)
        assert unpack_path(path) == (local, remote)
        as_event = Ends(local.packed, local_port, remote.packed, remote_port)
        assert pack_path(as_event) == path


def test_two_families() -> None:
    with pytest.raises(ValueError, match=r"^10.0.0.1:1 and \[fd00::1\]:2 are not of one"):
        path_of(sockaddr("10.0.0.1:1"), sockaddr("[fd00::1]:2"))


def test_the_order_of_the_ends_counts() -> None:
    one, other = SockAddr(sockaddr("10.0.0.1").ip, 1), SockAddr(sockaddr("10.0.0.2").ip, 1)
    assert path_of(one, other) != path_of(other, one)
