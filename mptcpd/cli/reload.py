"""Reads the configuration and the plugins again, and applies the difference.

Knows what has to happen in which order, so that nothing is lost and a mistake changes nothing; must
not know how each part does it.

First everything is read and judged. A configuration that is wrong, a plugin that cannot be loaded
or whose ``init`` raises: the reload is refused, and all goes on as before. Then come the steps that
cannot be refused any more. A plugin is replaced if its file or its group of the configuration has
changed; all others are not touched. Connections stay with their plugin; those whose plugin is gone
are offered anew, first to its successor of the same name. Meanwhile events wait in their sockets.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mptcpd.cli import log, pm_type, selection
from mptcpd.cli.life import StartError
from mptcpd.cli.notify import Notifier
from mptcpd.cli.service import Service
from mptcpd.core.config import Config, ConfigError
from mptcpd.core.connections import Connection
from mptcpd.core.loader import PluginError
from mptcpd.core.registry import Registry
from mptcpd.core.trust import Untrusted
from mptcpd.nl import memory
from mptcpd.nl.errors import NetlinkError
from mptcpd.plugin import Plugin

_LOG = logging.getLogger("mptcpd")
_SLICE = 256  # connections offered anew before other things get their turn
# Settings that belong to the start: sockets and rights are made with them.
_AT_START = ("runtime_dir", "control_group", "user", "low_ports")
_REFUSALS = (ConfigError, Untrusted, StartError, PluginError, log.LogError, OSError)


class Outcome(NamedTuple):
    """What a reload did. ``refused``: why nothing was changed, empty if it was not refused.

    kept, replaced, added, removed  names of plugins
    offered  connections that are offered anew
    notes    what is odd or takes effect later, one line each
    """

    refused: str = ""
    kept: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    offered: int = 0
    notes: tuple[str, ...] = ()


class Reload:
    """To be called for each reload.

    done, refused  how often so far
    last           what became of the last one, in words; empty if there was none
    after          called after each that was not refused
    """

    def __init__(
        self, service: Service, reread: Callable[[], Config], systemd: Notifier
    ) -> None:
        """``reread`` returns the configuration. Errors of it: ConfigError, Untrusted."""
        self._service = service
        self._reread = reread
        self._systemd = systemd
        self._orphans: list[tuple[Connection, str]] = []
        self.done = self.refused = 0
        self.last = ""
        self.after: Callable[[], object] = lambda: None

    def __call__(self) -> Outcome:
        self._systemd.reloading()
        try:
            outcome = self._reload()
        except _REFUSALS as error:
            outcome = Outcome(refused=" ".join(str(error).split("\n")))
            self.refused += 1
            self.last = f"refused: {outcome.refused}"
            _LOG.error(
                "Reload refused, all goes on as before: %s", outcome.refused,
                exc_info=error.__cause__ if isinstance(error, PluginError) else None,
            )  # fmt: skip
            self._systemd.ready(f"Reload refused: {outcome.refused}")
        else:
            self.done += 1
            for note in outcome.notes:
                _LOG.warning("%s", note)
            self.last = in_words(outcome)
            _LOG.info("Reloaded. %s", self.last)
            self._systemd.ready(f"Plugins: {', '.join(self._service.registry.names)}")
            self.after()
        if outcome.refused or outcome.replaced or outcome.removed:
            # Compiled plugins that are of no use any more, some of them in circles: without this,
            # memory grew by 1.5 KB with each of 2,000 reloads (measured).
            gc.collect()
            memory.give_back()
        return outcome

    def _reload(self) -> Outcome:
        registry, old = self._service.registry, self._service.config
        config = self._reread()
        same = [plugin for plugin in registry.plugins if _same_section(plugin, old, config)]
        path_manager = pm_type.PathManagerType()
        try:
            line = Registry(selection.find(config, same, strict=True))
            selection.choose(config, line)
            fresh = _without(line.plugins, registry.plugins)
            if config.log != old.log:
                log.set_up(config.log, config.debug)
            self._admit(fresh, config)
        except _REFUSALS:
            _put_back(path_manager.name, old if config.log != old.log else None)
            raise
        return self._apply(config, line.plugins, fresh)

    def _admit(self, fresh: list[Plugin], config: Config) -> None:
        """Call ``init`` of all new plugins; if one raises, ``exit`` of those before it."""
        service, registry = self._service, self._service.registry
        admitted: list[Plugin] = []
        for plugin in fresh:
            error = registry.admit(plugin, service.path_manager(plugin, config))
            if error is not None:
                for other in reversed(admitted):
                    self._dismiss(other, registry.plugins)
                raise StartError(f'plugin "{plugin.name}": {type(error).__name__}: {error}')
            admitted.append(plugin)

    def _dismiss(self, plugin: Plugin, left: list[Plugin]) -> None:
        registry = self._service.registry
        registry.pm(plugin)._leave_endpoints(registry.pm(other) for other in left)
        registry.dismiss(plugin)

    def _apply(self, config: Config, line: list[Plugin], fresh: list[Plugin]) -> Outcome:
        service, registry, old = self._service, self._service.registry, self._service.config
        later = [field for field in _AT_START if getattr(config, field) != getattr(old, field)]
        service.config = config._replace(**{field: getattr(old, field) for field in later})
        gone, kept = _without(registry.plugins, line), _without(line, fresh)
        for plugin in kept:
            registry.pm(plugin).config = service.config
        registry.change(line)
        service.owners.start()
        for plugin in reversed(gone):
            self._dismiss(plugin, line)
        for step in self._steps(old, fresh):
            try:
                step()
            except (NetlinkError, OSError) as error:
                # What is not as configured now will be after the next change, or the next reload.
                _LOG.error("The reload could not be completed: %s", error)
        orphans = service.owners.orphans(service.table.by_token.values(), bool(fresh))
        waiting = bool(self._orphans)
        self._orphans += orphans
        if orphans and not waiting:
            self._offer()
        before, after = ({plugin.name for plugin in some} for some in (gone, fresh))
        notes = [f"{name.replace('_', '-')}: takes effect at the next start" for name in later]
        return Outcome(
            kept=tuple(plugin.name for plugin in kept),
            replaced=tuple(sorted(before & after)),
            added=tuple(sorted(after - before)),
            removed=tuple(sorted(before - after)),
            offered=len(orphans),
            notes=(*config.notes, *notes),
        )

    def _steps(self, old: Config, fresh: list[Plugin]) -> Iterator[Callable[[], object]]:
        """Tell new plugins of what is there, and all of what other settings change."""
        service, config = self._service, self._service.config
        hold_down = config.hold_down_loss, config.hold_down_return
        if config.event_buffer != old.event_buffer:
            yield lambda: service.kernel.mptcp_events.resize(config.event_buffer)
        yield lambda: service.network.network.introduce(service.registry.only(fresh))
        yield lambda: service.network.change(config.notify_flags, config.choice(), hold_down)
        yield lambda: service.watch.change(service.owners.events())
        yield service.drop_endpoints

    def _offer(self) -> None:
        """Offer some of the connections that have lost their plugin; the others a moment later."""
        service = self._service
        some, self._orphans = self._orphans[:_SLICE], self._orphans[_SLICE:]
        for connection, name in some:
            if connection.owner is None:
                with service.owners.asking_first(name):
                    service.table.tell_again(connection)
        if self._orphans:
            service.loop.call_later(0, self._offer)


def in_words(outcome: Outcome) -> str:
    """For the log: which plugins did what."""
    parts = [
        f"{what}: {', '.join(names)}"
        for what in ("kept", "replaced", "added", "removed")
        if (names := getattr(outcome, what))
    ]
    return f"Plugins {'; '.join(parts)}. Connections offered anew: {outcome.offered}."


def _put_back(path_manager: str, logged: Config | None) -> None:
    """Make the path manager and, if it was changed, the log what they were."""
    found = pm_type.PathManagerType()
    if found.name != path_manager and path_manager in pm_type.WORDS:
        with contextlib.suppress(pm_type.PathManagerError):  # it has just been changed
            found.set(path_manager)
    if logged is not None:
        with contextlib.suppress(log.LogError):
            log.set_up(logged.log, logged.debug)


def _same_section(plugin: Plugin, old: Config, new: Config) -> bool:
    return dict(old.section(plugin.name)) == dict(new.section(plugin.name))


def _without(plugins: list[Plugin], others: list[Plugin]) -> list[Plugin]:
    """By identity: a plugin may be a dataclass, which compares by value."""
    known = {id(plugin) for plugin in others}
    return [plugin for plugin in plugins if id(plugin) not in known]
