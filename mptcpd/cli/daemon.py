"""mptcpd: the program. Reads the command line, builds the parts, joins them, runs.

Knows people and the order of things at start and end; the only place that knows all parts.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable

from mptcpd.cli import argp, config_file, counters, log, options, paths, pm_type, privileges
from mptcpd.cli.life import Background, Life, StartError
from mptcpd.cli.runtime import store
from mptcpd.core import loader
from mptcpd.core.commands import ConnectionCommands
from mptcpd.core.config import Config, ConfigError
from mptcpd.core.connection_watch import ConnectionWatch
from mptcpd.core.connections import Connections
from mptcpd.core.daemon import Daemon
from mptcpd.core.endpoints import Endpoints
from mptcpd.core.ids import AddressIds
from mptcpd.core.listeners import Listeners
from mptcpd.core.loop import Loop
from mptcpd.core.owners import Owners
from mptcpd.core.pm import PathManager
from mptcpd.core.registry import Registry
from mptcpd.core.trust import Untrusted
from mptcpd.nl import memory
from mptcpd.nl.client import Commands, MptcpClient, RouteClient
from mptcpd.nl.diag_client import DiagClient, Streams
from mptcpd.nl.errors import NetlinkError, Unavailable
from mptcpd.nl.mptcp_reader import EventReader
from mptcpd.nl.sock import CommandSocket, EventSocket
from mptcpd.nl.uapi import NETLINK_GENERIC, NETLINK_ROUTE, NETLINK_SOCK_DIAG
from mptcpd.plugin import Plugin

EX_USAGE = 64  # sysexits.h, as GNU argp exits
_NO_PLUGINS = "Unable to load path manager plugins."
_ENABLED = "/proc/sys/net/mptcp/enabled"
_LOG = logging.getLogger("mptcpd")


def main(argv: list[str] | None = None) -> int:
    """Run the daemon. Returns the exit status: 0 after SIGINT or SIGTERM, 1, or 64 for usage."""
    try:
        said = options.parse(sys.argv[1:] if argv is None else argv)
    except argp.UsageError as error:
        print(error, file=sys.stderr)
        return EX_USAGE
    if said.show is not None:
        print(said.show)
        return 0
    if said.hang:
        time.sleep(said.hang)
    if said.daemonize:
        said = options.absolute(said)
    try:
        config = config_file.load(said)
        if said.check_config:
            return check_config(config)
        log.set_up(config.log, config.debug)
        background = Background(said.daemonize)
    except (ConfigError, Untrusted, log.LogError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    for note in config.notes:
        _LOG.warning("%s", note)
    try:
        run(config, said, background.ready)
    except StartError as error:
        for line in str(error).splitlines():
            _LOG.error("%s", line)
        return 1
    except (NetlinkError, OSError) as error:
        _LOG.critical("mptcpd ends: %s", error, exc_info=config.debug)
        return 1
    except MemoryError:
        _LOG.critical("mptcpd ends: no memory is left", exc_info=config.debug)
        return 1
    except Exception:
        # A fault of ours: whoever reads the log, which need not be stderr, is to find it there.
        _LOG.critical("mptcpd ends: this should not happen", exc_info=True)
        return 1
    return 0


def check_config(config: Config) -> int:
    """Say that the configuration is fine, and what it means here and now."""
    from mptcpd.cli import check  # the daemon itself has no use for it

    try:
        if config.user is not None:
            privileges.user(config.user)
    except privileges.PrivilegeError as error:
        print(error, file=sys.stderr)
        return 1
    print("The configuration is fine.")
    for note in config.notes:
        print(f"Note: {note}")
    try:
        for line in check.report(config, RouteClient(CommandSocket(NETLINK_ROUTE))):
            print(line)
    except (NetlinkError, OSError) as error:
        print(f"Unable to list interfaces: {error}", file=sys.stderr)
        return 1
    return 0


def run(config: Config, said: options.Options, ready: Callable[[], None]) -> None:
    """Build everything, serve until a signal ends it, and take it down again.

    ready   called when all is there that was to be told to plugins
    Errors  StartError: people can mend it. NetlinkError, OSError: the kernel failed us.
    """
    check_kernel()
    life = Life()
    loop = Loop()
    try:
        life.begin(said, config)
        life.watch(loop)
        serve(config, loop, Registry(find_plugins(config)), ready)
    finally:
        loop.close()
        life.close()


def find_plugins(config: Config) -> list[Plugin]:
    """The plugins to use, with new connections given to the path manager that is configured."""
    try:
        plugins = loader.load(config.plugin_dir, config.load_plugins, paths.owners())
    except loader.LoadError as error:
        raise StartError(f"{error}\n{_NO_PLUGINS}") from error
    found = pm_type.PathManagerType()
    if config.pm != "keep":
        try:
            found.set(config.pm)
        except pm_type.PathManagerError as error:
            raise StartError(str(error)) from error
    return pm_type.fitting(plugins, config, found)


def serve(
    config: Config, loop: Loop, registry: Registry, ready: Callable[[], None] = lambda: None
) -> None:
    """As ``run``, with the plugins loaded."""
    parts = Parts(config)
    try:
        join(config, loop, registry, parts, ready)
    finally:
        parts.close()


def join(
    config: Config, loop: Loop, registry: Registry, parts: Parts, ready: Callable[[], None]
) -> None:
    """As ``serve``, with the sockets open."""
    daemon = Daemon(
        loop,
        registry,
        parts.events,
        parts.routes,
        config.notify_flags,
        parts.trace,
        config.choice(),
        (config.hold_down_loss, config.hold_down_return),
    )
    ids = AddressIds()
    endpoints = Endpoints(parts.mptcp, ids)
    endpoints.start(store(config.runtime_dir))
    listeners = Listeners(loop)
    commands = ConnectionCommands(parts.mptcp, ids, listeners, parts.diag)
    owners = Owners(registry)
    table = Connections(owners, commands.ended)
    watch = ConnectionWatch(
        loop,
        parts.mptcp_events,
        parts.mptcp_reader(),
        parts.diag,
        table,
        parts.trace_event,
        counters.aborted,
    )

    def path_manager(plugin: Plugin) -> PathManager:
        return PathManager(
            plugin.name,
            config=config,
            endpoints=endpoints,
            commands=commands,
            ids=ids,
            listeners=listeners,
            interfaces=daemon.network.interfaces,
            connections=table.by_token,
            loop=loop,
            guard=lambda what, function: registry.guard(plugin, what, function),
        )

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.on_signal(number, loop.stop)
    loop.on_signal(signal.SIGHUP, lambda: look_again(daemon))
    choose(config, registry)  # what is wrong there is found before a plugin changes anything
    registry.start(path_manager)
    try:
        check_started(config, registry)
        owners.start()
        daemon.start()
        for endpoint in endpoints.drop_inherited():
            _LOG.info("Endpoint %s of an earlier run applies no more.", endpoint.address)
        watch.start(parts.mptcp.events_group, owners.events())
        if config.debug:
            _LOG.debug("%s", privileges.left())
        _LOG.debug("ready: plugins %s", ", ".join(registry.names))
        memory.give_back()
        ready()
        loop.run()
    finally:
        watch.stop()
        daemon.stop()
        listeners.close_all()
        if config.cleanup:
            endpoints.clean_up()


def look_again(daemon: Daemon) -> None:
    """What SIGHUP does: the network is read anew; the configuration is read at the start only."""
    _LOG.info("SIGHUP: reading links and addresses anew; the configuration needs a restart.")
    daemon.resync()


class Parts:
    """The sockets and the clients on them."""

    route_buffer = 4 << 20  # bytes for notifications of links, addresses and routes

    def __init__(self, config: Config) -> None:
        self._open: list[CommandSocket | EventSocket] = []
        try:
            self._build(config)
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

    def _build(self, config: Config) -> None:
        generic: Commands = self._commands(NETLINK_GENERIC)
        route: Commands = self._commands(NETLINK_ROUTE)
        diag: Streams = self._commands(NETLINK_SOCK_DIAG)
        self.trace = self.trace_event = None
        if config.debug:
            from mptcpd.core import trace  # what it imports is of no use otherwise

            generic, route = trace.TracedCommands(generic), trace.TracedCommands(route)
            diag = trace.TracedStreams(diag)
            self.trace, self.trace_event = trace.notification, trace.event
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
            NETLINK_GENERIC, receive_buffer=config.event_buffer, slots=128, size=2048
        )

    def mptcp_reader(self) -> EventReader:
        return EventReader(
            self.mptcp_events,
            self.mptcp.family.id,
            lambda kind: _LOG.info("Unknown MPTCP genl attribute: %d (said once)", kind),
        )


def check_kernel() -> None:
    """Whether MPTCP is there and switched on in this network namespace. Errors: StartError."""
    unavailable = "Required kernel MPTCP support not available."
    try:
        with open(_ENABLED, encoding="ascii", errors="replace") as file:
            text = file.read()
    except OSError:
        raise StartError(unavailable) from None
    try:
        enabled = int(text)
    except ValueError:
        raise StartError(
            f"Unable to determine if MPTCP is enabled.\n{unavailable}"
        ) from None
    if not enabled:
        raise StartError(
            "MPTCP is not enabled in the kernel.\n"
            f"Try 'sysctl -w net.mptcp.enabled=1'.\n{unavailable}"
        )


def choose(config: Config, registry: Registry) -> None:
    """Put the default plugin first. Errors: StartError without plugins, or for a wrong name."""
    if not registry.plugins:
        raise StartError(
            f"{_NO_PLUGINS}\nThere is no usable one (NAME.py) in {config.plugin_dir}."
        )
    if config.path_manager is not None and not registry.prefer(config.path_manager):
        raise StartError(
            f'No plugin is named "{config.path_manager}"; there are: {", ".join(registry.names)}.'
        )
    for name in config.sections:
        if name not in registry.names:
            _LOG.warning("%s: no plugin is named [%s]; the group has no effect", config.file, name)


def check_started(config: Config, registry: Registry) -> None:
    """Whether the plugins that matter could be initialized. Errors: StartError."""
    if not registry.plugins:
        raise StartError(f"{_NO_PLUGINS}\nNone of them could be initialized.")
    if config.path_manager is not None and config.path_manager not in registry.names:
        raise StartError(f'The plugin "{config.path_manager}" could not be initialized.')


if __name__ == "__main__":
    sys.exit(main())
