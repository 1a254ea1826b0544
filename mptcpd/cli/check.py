"""What ``--check-config`` prints: each interface and address, what it would get, and why.

Knows people; the verdicts come from ``core.choice``. Nothing is changed, and no right is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any

from mptcpd.core import routes
from mptcpd.core.address import SockAddr
from mptcpd.core.config import Config
from mptcpd.core.loop import Timer
from mptcpd.core.network import Interface, Network
from mptcpd.nl import rtnl
from mptcpd.nl.client import RouteClient


class _Nobody:
    """A listener for a network that nobody is told of."""

    def new_interface(self, interface: Interface) -> None: ...
    def update_interface(self, interface: Interface) -> None: ...
    def delete_interface(self, interface: Interface) -> None: ...
    def new_local_address(self, interface: Interface, address: SockAddr) -> None: ...
    def delete_local_address(self, interface: Interface, address: SockAddr) -> None: ...


def report(config: Config, client: RouteClient) -> Iterator[str]:
    """The lines. Errors: NetlinkError, OSError."""
    choice = config.choice()
    has_route = None
    if "check_route" in config.notify_flags:
        has_route = routes.RouteCheck(client, _never, lambda ifindex: None).has_route
    network = Network(_Nobody(), config.notify_flags, has_route, choice)
    network.start(client.links(), client.addresses())
    for link, verdict, addresses in network.explain():
        yield f"{link.name}: {'used' if verdict.used else 'not used'}: {verdict.why}"
        if verdict.used:
            rule = choice.rule(link.name)
            why_flags = "addr-flags" if rule.flags is None else f"[interface {rule.pattern}]"
            flags = ",".join(choice.flags(link.name)) or "none"
            yield f"  flags of its endpoints: {flags} ({why_flags})"
            for address, answer in addresses:
                yield f"  {_text(address)}: {'used' if answer.used else 'not used'}: {answer.why}"


def _never(_seconds: float, function: Callable[..., object], *arguments: Any) -> Timer:
    """In place of a loop: what is to be asked again later is not asked again."""
    return Timer(function, arguments)


def _text(address: rtnl.Address) -> str:
    return f"{ip_address(address.ip)}/{address.prefixlen}"
