"""Generic netlink: the header, asking nlctrl for a family, and its answer."""

from __future__ import annotations

import re
import sys

import pytest

from mptcpd.nl import attrs, genl
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.genl import Family
from mptcpd.nl.uapi import (
    CTRL_ATTR_FAMILY_ID,
    CTRL_ATTR_FAMILY_NAME,
    CTRL_ATTR_HDRSIZE,
    CTRL_ATTR_MAXATTR,
    CTRL_ATTR_MCAST_GROUPS,
    CTRL_ATTR_MCAST_GRP_ID,
    CTRL_ATTR_MCAST_GRP_NAME,
    CTRL_ATTR_OPS,
    CTRL_ATTR_VERSION,
    CTRL_CMD_DELFAMILY,
    CTRL_CMD_NEWFAMILY,
)

little = pytest.mark.skipif(sys.byteorder == "big", reason="the table holds little-endian bytes")


def number(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, sys.byteorder)


def test_header() -> None:
    assert genl.header(3) == b"\3\1\0\0"
    assert genl.header(11, 2) == b"\x0b\2\0\0"
    assert genl.command(genl.header(11)) == 11
    assert genl.command(b"\xff\0\0\0 and attributes") == 255


@pytest.mark.parametrize("size", range(4))
def test_command_without_a_header(size: int) -> None:
    with pytest.raises(DecodeError, match=f"genlmsghdr: {size} bytes instead of 4"):
        genl.command(bytes(size))


@little
def test_get_family() -> None:
    assert genl.get_family("mptcp_pm") == bytes.fromhex(
        "03 01 0000  0d00 0200 6d707463705f706d00 000000"
    )


def test_a_family_name_that_does_not_fit() -> None:
    assert len(genl.get_family("x" * 15)) == 4 + 4 + 16
    for name in ("", "x" * 16, "ü" * 8):
        with pytest.raises(ValueError, match="family name"):
            genl.get_family(name)


def group(name: bytes | None, ident: bytes | None) -> attrs.Payload:
    parts: list[tuple[int, attrs.Payload]] = []
    if name is not None:
        parts.append((CTRL_ATTR_MCAST_GRP_NAME, name))
    if ident is not None:
        parts.append((CTRL_ATTR_MCAST_GRP_ID, ident))
    return parts


FULL: dict[int, attrs.Payload] = {
    CTRL_ATTR_FAMILY_NAME: b"mptcp_pm\0",
    CTRL_ATTR_FAMILY_ID: number(29, 2),
    CTRL_ATTR_VERSION: number(1),
    CTRL_ATTR_HDRSIZE: number(0),
    CTRL_ATTR_MAXATTR: number(6),
    CTRL_ATTR_OPS: [(1, [(1, number(1)), (2, number(11))])],
    CTRL_ATTR_MCAST_GROUPS: [
        (1, group(b"mptcp_pm_cmds\0", number(11))),
        (2, group(b"mptcp_pm_events\0", number(12))),
    ],
}


def answer(changes: dict[int, attrs.Payload | None], command: int = CTRL_CMD_NEWFAMILY) -> bytes:
    changed = {**FULL, **changes}
    parts = [(kind, payload) for kind, payload in changed.items() if payload is not None]
    return genl.header(command, 2) + attrs.build(parts)


@pytest.mark.parametrize(
    ("changes", "family"),
    [
        ({}, Family("mptcp_pm", 29, 1, 6, {"mptcp_pm_cmds": 11, "mptcp_pm_events": 12})),
        ({CTRL_ATTR_MCAST_GROUPS: None}, Family("mptcp_pm", 29, 1, 6, {})),
        ({CTRL_ATTR_MCAST_GROUPS: []}, Family("mptcp_pm", 29, 1, 6, {})),
        (
            {CTRL_ATTR_VERSION: None, CTRL_ATTR_MAXATTR: None, CTRL_ATTR_OPS: None,
             CTRL_ATTR_MCAST_GROUPS: [(1, group(b"one\0", number(1)))]},
            Family("mptcp_pm", 29, 0, 0, {"one": 1}),
        ),
        ({99: b"new"}, Family("mptcp_pm", 29, 1, 6, {"mptcp_pm_cmds": 11, "mptcp_pm_events": 12})),
    ],
)  # fmt: skip
def test_parse_family(changes: dict[int, attrs.Payload | None], family: Family) -> None:
    assert genl.parse_family(answer(changes)) == family


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({CTRL_ATTR_FAMILY_ID: None}, "lacks CTRL_ATTR_FAMILY_ID or CTRL_ATTR_FAMILY_NAME"),
        ({CTRL_ATTR_FAMILY_NAME: None}, "lacks CTRL_ATTR_FAMILY_ID or CTRL_ATTR_FAMILY_NAME"),
        ({CTRL_ATTR_FAMILY_ID: number(29)}, "CTRL_ATTR_FAMILY_ID: 4 bytes instead of 2"),
        ({CTRL_ATTR_VERSION: b""}, "CTRL_ATTR_VERSION: 0 bytes instead of 4"),
        ({CTRL_ATTR_MAXATTR: b"\1"}, "CTRL_ATTR_MAXATTR: 1 bytes instead of 4"),
        ({CTRL_ATTR_FAMILY_NAME: b"a\0b"}, "CTRL_ATTR_FAMILY_NAME: a NUL inside"),
        ({CTRL_ATTR_MCAST_GROUPS: [(1, group(None, number(1)))]}, "a group without name or ID"),
        ({CTRL_ATTR_MCAST_GROUPS: [(1, group(b"x\0", None))]}, "a group without name or ID"),
        ({CTRL_ATTR_MCAST_GROUPS: [(1, group(b"x\0", b"\1\0"))]},
         "CTRL_ATTR_MCAST_GRP_ID: 2 bytes instead of 4"),
        ({CTRL_ATTR_MCAST_GROUPS: b"\xff\xff\1\0"}, "length 65535"),
    ],
)  # fmt: skip
def test_malformed_family(changes: dict[int, attrs.Payload | None], words: str) -> None:
    with pytest.raises(DecodeError, match=re.escape(words)):
        genl.parse_family(answer(changes))


def test_another_answer_is_no_family() -> None:
    with pytest.raises(DecodeError, match="command 2, not CTRL_CMD_NEWFAMILY"):
        genl.parse_family(answer({}, CTRL_CMD_DELFAMILY))
    with pytest.raises(DecodeError, match="genlmsghdr: 0 bytes"):
        genl.parse_family(b"")
