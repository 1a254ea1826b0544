"""Routing rules, from bytes that Linux 6.18 sent for what ``ip rule`` had been told."""

from __future__ import annotations

import sys

import pytest

from mptcpd.nl import rtnl_rule
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.mptcp import AF_INET, AF_INET6
from mptcpd.nl.rtnl_rule import Rule

LOCAL = (
    "02000000ff000001 00000000 08000f00ff000000 08000e00ffffffff 0500150002000000",
    Rule(AF_INET, 0, None, 0, None, 0, None, None, None, 255, u.FR_ACT_TO_TBL, False),
)
# from 10.0.0.0/24 iif lo fwmark 5/0xff table 100 priority 77
FROM = (
    "0200180064000001 00000000 08000f0064000000 08000e00ffffffff 0500150000000000 070003006c6f0000"
    "080006004d000000 08000a0005000000 08001000ff000000 080002000a000000",
    Rule(AF_INET, 77, b"\x0a\0\0\0", 24, None, 0, "lo", None, (5, 255), 100, u.FR_ACT_TO_TBL,
         False),
)  # fmt: skip
# not to fd00::/64 oif lo lookup 200 priority 78
NOT = (
    "0a400000c8000001 02000000 08000f00c8000000 08000e00ffffffff 0500150000000000 070011006c6f0000"
    "080006004e000000 14000100fd000000000000000000000000000000",
    Rule(AF_INET6, 78, None, 0, b"\xfd" + bytes(15), 64, None, "lo", None, 200, u.FR_ACT_TO_TBL,
         True),
)  # fmt: skip


@pytest.mark.skipif(sys.byteorder == "big", reason="bytes of a little-endian kernel")
@pytest.mark.parametrize(("text", "rule"), [LOCAL, FROM, NOT])
def test_parse(text: str, rule: Rule) -> None:
    assert rtnl_rule.parse(bytes.fromhex(text)) == rule


def test_other_families_are_skipped() -> None:
    assert rtnl_rule.parse(b"\x07" + bytes.fromhex(LOCAL[0])[1:]) is None


@pytest.mark.parametrize("length", [0, 11, 18])
def test_malformed(length: int) -> None:
    with pytest.raises(DecodeError):
        rtnl_rule.parse(bytes.fromhex(LOCAL[0])[:length])


def test_request() -> None:
    assert rtnl_rule.get_rules(AF_INET) == b"\x02" + bytes(11)
