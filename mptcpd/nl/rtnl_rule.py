"""rtnetlink: routing rules to values, and the request for them.

Knows linux/fib_rules.h as far as rules are shown; must not know sockets.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from mptcpd.nl import attrs
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.mptcp import AF_INET, AF_INET6

# struct fib_rule_hdr: family, dst_len, src_len, tos, table, res1, res2, action, flags
_RULE = Struct("=BBBBBBBBI")
RULE = _RULE.size


class Rule(NamedTuple):
    """A routing rule of IPv4 or IPv6.

    src, dst   4 or 16 bytes, or None for any; src_len, dst_len: length of the prefix
    iif, oif   name of the interface that a packet comes from, or leaves by, or None
    fwmark     with its mask, or None         table    that is looked up; 0 for none
    action     FR_ACT_*                       invert   for what does not match
    """

    family: int
    priority: int
    src: bytes | None
    src_len: int
    dst: bytes | None
    dst_len: int
    iif: str | None
    oif: str | None
    fwmark: tuple[int, int] | None
    table: int
    action: int
    invert: bool


def get_rules(family: int) -> bytes:
    """Dump the rules (RTM_GETRULE) of a family."""
    return _RULE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)


def parse(payload: bytes) -> Rule | None:
    """RTM_NEWRULE; None for a family other than IPv4 and IPv6.

    Errors  DecodeError, naming what is wrong.
    Source  net/core/fib_rules.c: fib_nl_fill_rule.
    """
    if len(payload) < RULE:
        raise DecodeError(f"fib_rule_hdr: {len(payload)} bytes instead of {RULE}")
    family, dst_len, src_len, _tos, table, _res1, _res2, action, flags = _RULE.unpack_from(payload)
    if family not in (AF_INET, AF_INET6):
        return None
    found = attrs.parse(payload, RULE)
    size = 4 if family == AF_INET else 16

    def address(kind: int, name: str) -> bytes | None:
        return attrs.ip(name, found[kind], size) if kind in found else None

    def name(kind: int, name: str) -> str | None:
        return attrs.string(name, found[kind]) if kind in found else None

    def number(kind: int, name: str, default: int) -> int:
        return attrs.u32(name, found[kind]) if kind in found else default

    mark = number(u.FRA_FWMARK, "FRA_FWMARK", 0)
    mask = number(u.FRA_FWMASK, "FRA_FWMASK", 0xFFFFFFFF)
    return Rule(
        family,
        number(u.FRA_PRIORITY, "FRA_PRIORITY", 0),
        address(u.FRA_SRC, "FRA_SRC"),
        src_len,
        address(u.FRA_DST, "FRA_DST"),
        dst_len,
        name(u.FRA_IIFNAME, "FRA_IIFNAME"),
        name(u.FRA_OIFNAME, "FRA_OIFNAME"),
        (mark, mask) if u.FRA_FWMARK in found else None,
        number(u.FRA_TABLE, "FRA_TABLE", table),
        action,
        bool(flags & u.FIB_RULE_INVERT),
    )
