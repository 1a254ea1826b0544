"""Whether a default route serves an address: what the notify flag ``check_route`` asks.

Knows the look-up and when to repeat it; must not know sockets or plugins. The look-up is the
kernel's own (RTM_GETROUTE) for a documentation address, with the source address and the output
interface, so a table per uplink with ``ip rule from`` counts too.

A route often comes a moment after its address (DHCP). An address without a route is looked at again
after 1, 4, 8 and 16 ms, and from then on whenever the kernel tells of a default route or a rule.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from mptcpd.core.loop import Timer
from mptcpd.nl import rtnl
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import KernelError, NetlinkError

_LOG = logging.getLogger("mptcpd")
DELAYS = (0.001, 0.004, 0.008, 0.016)  # seconds between look-ups, as mptcpd always had them
# Networks for documentation (RFC 5737, RFC 3849): only a default route leads there.
_TEST_NET = bytes([192, 0, 2, 1])
_TEST_NET_6 = bytes.fromhex("20010db8") + bytes(12)


class Lookup(Protocol):
    """What is needed of ``nl.client.RouteClient``."""

    def lookup(
        self, dst: bytes, oif: int | None = None, src: bytes | None = None
    ) -> rtnl.Route | None: ...


class RouteCheck:
    """Answers for one address whether a default route serves it, and asks again in time.

    call_later  (seconds, function, arguments...) -> Timer, of the loop
    again       called with the ifindex when an address there has found its route
    """

    def __init__(
        self,
        client: Lookup,
        call_later: Callable[..., Timer],
        again: Callable[[int], None],
    ) -> None:
        self._client = client
        self._call_later = call_later
        self._again = again
        self._waiting: set[tuple[int, bytes]] = set()  # addresses with a repeated look-up pending
        self._said: set[int] = set()

    def has_route(self, address: rtnl.Address) -> bool:
        """Ask the kernel now; if the answer is no, ask again later.

        A refusal (KernelError) is a no, and logged. Errors: NetlinkError where there is no answer.
        """
        if self._lookup(address):
            return True
        key = (address.ifindex, address.ip)
        if key not in self._waiting:
            self._waiting.add(key)
            self._call_later(DELAYS[0], self._repeat, address, 1)
        return False

    def _repeat(self, address: rtnl.Address, step: int) -> None:
        try:
            found = self._lookup(address)
        except NetlinkError as error:
            _LOG.error("Unable to look a route up: %s", error)
            found = False
        if not found and step < len(DELAYS):
            self._call_later(DELAYS[step], self._repeat, address, step + 1)
            return
        self._waiting.discard((address.ifindex, address.ip))
        if found:
            self._again(address.ifindex)

    def _lookup(self, address: rtnl.Address) -> bool:
        dst = _TEST_NET if len(address.ip) == 4 else _TEST_NET_6
        try:
            route = self._client.lookup(dst, address.ifindex, address.ip)
        except KernelError as error:
            if error.errno not in self._said:
                self._said.add(error.errno)
                _LOG.error("Unable to look the default route up: %s (said once)", error)
            return False
        return route is not None and is_default(route) and address.ifindex in route.oifs


def is_default(route: rtnl.Route) -> bool:
    """Whether this is a unicast default route of some table, not a cache entry."""
    return (
        not route.dst_len and route.type == u.RTN_UNICAST and not route.flags & u.RTM_F_CLONED
    )


def concerns(route: rtnl.Route) -> bool:
    """Whether a route notification can change the answer for any address: a default route's."""
    return not route.dst_len and not route.flags & u.RTM_F_CLONED
