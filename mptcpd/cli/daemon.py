"""mptcpd: the program. Reads the command line, starts the service, runs it.

Knows people, and the order of things at start and end; must not know the parts (``service``).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial

from mptcpd.cli import argp, config_file, log, notify, options, privileges, selection
from mptcpd.cli.control import Control
from mptcpd.cli.life import Background, Life, StartError
from mptcpd.cli.metrics_file import MetricsFile
from mptcpd.cli.reload import Reload
from mptcpd.cli.service import Service
from mptcpd.core.config import Config, ConfigError
from mptcpd.core.loop import Loop
from mptcpd.core.registry import Registry
from mptcpd.core.trust import Untrusted
from mptcpd.nl.client import RouteClient
from mptcpd.nl.errors import NetlinkError
from mptcpd.nl.sock import CommandSocket
from mptcpd.nl.uapi import NETLINK_ROUTE

EX_USAGE = 64  # sysexits.h, as GNU argp exits
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
        return argp.show(said.show)
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
        selection.group(config)
    except (privileges.PrivilegeError, StartError) as error:
        print(error, file=sys.stderr)
        return 1
    lines = ["The configuration is fine.", *(f"Note: {note}" for note in config.notes)]
    try:
        lines += check.report(config, RouteClient(CommandSocket(NETLINK_ROUTE)))
    except (NetlinkError, OSError) as error:
        argp.show("\n".join(lines))
        print(f"Unable to list interfaces: {error}", file=sys.stderr)
        return 1
    return argp.show("\n".join(lines))


def run(config: Config, said: options.Options, ready: Callable[[], None]) -> None:
    """Build everything, serve until a signal ends it, and take it down again.

    said    the command line, with which a reload reads the configuration
    ready   called when all is there that was to be told to plugins
    Errors  StartError: people can mend it. NetlinkError, OSError: the kernel failed us.
    """
    check_kernel()
    systemd, control = notify.from_environment(os.environ), Control()
    life = Life()
    loop = Loop()
    try:
        group = selection.group(config)
        life.begin(said, config, lambda: control.open(config.runtime_dir, group, os.environ))
        life.watch(loop)
        reread = partial(config_file.load, said)
        plugins = selection.find(config)
        serve(config, loop, Registry(plugins), ready, reread, systemd, control)
    except StartError as error:
        systemd.failed(str(error))
        raise
    finally:
        control.close()
        loop.close()
        life.close()
        systemd.close()


def serve(
    config: Config,
    loop: Loop,
    registry: Registry,
    ready: Callable[[], None] = lambda: None,
    reread: Callable[[], Config] | None = None,
    systemd: notify.Notifier = notify.NOBODY,
    control: Control | None = None,
) -> None:
    """As ``run``, with the plugins loaded. ``reread``: reads the configuration, for a reload."""
    service = Service(config, loop, registry)
    try:
        reload = Reload(service, reread or (lambda: config), systemd)
        _serve(service, reload, systemd, control or Control(), ready)
    finally:
        service.close()


def _serve(
    service: Service,
    reload: Reload,
    systemd: notify.Notifier,
    control: Control,
    ready: Callable[[], None],
) -> None:
    loop, registry = service.loop, service.registry
    metrics = MetricsFile(loop, lambda: metrics_text(service, reload, control))

    def keep_metrics() -> None:
        metrics.keep(service.config.metrics_file, service.config.metrics_interval)

    reload.after = keep_metrics
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.on_signal(number, loop.stop)
    loop.on_signal(signal.SIGHUP, reload)
    service.admit_plugins()
    try:
        service.start()
        control.serve(service, reload)
        keep_metrics()
        if service.config.debug:
            _LOG.debug("%s", privileges.left())
        _LOG.debug("ready: plugins %s", ", ".join(registry.names))
        systemd.ready(f"Plugins: {', '.join(registry.names)}")
        systemd.keep_alive(loop)
        ready()
        loop.run()
    finally:
        systemd.stopping()
        control.close()
        metrics.close()
        service.stop()


def metrics_text(service: Service, reload: Reload, control: Control) -> str:
    """The counters as node_exporter reads them from a file."""
    from mptcpd.cli import metrics  # of no use to most daemons

    return metrics.openmetrics(metrics.families(service, reload, control), classic=True)


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


if __name__ == "__main__":
    sys.exit(main())
