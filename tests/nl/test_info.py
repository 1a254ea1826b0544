"""mptcp_info and tcp_info: offsets as the installed header has them, and what a kernel sent."""

from __future__ import annotations

import pathlib
import re
import struct

import pytest

from mptcpd.nl import info
from mptcpd.nl.info import MptcpInfo, TcpInfo, mptcp_info, tcp_info

_SIZES = {"__u8": 1, "__u16": 2, "__u32": 4, "__u64": 8}
_FORMATS = {1: "B", 2: "H", 4: "I", 8: "Q"}


def offsets(header: str, name: str) -> dict[str, tuple[int, int]]:
    """Offset and size of each member of a struct in an installed header, without its prefix."""
    file = pathlib.Path("/usr/include/linux", header)
    if not file.exists():
        pytest.skip(f"{file} is not installed")
    found = re.search(rf"struct {name} {{(.*?)^}};", file.read_text(), re.DOTALL | re.MULTILINE)
    if found is None:
        pytest.skip(f"{file} has no struct {name}")
    text = re.sub(r"/\*.*?\*/", "", found[1], flags=re.DOTALL)
    members, end = {}, 0
    for kind, names in re.findall(r"(__u\d+)\s+([^;]+);", text):
        size = _SIZES[kind]
        # A row of bit fields fills one byte in both structs; arrays are padding.
        for member in [names.split(",")[0]] if ":" in names else names.split(","):
            count = int(member.partition("[")[2].rstrip("] ") or 1)
            end = (end + size - 1) // size * size
            members[member.partition("[")[0].partition(":")[0].strip().split("_", 1)[1]] = end, size
            end += size * count
    return members


@pytest.mark.parametrize(
    ("header", "name", "table", "fields"),
    [
        ("mptcp.h", "mptcp_info", info.MPTCP_INFO_FIELDS, MptcpInfo._fields),
        ("tcp.h", "tcp_info", info.TCP_INFO_FIELDS, TcpInfo._fields),
    ],
)
def test_offsets(
    header: str, name: str, table: tuple[tuple[str, int, str], ...], fields: tuple[str, ...]
) -> None:
    assert tuple(field for field, _offset, _form in table) == fields
    members = offsets(header, name)
    checked = 0
    for field, offset, form in table:
        if field in members:  # an older header lacks the last ones
            at, size = members[field]
            assert (offset, form) == (at, _FORMATS[size]), field
            checked += 1
    assert checked >= 8


def test_what_is_not_sent_is_none() -> None:
    """Before Linux 6.5 struct mptcp_info ended with csum_enabled."""
    old = mptcp_info(struct.pack("=8B", 1, 2, 3, 4, 5, 6, 0, 0) + bytes(36))
    assert old[:6] == (1, 2, 3, 4, 5, 6)
    assert old.csum_enabled == 0
    assert old.bytes_sent is None
    assert old.subflows_total is None
    assert mptcp_info(b"") == MptcpInfo()
    assert tcp_info(b"") == TcpInfo()


def test_bytes_of_a_tcp_info() -> None:
    data = bytearray(280)
    struct.pack_into("=I", data, 68, 12345)
    struct.pack_into("=QQ", data, 120, 7, 8)
    found = tcp_info(bytes(data))
    assert (found.rtt, found.bytes_acked, found.bytes_received) == (12345, 7, 8)
    assert found.total_retrans == 0
