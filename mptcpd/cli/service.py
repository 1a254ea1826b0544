"""The daemon's parts, built and joined, from start to stop.

The only place that knows all parts; must not know the command line (``daemon``), nor what a reload
changes (``reload``).
"""

from __future__ import annotations

import logging

from mptcpd.cli import counters
from mptcpd.cli.life import StartError
from mptcpd.cli.runtime import store
from mptcpd.cli.selection import check_started, choose
from mptcpd.core.commands import ConnectionCommands
from mptcpd.core.config import Config
from mptcpd.core.connection_watch import ConnectionWatch
from mptcpd.core.connections import Connections
from mptcpd.core.counted import CountedCommands, CountedStreams, Counts
from mptcpd.core.daemon import Daemon
from mptcpd.core.endpoints import Endpoints
from mptcpd.core.ids import AddressIds
from mptcpd.core.listeners import Listeners
from mptcpd.core.loop import Loop
from mptcpd.core.owners import Owners
from mptcpd.core.pm import PathManager
from mptcpd.core.registry import Registry
from mptcpd.nl import memory
from mptcpd.nl.client import MptcpClient, RouteClient
from mptcpd.nl.diag_client import DiagClient
from mptcpd.nl.errors import Unavailable
from mptcpd.nl.mptcp_reader import EventReader
from mptcpd.nl.sock import CommandSocket, EventSocket
from mptcpd.nl.uapi import NETLINK_GENERIC, NETLINK_ROUTE, NETLINK_SOCK_DIAG
from mptcpd.plugin import Plugin

_LOG = logging.getLogger("mptcpd")


class Kernel:
    """The sockets and the clients on them."""

    route_buffer = 4 << 20  # bytes for notifications of links, addresses and routes

    def __init__(self, event_buffer: int) -> None:
        """Errors: StartError; NetlinkError, OSError."""
        self.counts = Counts()
        self._open: list[CommandSocket | EventSocket] = []
        try:
            self._build(event_buffer)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the sockets."""
        while self._open:
            self._open.pop().close()

    def _commands(self, protocol: int) -> CommandSocket:
        commands = CommandSocket(protocol)
        self._open.append(commands)
        return commands

    def _events(
        self, protocol: int, receive_buffer: int, slots: int, size: int = 16384
    ) -> EventSocket:
        events = EventSocket(protocol, receive_buffer=receive_buffer, slots=slots, size=size)
        self._open.append(events)
        return events

    def _build(self, event_buffer: int) -> None:
        self._raw = (self._commands(NETLINK_GENERIC), self._commands(NETLINK_ROUTE))
        self._raw_diag = self._commands(NETLINK_SOCK_DIAG)
        generic, route = (CountedCommands(raw, self.counts) for raw in self._raw)
        diag = CountedStreams(self._raw_diag, self.counts)
        self._counted, self._counted_diag = (generic, route), diag
        try:
            self.mptcp = MptcpClient(generic)
        except Unavailable as error:
            raise StartError(
                "MPTCP generic netlink family has not appeared.\n"
                "Verify MPTCP netlink path manager kernel support.\n"
                f"({error})"
            ) from error
        self.routes = RouteClient(route)
        self.events = self._events(NETLINK_ROUTE, receive_buffer=self.route_buffer, slots=32)
        self.diag = DiagClient(diag)
        # The longest event has about 140 bytes.
        self.mptcp_events = self._events(
            NETLINK_GENERIC, receive_buffer=event_buffer, slots=128, size=2048
        )

    def reader(self) -> EventReader:
        return EventReader(
            self.mptcp_events,
            self.mptcp.family.id,
            lambda kind: _LOG.info("Unknown MPTCP genl attribute: %d (said once)", kind),
        )

    @property
    def foreign(self) -> int:
        """Messages that no kernel sent, dropped, on any socket but that of MPTCP events."""
        sockets = (*self._raw, self._raw_diag, self.events)
        return sum(socket.foreign for socket in sockets)

    def trace(self, on: bool) -> None:
        """Show every request in the log, or no longer."""
        if not on:
            for counted, raw in zip(self._counted, self._raw, strict=True):
                counted.inner = raw
            self._counted_diag.inner = self._raw_diag
            return
        from mptcpd.core import trace  # what it imports is of no use otherwise

        for counted, raw in zip(self._counted, self._raw, strict=True):
            counted.inner = trace.TracedCommands(raw)
        self._counted_diag.inner = trace.TracedStreams(self._raw_diag)


class Service:
    """Everything between the kernel and the plugins.

    config  what it goes by; a reload puts another one here
    began   when it was built, by the loop's clock
    """

    def __init__(self, config: Config, loop: Loop, registry: Registry) -> None:
        """Errors: as ``Kernel``."""
        self.config = config
        self.loop = loop
        self.began = loop.time()
        self.registry = registry
        self.kernel = kernel = Kernel(config.event_buffer)
        self.network = Daemon(
            loop,
            registry,
            kernel.events,
            kernel.routes,
            config.notify_flags,
            choice=config.choice(),
            hold_down=(config.hold_down_loss, config.hold_down_return),
        )
        self.ids = AddressIds()
        self.endpoints = Endpoints(kernel.mptcp, self.ids)
        self.listeners = Listeners(loop)
        self.commands = ConnectionCommands(
            kernel.mptcp, self.ids, self.listeners, kernel.diag
        )
        self.owners = Owners(registry)
        self.table = Connections(self.owners, self.commands.ended)
        self.watch = ConnectionWatch(
            loop,
            kernel.mptcp_events,
            kernel.reader(),
            kernel.diag,
            self.table,
            aborted=counters.aborted,
        )
        self.trace(config.debug)

    def trace(self, on: bool) -> None:
        """Show in the log every message from and to the kernel, or no longer."""
        self.kernel.trace(on)
        self.network.trace = self.watch.trace = None
        if on:
            from mptcpd.core import trace

            self.network.trace, self.watch.trace = trace.notification, trace.event

    def path_manager(self, plugin: Plugin, config: Config) -> PathManager:
        """What a plugin gets as its ``pm``."""
        return PathManager(
            plugin.name,
            config=config,
            endpoints=self.endpoints,
            commands=self.commands,
            ids=self.ids,
            listeners=self.listeners,
            interfaces=self.network.network.interfaces,
            is_lost=self.network.network.is_lost,
            connections=self.table.by_token,
            loop=self.loop,
            guard=lambda what, function: self.registry.guard(plugin, what, function),
        )

    def admit_plugins(self) -> None:
        """Put the plugins in order and call their ``init``. Errors: StartError; NetlinkError."""
        config, registry = self.config, self.registry
        self.endpoints.start(store(config.runtime_dir))
        choose(config, registry)  # what is wrong there is found before a plugin changes anything
        registry.start(lambda plugin: self.path_manager(plugin, config))

    def start(self) -> None:
        """Tell the plugins of all that is there, and follow it.

        Errors  StartError; NetlinkError, OSError. ``stop`` is to be called in any case.
        """
        check_started(self.config, self.registry)
        self.owners.start()
        self.network.start()
        self.drop_endpoints()
        self.watch.start(self.kernel.mptcp.events_group, self.owners.events())
        memory.give_back()

    def drop_endpoints(self) -> None:
        """Delete endpoints that were ours, but that no plugin has claimed. Errors: KernelError."""
        for endpoint in self.endpoints.drop_inherited():
            _LOG.info("Endpoint %s of an earlier run applies no more.", endpoint.address)

    def stop(self) -> None:
        """Say goodbye to the plugins and leave the kernel as configured. Errors: KernelError."""
        self.watch.stop()
        self.network.stop()
        self.listeners.close_all()
        if self.config.cleanup:
            self.endpoints.clean_up()

    def close(self) -> None:
        """Close what was opened; the object is of no use afterwards."""
        self.kernel.close()
