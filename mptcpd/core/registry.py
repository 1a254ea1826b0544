"""Orders plugins, starts and ends them, and calls their hooks.

Knows plugins, priorities and hooks; must not know where plugins come from, nor what a hook is told.
One plugin's exception stops here: it is logged with plugin, hook and traceback, and the others go
on. A hook that raises for each of 20,000 connections a second fills no log: see ``BURST``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from mptcpd.core.address import SockAddr
from mptcpd.core.config_values import ConfigError
from mptcpd.core.network import Interface
from mptcpd.plugin import Plugin

if TYPE_CHECKING:
    from mptcpd.core.pm import PathManager

_LOG = logging.getLogger("mptcpd")
# What stops where a plugin was called: sys.exit() is none of a plugin's business either.
FAILURES = (Exception, SystemExit)
# So many failures of one hook are logged in so many seconds, as the kernel does it
# (include/linux/ratelimit.h); the others are counted.
BURST, INTERVAL = 10, 5.0
# The hooks called from here. Those of connections go through ``owners``.
HOOKS = (
    "new_interface",
    "update_interface",
    "delete_interface",
    "new_local_address",
    "delete_local_address",
)


class Registry:
    """The plugins in order of priority, and for each hook those that override it."""

    def __init__(
        self, plugins: Iterable[Plugin], clock: Callable[[], float] = time.monotonic
    ) -> None:
        # sorted() is stable: equal priorities keep the order in which they were loaded.
        self.plugins = sorted(plugins, key=lambda plugin: plugin.priority)
        self.failed_hooks: dict[tuple[str, str], int] = {}  # (plugin, hook) -> times it raised
        # (plugin, hook) -> when an interval began, failures in it
        self._lately: dict[tuple[str, str], tuple[float, int]] = {}
        self._clock = clock
        self.heard: Callable[[str, tuple[object, ...]], object] | None = None  # told of every call
        # By identity: a plugin may be a dataclass, which compares by value and has no hash.
        self._pms: dict[int, PathManager] = {}
        self._hooks: dict[str, list[tuple[Plugin, Callable[..., Any]]]] = {}
        self._find_hooks()

    def _find_hooks(self) -> None:
        for hook in HOOKS:
            self._hooks[hook] = [
                (plugin, function)
                for plugin in self.plugins
                for function in self.overridden(plugin, [hook]).values()
            ]

    @property
    def names(self) -> list[str]:
        return [plugin.name for plugin in self.plugins]

    def start(self, pm_for: Callable[[Plugin], PathManager]) -> None:
        """Call every plugin's ``init``; one that raises is left out from then on."""
        for plugin in list(self.plugins):
            if self.admit(plugin, pm_for(plugin)) is not None:
                self.plugins = [other for other in self.plugins if other is not plugin]
        self._find_hooks()

    def admit(self, plugin: Plugin, pm: PathManager) -> BaseException | None:
        """Call a plugin's ``init``; what it raised, logged. Its hooks are called after ``change``.
        """
        self._pms[id(plugin)] = pm
        try:
            plugin.init(pm)
        except FAILURES as error:
            if isinstance(error, ConfigError):  # no fault of its, and what helps is file and line
                _LOG.error('Plugin "%s": %s', plugin.name, error)
            else:
                self.failed(plugin, "init")
            _LOG.warning('Plugin "%s" failed to initialize', plugin.name)
            del self._pms[id(plugin)]
            return error
        return None

    def change(self, order: Iterable[Plugin]) -> None:
        """From now on these plugins are called, in this order; each was admitted before."""
        self.plugins = list(order)
        self._find_hooks()

    def dismiss(self, plugin: Plugin) -> None:
        """Call the ``exit`` of a plugin that is called no more."""
        self._guarded(plugin, "exit", plugin.exit)
        self._pms.pop(id(plugin))._forget_timers()

    def pm(self, plugin: Plugin) -> PathManager:
        """The PathManager of a plugin that was admitted. Errors: KeyError."""
        return self._pms[id(plugin)]

    def only(self, plugins: Iterable[Plugin]) -> Registry:
        """A view through which these plugins alone are called (``network.Listener``)."""
        some = Registry(plugins)
        some._pms = self._pms
        some.failed_hooks, some._lately = self.failed_hooks, self._lately
        return some

    @property
    def failures(self) -> int:
        """Hooks that raised."""
        return sum(self.failed_hooks.values())

    def stop(self) -> None:
        """Call every plugin's ``exit``, in reverse order of priority; no hook is called after."""
        self._hooks = {hook: [] for hook in HOOKS}
        for plugin in reversed(self.plugins):
            self._guarded(plugin, "exit", plugin.exit)
        self._pms.clear()

    def prefer(self, name: str) -> bool:
        """Put the plugin with this name before all others; False if there is none."""
        for index, plugin in enumerate(self.plugins):
            if plugin.name == name:
                self.plugins.insert(0, self.plugins.pop(index))
                self._find_hooks()
                return True
        return False

    def started(self) -> list[tuple[Plugin, PathManager]]:
        """The plugins whose ``init`` went well, in order, each with its PathManager."""
        return [(plugin, self._pms[id(plugin)]) for plugin in self.plugins]

    def overridden(
        self, plugin: Plugin, hooks: Iterable[str]
    ) -> dict[str, Callable[..., Any]]:
        """Those of ``hooks`` that this plugin's class overrides."""
        return {
            hook: getattr(plugin, hook)
            for hook in hooks
            if getattr(type(plugin), hook) is not getattr(Plugin, hook)
        }

    def failed(self, plugin: Plugin, hook: str) -> None:
        """Log the exception that is being handled, which this plugin's hook raised.

        One that raises all the time is logged ``BURST`` times in ``INTERVAL`` seconds.
        """
        key = plugin.name, hook
        self.failed_hooks[key] = self.failed_hooks.get(key, 0) + 1
        now = self._clock()
        began, count = self._lately.get(key, (now, 0))
        if now - began >= INTERVAL:
            if count > BURST:
                _LOG.error('Plugin "%s": %s failed %d more times', *key, count - BURST)
            began, count = now, 0
        self._lately[key] = began, count + 1
        if count < BURST:
            _LOG.exception('Plugin "%s": %s failed', *key)
        elif count == BURST:
            _LOG.error('Plugin "%s": %s fails again and again; not logged each time', *key)

    def new_interface(self, interface: Interface) -> None:
        self._call("new_interface", interface)

    def update_interface(self, interface: Interface) -> None:
        self._call("update_interface", interface)

    def delete_interface(self, interface: Interface) -> None:
        self._call("delete_interface", interface)

    def new_local_address(self, interface: Interface, address: SockAddr) -> None:
        self._call("new_local_address", interface, address)

    def delete_local_address(self, interface: Interface, address: SockAddr) -> None:
        self._call("delete_local_address", interface, address)

    def guard(self, plugin: Plugin, what: str, function: Callable[..., object]) -> Any:
        """``function``, made safe to be called by the loop on this plugin's behalf.

        Not called any more once the plugin is left out.
        """

        def guarded(*arguments: object) -> None:
            if id(plugin) in self._pms:
                self._guarded(plugin, what, function, *arguments, pm=False)

        return guarded

    def _call(self, hook: str, *arguments: object) -> None:
        if self.heard is not None:
            self.heard(hook, arguments)
        for plugin, function in self._hooks[hook]:
            self._guarded(plugin, hook, function, *arguments)

    def _guarded(
        self,
        plugin: Plugin,
        hook: str,
        function: Callable[..., object],
        *arguments: object,
        pm: bool = True,
    ) -> bool:
        try:
            if pm:
                function(*arguments, self._pms[id(plugin)])
            else:
                function(*arguments)
        except FAILURES:
            # A plugin is somebody else's code: whatever it raises must not end the daemon.
            self.failed(plugin, hook)
            return False
        return True
