"""--check-config: each interface and address, what it would get, and why, line by line."""

from __future__ import annotations

from typing import Any, cast

from mptcpd.cli import check
from mptcpd.core.config import Config, Settings, parse
from mptcpd.nl import rtnl
from mptcpd.nl import uapi as u
from mptcpd.nl.client import RouteClient
from tests.core.stubs import READY, address, link


class Kernel:
    """Links, addresses and default routes as a RouteClient would have them."""

    def __init__(self, *values: rtnl.Link | rtnl.Address, routed: tuple[int, ...] = ()) -> None:
        self._values = values
        self._routed = routed
        self.looked_up: list[tuple[int | None, bytes | None]] = []

    def links(self) -> list[rtnl.Link]:
        return [value for value in self._values if isinstance(value, rtnl.Link)]

    def addresses(self) -> list[rtnl.Address]:
        return [value for value in self._values if isinstance(value, rtnl.Address)]

    def lookup(self, dst: bytes, oif: int | None, src: bytes | None) -> rtnl.Route | None:
        self.looked_up.append((oif, src))
        if oif not in self._routed:
            return None
        return rtnl.Route(2, None, 0, None, 254, u.RTN_UNICAST, 4, 0, (oif,))


def report(kernel: Kernel, core: str = "", sections: str = "") -> list[str]:
    config = Config.merge(Settings(), parse(f"[core]\n{core}\n{sections}", "f"), "/p")
    return list(check.report(config, cast(RouteClient, cast(Any, kernel))))


def test_what_each_would_get() -> None:
    kernel = Kernel(
        link(1, READY | u.IFF_LOOPBACK, "lo"),
        link(2, name="eth0"),
        link(3, u.IFF_UP, "eth1"),
        link(4, 0, "eth2"),
        link(5, name="docker0"),
        address("127.0.0.1/8", 1, scope=u.RT_SCOPE_HOST),
        address("10.0.1.1/24", 2),
        address("10.0.3.1/24", 5),
        address("fd00::1/64", 2, flags=u.IFA_F_TENTATIVE),
        address("fe80::1/64", 2, scope=u.RT_SCOPE_LINK),
    )
    assert report(kernel, "interfaces=!docker*") == [
        "lo: not used: loopback",
        "eth0: used: up and running",
        "  flags of its endpoints: subflow (addr-flags)",
        "  10.0.1.1/24: used: usable",
        "  fe80::1/64: not used: link-local (notify-flags=skip_link_local)",
        "  fd00::1/64: not used: tentative: duplicate address detection runs",
        "eth1: not used: no carrier",
        "eth2: not used: down",
        "docker0: not used: interfaces=!docker*",
    ]


def test_sections() -> None:
    kernel = Kernel(
        link(2, name="wwan0"), link(3, name="wwan1"),
        address("10.0.1.1/24"), address("10.0.1.2/24"), address("fd00::1/64"),
        address("10.0.2.1/24", 3),
    )  # fmt: skip
    sections = "[interface wwan0]\nflags=\nmax-addresses=1\nfamily=4\n[interface *]\nenabled=no"
    assert report(kernel, "", sections) == [
        "wwan0: used: up and running",
        "  flags of its endpoints: none ([interface wwan0])",
        "  10.0.1.1/24: used: usable",
        "  10.0.1.2/24: not used: max-addresses=1 in [interface wwan0]",
        "  fd00::1/64: not used: family=4 in [interface wwan0]",
        "wwan1: not used: enabled=no in [interface *]",
    ]


def test_routes_are_asked_for_only_if_wanted() -> None:
    kernel = Kernel(
        link(2, name="eth0"), link(3, name="eth1"),
        address("10.0.1.1/24"), address("10.0.2.1/24", 3), routed=(3,),
    )  # fmt: skip
    lines = report(kernel, "notify-flags=existing,check_route")
    assert "  10.0.1.1/24: not used: no default route (notify-flags=check_route)" in lines
    assert "  10.0.2.1/24: used: usable" in lines
    kernel.looked_up.clear()
    assert "  10.0.1.1/24: used: usable" in report(kernel)
    assert kernel.looked_up == []


def test_existing_addresses_that_plugins_are_not_told_of() -> None:
    lines = report(Kernel(link(), address()), "notify-flags=")
    assert lines[-1] == (
        "  10.0.1.1/24: not used: was there at the start (notify-flags without existing)"
    )


def test_nothing_there() -> None:
    assert report(Kernel()) == []
