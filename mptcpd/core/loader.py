"""Finds plugin files, decides whether they can be trusted, and makes a Plugin of each.

Knows directories, files and modules; must not know what plugins do or when they are called. What
is checked is the descriptor that is read, so nobody can swap the file in between.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import ModuleType

from mptcpd.core.trust import Untrusted, trusted
from mptcpd.plugin import Plugin

_LOG = logging.getLogger("mptcpd")
_SUFFIX = ".py"


class LoadError(Exception):
    """No plugin can be had from this directory; the text is for people."""


class PluginError(Exception):
    """A plugin that cannot be used, and why. ``name`` is the file's, without ``.py``."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f'Plugin "{name}": {why}')
        self.name = name


def load(
    directory: str,
    names: Sequence[str] | None,
    owners: Collection[int],
    running: Iterable[Plugin] = (),
    *,
    strict: bool = False,
) -> list[Plugin]:
    """The plugins of a directory, in the order of ``names``, else of their file names.

    names    None means every regular file ``*.py``; a name of the list without file is an error
    owners   user IDs whose files are trusted
    running  plugins that are taken as they are where their files have not changed since
    Errors   LoadError for the directory itself, and for a file that others could have written: then
             nothing of what lies there is to be believed. Any other file that cannot be used is
             logged by name and left out: one broken plugin does not take the others with it. If
             ``strict``, it is PluginError instead.
    """
    known = {plugin.loaded_from: plugin for plugin in running}
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise LoadError(f"Unable to open plugin directory: {error.strerror}") from error
    try:
        trusted(os.fstat(fd), directory, owners, directory=True)
        found = _names(fd) if names is None else list(dict.fromkeys(names))
        plugins: dict[str, Plugin] = {}
        for name in found:
            try:
                plugin = _plugin(fd, directory, name, owners, known)
                if plugin.name in plugins:
                    raise PluginError(name, f'another plugin is named "{plugin.name}" already')
                plugins[plugin.name] = plugin
            except PluginError as error:
                if strict:
                    raise
                _LOG.error("%s", error, exc_info=error.__cause__)
        return list(plugins.values())
    except Untrusted as error:
        raise LoadError(str(error)) from error
    finally:
        os.close(fd)


def _names(fd: int) -> list[str]:
    with os.scandir(fd) as entries:
        return sorted(
            entry.name.removesuffix(_SUFFIX)
            for entry in entries
            if entry.name.endswith(_SUFFIX) and entry.is_file(follow_symlinks=False)
        )


def _plugin(
    fd: int,
    directory: str,
    name: str,
    owners: Collection[int],
    known: Mapping[tuple[str, bytes], Plugin],
) -> Plugin:
    file = os.path.join(directory, name + _SUFFIX)
    if not name.isidentifier():
        raise PluginError(name, "a plugin's name is letters, digits and _")
    source = _source(fd, name, file, owners)
    if (file, source) in known:
        return known[file, source]
    module = ModuleType(f"mptcpd_plugin_{name}")
    module.__file__ = file
    # Known to sys.modules while it runs, as for any import: dataclasses and pickle look there.
    before = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, file, "exec"), module.__dict__)
        plugin = _only_class(name, module)()
        if not plugin.name:
            plugin.name = name
        for attribute, kind in (("name", str), ("priority", int)):
            value = getattr(plugin, attribute)
            if not isinstance(value, kind):
                raise PluginError(name, f"{attribute} is {value!r}, which is no {kind.__name__}")
        plugin.loaded_from = file, source
    except (PluginError, MemoryError):  # a lack of memory is no plugin's fault
        _put_back(module.__name__, before)
        raise
    except (Exception, SystemExit) as error:
        # SystemExit: a script that lies in the directory and calls sys.exit().
        _put_back(module.__name__, before)
        raise PluginError(name, f"{type(error).__name__}: {error}") from error
    return plugin


def _put_back(name: str, before: ModuleType | None) -> None:
    """A module that cannot be used: one that the same file made earlier may still run."""
    if before is None:
        del sys.modules[name]
    else:
        sys.modules[name] = before


def _only_class(name: str, module: ModuleType) -> type[Plugin]:
    """The subclass of Plugin that a module defines, under whatever and however many names."""
    classes = {
        id(value): value
        for value in vars(module).values()
        # Not isinstance(value, type): until Python 3.11 an alias like list[int] passes for one.
        if issubclass(type(value), type)
        and issubclass(value, Plugin)
        and value.__module__ == module.__name__
    }
    if len(classes) != 1:
        which = ", ".join(value.__name__ for value in classes.values()) or "none"
        raise PluginError(name, f"exactly one subclass of Plugin is expected, found: {which}")
    found: type[Plugin] = classes.popitem()[1]
    return found


def _source(fd: int, name: str, file: str, owners: Collection[int]) -> bytes:
    try:
        # O_NONBLOCK: opening a FIFO of that name must not hang the daemon.
        handle = os.open(name + _SUFFIX, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=fd)
    except OSError as error:
        raise PluginError(name, f"{file}: {error.strerror}") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise PluginError(name, f"{file}: not a regular file")
        trusted(status, file, owners)
        with open(handle, "rb", closefd=False) as opened:
            return opened.read()
    except OSError as error:
        raise PluginError(name, f"{file}: {error.strerror}") from None
    finally:
        os.close(handle)
