"""Addresses as people read them, prefixes, and which interface has which address."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from mptcpd.cli.ctl import ends, values
from mptcpd.nl import rtnl
from mptcpd.nl import uapi as u


@pytest.mark.parametrize(
    ("ip", "text"),
    [
        ("10.0.1.1", "10.0.1.1:443"),
        ("fd00::1", "[fd00::1]:443"),
        ("::ffff:10.0.1.1", "10.0.1.1:443"),
        ("::", "[::]:443"),
    ],
)
def test_end(ip: str, text: str) -> None:
    assert ends.end_text(ip_address(ip).packed, 443) == text


@pytest.mark.parametrize(
    ("prefix", "ip", "port", "meant"),
    [
        ("10.0.0.0/8", "10.1.2.3", 1, True),
        ("10.0.0.0/8", "11.1.2.3", 1, False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", 1, True),
        ("10.0.0.0/8", "fd00::1", 1, False),
        ("10.1.2.3", "10.1.2.3", 9, True),
        ("10.1.2.3", "10.1.2.2", 9, False),
        ("10.1.2.3:443", "10.1.2.3", 443, True),
        ("10.1.2.3:443", "10.1.2.3", 444, False),
        ("10.0.0.0/8:443", "10.9.9.9", 443, True),
        ("fd00::/16", "fd00:1::1", 1, True),
        ("fd00::/16", "fe80::1", 1, False),
        ("[fd00::1]:443", "fd00::1", 443, True),
        ("[fd00::1]:443", "fd00::1", 80, False),
        ("::ffff:10.0.0.0/104", "10.7.7.7", 1, True),
        ("::ffff:10.0.0.0/104", "11.7.7.7", 1, False),
        ("*:443", "fd00::1", 443, True),
        ("*:443", "10.0.0.1", 443, True),
        ("*:443", "10.0.0.1", 80, False),
        ("0.0.0.0/0", "10.0.0.1", 80, True),
        ("::/0", "fd00::1", 80, True),
        ("::/0", "10.0.0.1", 80, False),
    ],
)
def test_within(prefix: str, ip: str, port: int, meant: bool) -> None:
    assert ends.within(values.prefix(prefix), ip_address(ip).packed, port) is meant


class Routes:
    """Interfaces and addresses as rtnetlink would list them."""

    def __init__(self) -> None:
        self.flags = u.IFF_UP | u.IFF_RUNNING
        self.name = "eth0"

    def links(self) -> list[rtnl.Link]:
        return [rtnl.Link(1, 772, u.IFF_UP | u.IFF_RUNNING, "lo"),
                rtnl.Link(2, 1, self.flags, self.name)]  # fmt: skip

    def addresses(self) -> list[rtnl.Address]:
        return [rtnl.Address(1, bytes([127, 0, 0, 1]), 8, 254, 0),
                rtnl.Address(2, bytes([10, 0, 1, 1]), 24, 0, 0)]  # fmt: skip


def test_interfaces() -> None:
    interfaces = ends.Interfaces(Routes())
    interfaces.refresh()
    assert interfaces.name(bytes([10, 0, 1, 1]), 0) == "eth0"
    assert interfaces.name(ip_address("::ffff:10.0.1.1").packed, 0) == "eth0"
    assert interfaces.name(bytes([127, 9, 9, 9]), 0) == "lo"
    assert interfaces.name(bytes([10, 0, 1, 9]), 0) is None
    assert interfaces.name(bytes([10, 0, 1, 9]), 2) == "eth0"  # bound to it
    assert interfaces.name(bytes([10, 0, 1, 1]), 7) == "if7"  # bound to one that is gone
    assert interfaces.index(bytes([10, 0, 1, 1]), 0) == 2


def test_a_name_does_nothing_to_the_terminal() -> None:
    routes = Routes()
    routes.name = "e\x1b[2J\udcff"
    interfaces = ends.Interfaces(routes)
    interfaces.refresh()
    assert interfaces.name(b"", 2) == "e?[2J?"


def test_up_and_down() -> None:
    routes = Routes()
    interfaces = ends.Interfaces(routes)
    for flags, changes in (
        (u.IFF_UP | u.IFF_RUNNING, []), (u.IFF_UP, [("eth0", False)]), (u.IFF_UP, []),
        (u.IFF_UP | u.IFF_RUNNING, [("eth0", True)]),
    ):  # fmt: skip
        routes.flags = flags
        interfaces.refresh()
        assert interfaces.changes == changes
