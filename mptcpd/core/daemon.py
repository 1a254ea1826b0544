"""The daemon at work: what the kernel tells becomes state, and state becomes hooks.

Knows how the parts play together; must not know where they come from (``cli.daemon`` builds them)
nor what plugins do. Subscribe first, dump second, then read what queued up meanwhile: every step of
``Network`` may be repeated without harm, so nothing can fall between dump and notification.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from mptcpd.core import routes
from mptcpd.core.choice import Choice
from mptcpd.core.holddown import HoldDown
from mptcpd.core.loop import Loop, Timer
from mptcpd.core.network import Network
from mptcpd.core.registry import Registry
from mptcpd.nl import messages, rtnl
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import DecodeError, NetlinkError, Overrun

_LOG = logging.getLogger("mptcpd")
_BATCHES = 16  # read at most this many batches before other descriptors get their turn
# What changes routing beside routes. The kernel drops the IPv4 routes of a nexthop object together
# with it, and tells of the object alone (net/ipv4/nexthop.c: remove_nexthop).
_ROUTING = (u.RTM_NEWRULE, u.RTM_DELRULE, u.RTM_NEWNEXTHOP, u.RTM_DELNEXTHOP)
_RETRY = 1.0  # seconds until the network is read anew after a failure


class Events(Protocol):
    """What is needed of ``nl.sock.EventSocket``."""

    foreign: int

    def fileno(self) -> int: ...
    def join(self, group: int) -> None: ...
    def receive(self) -> list[bytes]: ...


class Routes(routes.Lookup, Protocol):
    """What is needed of ``nl.client.RouteClient``."""

    def links(self) -> list[rtnl.Link]: ...
    def addresses(self, ifindex: int = 0) -> list[rtnl.Address]: ...


class Daemon:
    """Follows the network and keeps plugins informed.

    decode_errors  messages that were malformed and dropped
    overruns       times that the kernel dropped notifications, each followed by a new dump
    retries        times that the network could not be read, each followed by another attempt
    trace          called with every notification
    """

    def __init__(
        self,
        loop: Loop,
        registry: Registry,
        events: Events,
        client: Routes,
        notify: frozenset[str],
        trace: Callable[[messages.Message], None] | None = None,
        choice: Choice | None = None,
        hold_down: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """``hold_down``: seconds that a loss and a return must last (``holddown``)."""
        self._loop = loop
        self._registry = registry
        self._events = events
        self._client = client
        self.trace = trace
        self._check: routes.RouteCheck | None = None
        self._hold: HoldDown[bytes] | None = None
        self._hold_down = (0.0, 0.0)
        self._rules(notify, hold_down)
        self.network = Network(registry, notify, self._has_route(), choice, self._hold)
        self.decode_errors = 0
        self.overruns = 0
        self.retries = 0
        self._reading = False
        self._lost = False  # messages were dropped, and no dump was made since
        self._again: Timer | None = None

    def _rules(self, notify: frozenset[str], hold_down: tuple[float, float]) -> None:
        """Make what these settings need, unless it is there."""
        if "check_route" not in notify:
            self._check = None
        elif self._check is None:
            self._check = routes.RouteCheck(
                self._client, self._loop.call_later, self._look_again
            )
        if hold_down != self._hold_down:
            self._hold_down = hold_down
            self._hold = None
            if any(hold_down):
                self._hold = HoldDown[bytes](*hold_down, self._loop.time, self._look_later)

    def _has_route(self) -> Callable[[rtnl.Address], bool] | None:
        return None if self._check is None else self._check.has_route

    def _look_later(self, seconds: float, ifindex: int) -> None:
        self._loop.call_later(seconds, self._look_again, ifindex)

    def _join(self) -> None:
        groups = [u.RTNLGRP_LINK, u.RTNLGRP_IPV4_IFADDR, u.RTNLGRP_IPV6_IFADDR]
        if self._check is not None:
            groups += [u.RTNLGRP_IPV4_ROUTE, u.RTNLGRP_IPV6_ROUTE]
            groups += [u.RTNLGRP_IPV4_RULE, u.RTNLGRP_IPV6_RULE, u.RTNLGRP_NEXTHOP]
        for group in groups:
            self._events.join(group)

    def change(
        self, notify: frozenset[str], choice: Choice, hold_down: tuple[float, float]
    ) -> None:
        """Go by other settings, as for ``__init__``, and look at everything anew.

        Plugins are told the difference alone. Errors: OSError.
        """
        self._rules(notify, hold_down)
        self._join()  # to join again what was joined is harmless
        self.network.change(notify, self._has_route(), choice, self._hold)
        self.resync()

    def start(self) -> None:
        """Subscribe, dump, tell plugins of what is there. Errors: NetlinkError, OSError."""
        self._join()
        self._loop.add_reader(self._events.fileno(), self._readable)
        self._reading = True
        self.network.start(self._client.links(), self._client.addresses())

    def resync(self) -> None:
        """Make the state equal to what the kernel has now; if that fails, once more in a second.

        Errors  OSError.
        """
        self._lost = False
        try:
            self.network.replace(self._client.links(), self._client.addresses())
        except NetlinkError as error:
            self._failed(error)

    def stop(self) -> None:
        """Say goodbye to the plugins; the loop is left to its owner."""
        if self._reading:
            self._loop.remove_reader(self._events.fileno())
            self._reading = False
        self._registry.stop()

    def _readable(self) -> None:
        for _batch in range(_BATCHES):
            try:
                datagrams = self._events.receive()
            except Overrun as overrun:
                self.overruns += 1
                if not self._lost:
                    self._lost = True
                    _LOG.warning("%s; reading links and addresses anew", overrun)
                continue
            if not datagrams:
                break
            # Once something was lost, what still waits in the queue is older than the dump that
            # we are about to make, and could only undo the dump's news.
            if not self._lost:
                self._take(datagrams)
        else:
            return
        if self._lost:
            self.resync()

    def _take(self, datagrams: Iterable[bytes]) -> None:
        try:
            with self.network.batch():
                routes_changed = False
                for datagram in datagrams:
                    routes_changed |= self._datagram(datagram)
                if routes_changed:
                    self.network.routes_changed()
        except NetlinkError as error:
            self._failed(error)

    def _datagram(self, datagram: bytes) -> bool:
        """Take the notifications of a datagram; True if one can change who has a route."""
        routes_changed = False
        try:
            for message in messages.split(datagram):
                if self.trace is not None:
                    self.trace(message)
                routes_changed |= self._message(message)
        except DecodeError as error:
            self._malformed(error)
        return routes_changed

    def _message(self, message: messages.Message) -> bool:
        """Take one notification; True if it can change which address has a route."""
        if message.type in _ROUTING:
            return True
        try:
            value = rtnl.parse(message.type, message.payload)
        except DecodeError as error:
            self._malformed(error)
            return False
        if isinstance(value, rtnl.Route):
            return routes.concerns(value)
        if isinstance(value, rtnl.Link):
            self.network.link(value)
        elif isinstance(value, rtnl.Address):
            self.network.address(value)
        return False

    def _malformed(self, error: DecodeError) -> None:
        self.decode_errors += 1
        _LOG.error("A malformed message was dropped: %s", error)

    def _look_again(self, ifindex: int) -> None:
        try:
            self.network.routes_changed(ifindex)
        except NetlinkError as error:
            self._failed(error)

    def _failed(self, error: NetlinkError) -> None:
        """A question to the kernel had no usable answer: what we believe may be out of date."""
        if self._again is None or not self._again.pending:
            self.retries += 1
            _LOG.error("Unable to read the network: %s; trying again in %g s", error, _RETRY)
            self._again = self._loop.call_later(_RETRY, self.resync)
