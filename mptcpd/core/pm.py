"""PathManager: what a plugin may ask for, and the outcome it gets.

Knows the parts that answer (kernel, network, IDs, loop, configuration); must not know sockets. Each
plugin has one of its own, for its logger and its errors; what it shows is shared by all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from mptcpd.core.commands import ConnectionCommands
from mptcpd.core.config import Config
from mptcpd.core.connections import Connection
from mptcpd.core.endpoints import Endpoints
from mptcpd.core.ids import AddressIds
from mptcpd.core.listeners import Listeners
from mptcpd.core.loop import Loop, Timer
from mptcpd.core.network import Interface


class PathManager:
    """A plugin's view of the daemon.

    config       the configuration; the plugin's own section is ``config.section(name)``
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
        connections: dict[int, Connection],
        loop: Loop,
        guard: Callable[[str, Callable[..., object]], Any],
    ) -> None:
        self.config = config
        self.interfaces: Mapping[int, Interface] = MappingProxyType(interfaces)
        self.connections: Mapping[int, Connection] = MappingProxyType(connections)
        self.ids = ids
        self.listeners = listeners
        self.log = logging.getLogger(f"mptcpd.plugin.{name}")
        self._loop = loop
        self._guard = guard
        self.announce = commands.announce
        self.remove = commands.remove
        self.create_subflow = commands.create_subflow
        self.destroy_subflow = commands.destroy_subflow
        self.drop_subflow = commands.drop_subflow
        self.set_backup = commands.set_backup
        self.abandon = commands.abandon
        self.is_busy = commands.is_busy
        self.addresses = commands.addresses
        self.add_endpoint = endpoints.add_endpoint
        self.remove_endpoint = endpoints.remove_endpoint
        self.get_endpoint = endpoints.get_endpoint
        self.endpoints = endpoints.endpoints
        self.flush_endpoints = endpoints.flush_endpoints
        self.set_endpoint_flags = endpoints.set_endpoint_flags
        self.limits = endpoints.limits
        self.set_limits = endpoints.set_limits
        self.found_limits = endpoints.found_limits

    def call_later(self, seconds: float, function: Callable[..., object], *args: Any) -> Timer:
        """Call ``function(*args)`` once after ``seconds``; the handle has ``cancel()``.

        What the function raises is logged like a hook's.
        """
        return self._loop.call_later(seconds, self._guard("call_later", function), *args)
