"""Which plugins the daemon uses: those of the directory that fit, in the configured order.

Knows what a configuration asks for, and what to say when it cannot be had; must not know how
plugins are started or replaced (``service``, ``reload``).
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable

from mptcpd.cli import paths, pm_type
from mptcpd.cli.life import StartError
from mptcpd.core import loader
from mptcpd.core.config import Config
from mptcpd.core.registry import Registry
from mptcpd.plugin import Plugin

NO_PLUGINS = "Unable to load path manager plugins."
_LOG = logging.getLogger("mptcpd")


def find(config: Config, running: Iterable[Plugin] = (), *, strict: bool = False) -> list[Plugin]:
    """The plugins to use, with new connections given to the path manager that is configured.

    running, strict  as for ``loader.load``
    Errors           StartError; with ``strict`` loader.PluginError, too.
    """
    try:
        plugins = loader.load(
            config.plugin_dir, config.load_plugins, paths.owners(), running, strict=strict
        )
    except loader.LoadError as error:
        raise StartError(f"{error}\n{NO_PLUGINS}") from error
    found = pm_type.PathManagerType()
    if config.pm != "keep":
        try:
            found.set(config.pm)
        except pm_type.PathManagerError as error:
            raise StartError(str(error)) from error
    return pm_type.fitting(plugins, config, found)


def group(config: Config) -> int | None:
    """The ID of the group that may use the control socket. Errors: StartError."""
    name = config.control_group
    if name is None:
        return None
    if name.isascii() and name.isdigit() and len(name) < 10:
        return int(name)
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise StartError(f'control-group={name}: there is no group "{name}".') from None


def choose(config: Config, registry: Registry) -> None:
    """Put the default plugin first. Errors: StartError without plugins, or for a wrong name."""
    if not registry.plugins:
        why = f"There is no usable one (NAME.py) in {config.plugin_dir}."
        with contextlib.suppress(OSError):
            if any(name.endswith(".so") for name in os.listdir(config.plugin_dir)):
                theirs = "Those of the C mptcpd are there"
                why += f"\n{theirs}: remove plugin-dir from the configuration."
        raise StartError(f"{NO_PLUGINS}\n{why}")
    if config.path_manager is not None and not registry.prefer(config.path_manager):
        raise StartError(
            f'No plugin is named "{config.path_manager}"; there are: {", ".join(registry.names)}.'
        )
    for name in config.sections:
        if name not in registry.names:
            what = f"no plugin in use is named [{name}]"  # one may be left out for want of its pm
            _LOG.warning("%s: %s; the group has no effect", config.file, what)


def check_started(config: Config, registry: Registry) -> None:
    """Whether the plugins that matter could be initialized. Errors: StartError."""
    if not registry.plugins:
        raise StartError(f"{NO_PLUGINS}\nNone of them could be initialized.")
    if config.path_manager is not None and config.path_manager not in registry.names:
        raise StartError(f'The plugin "{config.path_manager}" could not be initialized.')
