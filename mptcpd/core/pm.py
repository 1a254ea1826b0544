"""PathManager: what a plugin may ask for, and the outcome it gets.

Knows the parts that answer (kernel, network, IDs, loop, configuration); must not know sockets. Each
plugin has one of its own, for its logger and its errors; what it shows is shared by all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from mptcpd.core.address import IP, SockAddr, sockaddr
from mptcpd.core.commands import ConnectionCommands
from mptcpd.core.config import Config
from mptcpd.core.connections import Connection
from mptcpd.core.endpoints import Endpoints
from mptcpd.core.ids import AddressIds
from mptcpd.core.listeners import Listeners
from mptcpd.core.loop import Loop, Timer
from mptcpd.core.network import Interface
from mptcpd.core.ownership import Endpoint

_SWEEP = 64  # timers before it is worth looking for those that are over


class PathManager:
    """A plugin's view of the daemon.

    config       the configuration; the plugin's own section is ``config.section(name)``. A reload
                 puts another one here
    connections  token -> Connection; read only
    interfaces   ifindex -> Interface, those that are up and running; read only
    ids          address IDs: ``get(address)``, ``remove(address)``
    listeners    listening sockets: ``listen(address)`` -> SockAddr, ``close(address)``
    log          a logger named after the plugin

    For a connection under the userspace path manager: ``announce``, ``remove``,
    ``create_subflow``, ``destroy_subflow``, ``drop_subflow``, ``set_backup``, ``abandon``,
    ``is_busy``, ``addresses``; they are those of ``core.commands.ConnectionCommands``, where each
    is described.

    The kernel's own path manager: ``add_endpoint``, ``remove_endpoint``, ``get_endpoint``,
    ``endpoints``, ``flush_endpoints``, ``set_endpoint_flags``, ``limits``, ``set_limits``,
    ``found_limits``; they are those of ``core.endpoints.Endpoints``, where each is described.
    """

    def __init__(
        self,
        name: str,
        *,
        config: Config,
        endpoints: Endpoints,
        commands: ConnectionCommands,
        ids: AddressIds,
        listeners: Listeners,
        interfaces: dict[int, Interface],
        is_lost: Callable[[bytes], bool],
        connections: dict[int, Connection],
        loop: Loop,
        guard: Callable[[str, Callable[..., object]], Any],
    ) -> None:
        self.config = config
        self.interfaces: Mapping[int, Interface] = MappingProxyType(interfaces)
        self.connections: Mapping[int, Connection] = MappingProxyType(connections)
        self.ids = ids
        self.listeners = listeners
        self._is_lost = is_lost
        self.log = logging.getLogger(f"mptcpd.plugin.{name}")
        self._loop = loop
        self._guard = guard
        self._endpoints = endpoints
        self._timers: list[Timer] = []  # some of which may be over
        self._sweep = _SWEEP
        self._added: set[int] = set()  # IDs of endpoints, some of which may be gone again
        self.announce = commands.announce
        self.remove = commands.remove
        self.create_subflow = commands.create_subflow
        self.destroy_subflow = commands.destroy_subflow
        self.drop_subflow = commands.drop_subflow
        self.set_backup = commands.set_backup
        self.abandon = commands.abandon
        self.is_busy = commands.is_busy
        self.addresses = commands.addresses
        self.remove_endpoint = endpoints.remove_endpoint
        self.get_endpoint = endpoints.get_endpoint
        self.endpoints = endpoints.endpoints
        self.flush_endpoints = endpoints.flush_endpoints
        self.set_endpoint_flags = endpoints.set_endpoint_flags
        self.limits = endpoints.limits
        self.set_limits = endpoints.set_limits
        self.found_limits = endpoints.found_limits

    def add_endpoint(
        self,
        address: SockAddr | IP | str,
        *,
        local_id: int | None = None,
        flags: Iterable[str] | int = (),
        ifindex: int | None = None,
    ) -> Endpoint:
        """As ``core.endpoints.Endpoints.add_endpoint``."""
        added = self._endpoints.add_endpoint(
            address, local_id=local_id, flags=flags, ifindex=ifindex
        )
        self._added.add(added.id)
        return added

    def _leave_endpoints(self, others: Iterable[PathManager]) -> None:
        """The plugin is gone: its endpoints wait for another one that wants them. For the reload.

        Not those that one of the ``others`` has added, too, after they were deleted meanwhile.
        """
        theirs = {ident for other in others for ident in other._added}
        self._endpoints.ownership.orphan(self._added - theirs)
        self._added.clear()

    def is_lost(self, address: SockAddr | IP | str) -> bool:
        """Whether a local address is only on interfaces that are down or unplugged.

        Of an address that the host does not have, nothing is known: False.
        """
        return self._is_lost(sockaddr(address).packed)

    def call_later(self, seconds: float, function: Callable[..., object], *args: Any) -> Timer:
        """Call ``function(*args)`` once after ``seconds``; the handle has ``cancel()``.

        What the function raises is logged like a hook's.
        """
        if len(self._timers) >= self._sweep:
            self._timers = [timer for timer in self._timers if timer.pending]
            self._sweep = max(_SWEEP, 2 * len(self._timers))
        timer = self._loop.call_later(seconds, self._guard("call_later", function), *args)
        self._timers.append(timer)
        return timer

    def _forget_timers(self) -> None:
        """The plugin is gone: nothing is called any more, and nothing keeps it in memory."""
        while self._timers:
            self._timers.pop().cancel()
