"""The daemon's parts, joined as in ``mptcpd.cli.daemon``, inside a host and this test process.

So a test holds the plugins and their PathManagers in its hands, and lets the loop run only while it
waits. Nothing is faked: sockets, events and commands are the kernel's.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from lab import Host, traffic, wait_until
from mptcpd.core import loader
from mptcpd.core.commands import ConnectionCommands
from mptcpd.core.config import Config
from mptcpd.core.connection_watch import ConnectionWatch
from mptcpd.core.connections import Connection, Connections
from mptcpd.core.daemon import Daemon
from mptcpd.core.endpoints import Endpoints
from mptcpd.core.ids import AddressIds
from mptcpd.core.listeners import Listeners
from mptcpd.core.loop import Loop
from mptcpd.core.owners import CONNECTION_HOOKS, LISTENER_HOOKS, Owners
from mptcpd.core.pm import PathManager
from mptcpd.core.registry import Registry
from mptcpd.nl.client import MptcpClient, RouteClient
from mptcpd.nl.diag_client import DiagClient
from mptcpd.nl.mptcp_reader import EventReader
from mptcpd.nl.sock import CommandSocket, EventSocket
from mptcpd.nl.uapi import NETLINK_GENERIC, NETLINK_ROUTE, NETLINK_SOCK_DIAG
from mptcpd.plugin import Plugin, Subflow
from tests.kernel.conftest import TwoHosts
from tests.kernel.watch import use_userspace_pm

Value = TypeVar("Value")
CONFIG = Config("null", "")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PLUGINS = os.path.join(ROOT, "plugins")
_ROUND = 0.01  # seconds that one daemon runs before the next one, and the condition, get their turn


class Joined:
    """A daemon that runs while ``until`` waits.

    pms      plugin -> its PathManager
    table    the connection table          watch, daemon  what fills it, what follows the network
    """

    def __init__(
        self, host: Host, *plugins: Plugin, config: Config = CONFIG
    ) -> None:
        self.host = host
        self.loop = Loop()
        self.pms: dict[Plugin, PathManager] = {}
        for plugin in plugins:
            plugin.name = plugin.name or type(plugin).__name__.lower()
        self.registry = Registry(plugins)
        with host:
            generic, route = CommandSocket(NETLINK_GENERIC), CommandSocket(NETLINK_ROUTE)
            sock_diag = CommandSocket(NETLINK_SOCK_DIAG)
            changes = EventSocket(NETLINK_ROUTE)
            events = EventSocket(NETLINK_GENERIC, receive_buffer=4 << 20, size=2048)
        self._sockets: list[CommandSocket | EventSocket] = [
            generic, route, sock_diag, changes, events,
        ]  # fmt: skip
        self.mptcp = MptcpClient(generic)
        self.unknown_attributes: list[int] = []
        self.daemon = Daemon(
            self.loop,
            self.registry,
            changes,
            RouteClient(route),
            config.notify_flags,
            choice=config.choice(),
            hold_down=(config.hold_down_loss, config.hold_down_return),
        )
        self.listeners = Listeners(self.loop)
        self.ids = AddressIds()
        diag = DiagClient(sock_diag)
        self.commands = ConnectionCommands(self.mptcp, self.ids, self.listeners, diag)
        self.owners = Owners(self.registry)
        self.table = Connections(self.owners, self.commands.ended)
        reader = EventReader(events, self.mptcp.family.id, self.unknown_attributes.append)
        self.watch = ConnectionWatch(self.loop, events, reader, diag, self.table)
        with host:
            self.registry.start(lambda plugin: self._path_manager(plugin, config))
            self.owners.start()
            self.daemon.start()
            self.watch.start(self.mptcp.events_group, self.owners.events())

    def _path_manager(self, plugin: Plugin, config: Config) -> PathManager:
        self.pms[plugin] = PathManager(
            plugin.name,
            config=config,
            endpoints=Endpoints(self.mptcp, self.ids),
            commands=self.commands,
            ids=self.ids,
            listeners=self.listeners,
            interfaces=self.daemon.network.interfaces,
            is_lost=self.daemon.network.is_lost,
            connections=self.table.by_token,
            loop=self.loop,
            guard=lambda what, function: self.registry.guard(plugin, what, function),
        )
        return self.pms[plugin]

    def run(self, seconds: float = _ROUND) -> None:
        """Serve for so long. Sockets that hooks open belong to the host."""
        self.loop.call_later(seconds, self.loop.stop)
        with self.host:
            self.loop.run()

    def close(self) -> None:
        """End it as the daemon ends. Harmless when repeated."""
        if not self._sockets:
            return
        self.watch.stop()
        with self.host:
            self.daemon.stop()
        self.listeners.close_all()
        self.loop.close()
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()


class World:
    """Two hosts under the userspace path manager, daemons on them, and connections between them.

    Leaving the ``with`` block ends and closes everything.
    """

    def __init__(self, hosts: TwoHosts) -> None:
        self.hosts = hosts
        self.daemons: list[Joined] = []
        self._open: list[socket.socket] = []
        for host in (hosts.client, hosts.server):
            use_userspace_pm(host)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_error: object) -> None:
        for sock in self._open:
            sock.close()
        for daemon in self.daemons:
            daemon.close()

    def on_client(self, *plugins: Plugin, config: Config = CONFIG) -> Joined:
        """Start a daemon on the client."""
        return self._start(self.hosts.client, plugins, config)

    def on_server(self, *plugins: Plugin, config: Config = CONFIG) -> Joined:
        """Start a daemon on the server."""
        return self._start(self.hosts.server, plugins, config)

    def end(self, daemon: Joined) -> None:
        """End a daemon while the connections go on."""
        self.daemons.remove(daemon)
        daemon.close()

    def _start(self, host: Host, plugins: tuple[Plugin, ...], config: Config) -> Joined:
        self.daemons.append(Joined(host, *plugins, config=config))
        return self.daemons[-1]

    def open(self, address: str = "10.0.1.2", listen: str | None = None) -> traffic.Connection:
        """A connection from the client to ``address``, after the first byte each way.

        listen  where the server's application listens, if not at ``address``
        """
        listener = traffic.listen(self.hosts.server, listen or address)
        self._open.append(listener)
        client = traffic.connect(self.hosts.client, address, listener.getsockname()[1])
        self._open.append(client)
        server = listener.accept()[0]
        self._open.append(server)
        server.settimeout(10)
        sockets = traffic.Connection(client, server, listener)
        sockets.exchange()
        return sockets

    def until(self, condition: Callable[[], Value], what: str, timeout: float = 5.0) -> Value:
        """Let the daemons run until the condition is true."""
        return until(condition, what, *self.daemons, timeout=timeout)

    def established(self, daemon: Joined, sock: socket.socket) -> Connection:
        """What a daemon has of the connection that this socket is an end of, once established."""
        token = traffic.info(sock).token
        self.until(
            lambda: token in daemon.table.by_token and daemon.table.by_token[token].established,
            f"{token:08x} established",
        )
        return daemon.table.by_token[token]


def until(
    condition: Callable[[], Value], what: str, *daemons: Joined, timeout: float = 5.0
) -> Value:
    """Let these daemons run in turn until the condition is true; return what it returned.

    Errors  TimeoutError after ``timeout`` seconds, with the condition in words.
    """
    deadline = time.monotonic() + timeout
    while True:
        for daemon in daemons:
            daemon.run()
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:g} s: {what} (at last: {value!r})")


class Recorder(Plugin):
    """Notes every hook that is called: (hook, arguments without the PathManager)."""

    def __init__(self, name: str = "recorder", priority: int = 0) -> None:
        self.name, self.priority = name, priority
        self.heard: list[tuple[str, tuple[Any, ...]]] = []

    def hooks(self) -> list[str]:
        return [hook for hook, _arguments in self.heard]

    def told(self, hook: str) -> list[tuple[Any, ...]]:
        """The arguments of each call of a hook."""
        return [arguments for name, arguments in self.heard if name == hook]

    def subflows(self, hook: str) -> list[Subflow]:
        """The subflows that a hook was told of."""
        return [arguments[1] for arguments in self.told(hook)]


class Program:
    """The daemon as people run it, with a configuration of this text; killed when its host closes.

    said   what it wrote to standard error so far
    """

    def __init__(self, host: Host, directory: str | os.PathLike[str], text: str) -> None:
        file = os.path.join(directory, f"{host.name}.conf")
        with open(file, "w") as stream:
            stream.write(text)
        # Whatever else runs on this machine: its notes and its control socket are not ours.
        command = [sys.executable, "-m", "mptcpd.cli.daemon", "--debug", f"--config={file}",
                   f"--runtime-dir={os.path.abspath(file)}.run"]  # fmt: skip
        self._process = host.popen(command, cwd=ROOT, stderr=subprocess.PIPE)
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        self.said = ""

    def read(self) -> str:
        """All that it said until now."""
        assert self._process.stderr is not None
        self.said += (self._process.stderr.read() or b"").decode()
        return self.said

    def ready(self) -> Program:
        """Wait until it serves."""
        wait_until(lambda: "ready: plugins" in self.read(), "the daemon ready", timeout=10)
        return self

    def status(self) -> int:
        """Its exit status, when it ends."""
        status = self._process.wait(10)
        self.read()
        return status

    def end(self) -> int:
        """End it as a service manager does; its exit status."""
        self._process.terminate()
        return self.status()


def bundled(name: str) -> Plugin:
    """A plugin of the repository, loaded as the daemon loads it."""
    (plugin,) = loader.load(PLUGINS, [name], {os.stat(PLUGINS).st_uid})
    return plugin


def pairs(connection: Connection) -> set[tuple[str, str]]:
    """The IPs at both ends of a connection's subflows, one pair for each subflow."""
    flows = connection.subflows.values()
    found = [(str(flow.local.ip), str(flow.remote.ip)) for flow in flows]
    assert len(set(found)) == len(found), f"a pair twice: {found}"
    return set(found)


def _noting(hook: str) -> Callable[..., None]:
    def note(self: Recorder, *arguments: Any) -> None:
        self.heard.append((hook, arguments[:-1]))

    return note


for _hook in (*CONNECTION_HOOKS, *LISTENER_HOOKS):
    setattr(Recorder, _hook, _noting(_hook))
