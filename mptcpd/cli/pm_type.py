"""Which path manager new MPTCP sockets get: the kernel's own, or user space.

Knows the sysctls that say so in a network namespace, and what plugins need of them; must not know
what either path manager does. ``net.mptcp.path_manager`` says it by name (Linux 6.15),
``net.mptcp.pm_type`` by number (5.19); where both are, writing one changes the other. Connections
that exist keep the one that they began with.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from mptcpd.core.config import Config
from mptcpd.plugin import Plugin

_LOG = logging.getLogger("mptcpd")
DIRECTORY = "/proc/sys/net/mptcp"
WORDS = {"kernel": "the kernel's own path manager", "userspace": "the userspace path manager"}
# The files in order of preference, each with what it says for which path manager.
_FILES = {
    "path_manager": {"kernel": "kernel", "userspace": "userspace"},
    "pm_type": {"kernel": "0", "userspace": "1"},
}


class PathManagerError(Exception):
    """The path manager cannot be switched over; the text says why and how to."""


class PathManagerType:
    """The setting in this network namespace.

    name     "kernel", "userspace", or what else the kernel calls it
    file     the sysctl's file name; None where there is none, and so nothing but "kernel"
    """

    def __init__(self, directory: str = DIRECTORY) -> None:
        self._directory = directory
        self.file: str | None = None
        self.name = "kernel"
        for file, values in _FILES.items():
            try:
                with open(os.path.join(directory, file), encoding="ascii") as stream:
                    said = stream.read().strip()
            except FileNotFoundError:
                continue
            names = {value: name for name, value in values.items()}
            self.file, self.name = file, names.get(said, said)
            return

    def command(self, wanted: str) -> str:
        """The shell command that makes ``wanted`` the path manager of new sockets."""
        file = self.file or next(iter(_FILES))
        return f"sysctl -w net.mptcp.{file}={_FILES[file][wanted]}"

    def set(self, wanted: str) -> None:
        """Make ``wanted`` the path manager of new sockets. Errors: PathManagerError."""
        if wanted == self.name:
            return
        if self.file is None:
            raise PathManagerError(
                f"pm={wanted}: this kernel has only its own path manager; "
                "the userspace one needs Linux 5.19 or newer."
            )
        try:
            with open(os.path.join(self._directory, self.file), "w", encoding="ascii") as stream:
                stream.write(_FILES[self.file][wanted])
        except OSError as error:
            raise PathManagerError(
                f"pm={wanted}: net.mptcp.{self.file} cannot be changed: {error.strerror}.\n"
                f"Try '{self.command(wanted)}' as root."
            ) from error
        self.name = wanted


def fitting(plugins: Sequence[Plugin], config: Config, found: PathManagerType) -> list[Plugin]:
    """The plugins to use, with a warning for each that needs another path manager than there is.

    One that nobody asked for by name is left out instead, as long as any other is left: so all the
    bundled plugins can lie in one directory.
    """
    misfits = [plugin for plugin in plugins if not _fits(plugin, found.name)]
    wanted = {config.path_manager, *config.sections}
    if config.load_plugins is None and len(misfits) < len(plugins):
        left_out = [plugin for plugin in misfits if plugin.name not in wanted]
    else:
        left_out = []
    has = WORDS.get(found.name, f'"{found.name}"')
    for need, words in WORDS.items():
        mend = f"{found.command(need)}, or pm={need} in the configuration"
        for plugin in misfits:
            if plugin.needs == need and plugin not in left_out:
                _LOG.warning(
                    'Plugin "%s" needs %s, but new connections get %s: %s.',
                    plugin.name, words, has, mend,
                )  # fmt: skip
        names = [plugin.name for plugin in left_out if plugin.needs == need]
        if names:
            _LOG.info("Left out, for want of %s: %s (%s).", words, ", ".join(names), mend)
    return [plugin for plugin in plugins if plugin not in left_out]


def _fits(plugin: Plugin, name: str) -> bool:
    if plugin.needs not in (None, *WORDS):
        allowed = ", ".join(WORDS)
        _LOG.warning('Plugin "%s": needs = %r; allowed: %s', plugin.name, plugin.needs, allowed)
        return True
    return plugin.needs in (None, name)
