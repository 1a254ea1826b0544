"""The configuration: text in, values or a complaint that names file and line out.

Knows    the keys of ``[core]``, what each may hold, and which source wins.
Not      files, argv, the environment: ``cli`` reads those and hands the text in.
Shape    ``[group]`` lines, ``key=value`` lines, ``#`` lines, empty lines. Blanks around keys,
         values and lines do not count; a ``#`` further on in a line is part of the value.
Errors   ConfigError, whatever the text; BadValue from the readers of single values.
Source   the C daemon's configuration file, which is read by ELL's l_settings.

Kept from ELL: a key given twice keeps its first value (here a note says so). Different: what ELL
drops in silence (unknown keys of [core], unknown words, lines that are no setting) is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

_T = TypeVar("_T")

LOG_DESTINATIONS = ("stderr", "syslog", "journal", "null")
ADDR_FLAGS = ("signal", "subflow", "backup", "fullmesh", "laminar")
NOTIFY_FLAGS = ("existing", "skip_link_local", "skip_loopback", "check_route")

DEFAULT_LOG = "stderr"
DEFAULT_ADDR_FLAGS = ("subflow",)
DEFAULT_NOTIFY_FLAGS = frozenset({"existing", "skip_link_local", "skip_loopback"})


class ConfigError(Exception):
    """What is wrong with the configuration, where, and what would be right.

    file   the name of the file as the user knows it; empty if there is none
    line   from 1; None when it is about the file as a whole
    text   one sentence without the place
    """

    def __init__(self, file: str, line: int | None, text: str) -> None:
        super().__init__(file, line, text)
        self.file = file
        self.line = line
        self.text = text

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.text}" if place else self.text


class BadValue(ValueError):
    """A value that a setting may not have; says what is allowed, not where it stood."""


def _words(text: str) -> list[str]:
    """``a,b`` or ``a,b,`` to words; empty text to none. Other empty words stay, to be refused."""
    return text.removesuffix(",").split(",") if text else []


def _flags(text: str, kind: str, allowed: tuple[str, ...]) -> set[str]:
    """The words of a flag list, or BadValue for the first that is not one of ``allowed``."""
    words = _words(text)
    for word in words:
        if word not in allowed:
            hint = " (no blanks between the words)" if word.strip() in allowed else ""
            raise BadValue(f'unknown {kind} flag "{word}"{hint}; allowed: {", ".join(allowed)}')
    return set(words)


def addr_flags(text: str) -> tuple[str, ...]:
    """Flags for announced addresses, in the order of ADDR_FLAGS, each once; empty text: none."""
    found = _flags(text, "address", ADDR_FLAGS)
    if {"signal", "fullmesh"} <= found:
        # net/mptcp/pm_kernel.c, mptcp_pm_nl_add_addr_doit: "flags mustn't have both signal and
        # fullmesh". Found out here, once, and not at every address that appears later.
        raise BadValue(
            'the flags "signal" and "fullmesh" exclude each other: '
            "the kernel refuses an endpoint that has both"
        )
    return tuple(flag for flag in ADDR_FLAGS if flag in found)


def notify_flags(text: str) -> frozenset[str]:
    """Which addresses plugins are told of; empty text: no flag is set."""
    return frozenset(_flags(text, "notification", NOTIFY_FLAGS))


def plugin_names(text: str) -> tuple[str, ...]:
    """Names of plugins in the given order. Empty items vanish, so "," and "" mean "load none"."""
    names = tuple(name for name in text.split(",") if name)
    for name in names:
        # The directory was checked for who may write to it; a name must not lead out of it.
        if "/" in name or name != name.strip():
            raise BadValue(
                f'"{name}" is not a plugin name; allowed: names of files in the plugin directory '
                "without .py, separated by commas without blanks"
            )
    return names


def log_destination(text: str) -> str:
    """One of LOG_DESTINATIONS."""
    if text not in LOG_DESTINATIONS:
        raise BadValue(f'unknown log destination "{text}"; allowed: {", ".join(LOG_DESTINATIONS)}')
    return text


def _not_empty(text: str) -> str:
    if not text:
        raise BadValue("a value is missing")
    return text


# key of [core] -> what makes its value; the field of Settings has the same name with "_"
CORE_KEYS: Mapping[str, Callable[[str], Any]] = {
    "log": log_destination,
    "plugin-dir": _not_empty,
    "path-manager": _not_empty,
    "addr-flags": addr_flags,
    "notify-flags": notify_flags,
    "load-plugins": plugin_names,
}


class Section(Mapping[str, str]):
    """What the file says in one group: key -> value, and where each stood.

    A plugin that cannot use one of its values raises what ``error`` returns, so that the user
    is told the line.
    """

    __slots__ = ("_entries", "file", "name")

    def __init__(
        self, name: str, file: str = "", entries: Mapping[str, tuple[str, int]] | None = None
    ) -> None:
        self.name = name
        self.file = file
        self._entries = dict(entries or {})

    def __getitem__(self, key: str) -> str:
        return self._entries[key][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Section({self.name!r}, {self.file!r}, {self._entries!r})"

    def line(self, key: str) -> int | None:
        """The line of ``key``, from 1; None if it is not given."""
        return self._entries[key][1] if key in self._entries else None

    def error(self, key: str, text: str) -> ConfigError:
        """A ConfigError, to be raised, that names file, line, group and key."""
        return ConfigError(self.file, self.line(key), f"{key} in [{self.name}]: {text}")


class Settings(NamedTuple):
    """What one source, the file or the command line, says. None: it says nothing of this."""

    log: str | None = None
    plugin_dir: str | None = None
    path_manager: str | None = None
    addr_flags: tuple[str, ...] | None = None
    notify_flags: frozenset[str] | None = None
    load_plugins: tuple[str, ...] | None = None
    debug: bool | None = None
    file: str = ""
    sections: Mapping[str, Section] = MappingProxyType({})
    notes: tuple[str, ...] = ()


def _first(command_line: _T | None, file: _T | None, default: _T) -> _T:
    """The first that was given. Empty lists were given; they mean "none"."""
    if command_line is not None:
        return command_line
    return default if file is None else file


class Config(NamedTuple):
    """What the daemon goes by. Immutable.

    path_manager   None: the plugin with the lowest priority number
    addr_flags     in the order of ADDR_FLAGS; never signal together with fullmesh
    load_plugins   None: every plugin that is found; (): none at all
    file           the configuration file that was read; empty if none was
    sections       groups of the file other than [core], by name
    notes          what is odd about the file but no error; one line each, for the log
    """

    log: str
    plugin_dir: str
    path_manager: str | None = None
    addr_flags: tuple[str, ...] = DEFAULT_ADDR_FLAGS
    notify_flags: frozenset[str] = DEFAULT_NOTIFY_FLAGS
    load_plugins: tuple[str, ...] | None = None
    debug: bool = False
    file: str = ""
    sections: Mapping[str, Section] = MappingProxyType({})
    notes: tuple[str, ...] = ()

    def section(self, name: str) -> Section:
        """A plugin's own group of the file; an empty one if the file has none of that name."""
        return self.sections.get(name) or Section(name, self.file)

    @classmethod
    def merge(cls, command_line: Settings, file: Settings, plugin_dir: str) -> Config:
        """Each setting from the command line, else from the file, else the default.

        ``plugin_dir`` is the default of that setting: only ``cli`` knows where it was installed.
        A list is taken whole from one source, never mixed.
        """
        ours = command_line
        return cls(
            log=_first(ours.log, file.log, DEFAULT_LOG),
            plugin_dir=_first(ours.plugin_dir, file.plugin_dir, plugin_dir),
            path_manager=_first(ours.path_manager, file.path_manager, None),
            addr_flags=_first(ours.addr_flags, file.addr_flags, DEFAULT_ADDR_FLAGS),
            notify_flags=_first(ours.notify_flags, file.notify_flags, DEFAULT_NOTIFY_FLAGS),
            load_plugins=_first(ours.load_plugins, file.load_plugins, None),
            debug=_first(ours.debug, file.debug, False),
            file=file.file,
            sections=file.sections,
            notes=file.notes,
        )


def _refuse_invisible(line: str) -> None:
    """BadValue for control characters, NUL, no-break blanks and the like: nobody could see them."""
    for character in line:
        if not character.isprintable() and character != "\t":
            raise BadValue(f"a character that cannot be seen: {character!a}")


def _group(line: str) -> str:
    """The name in ``[name]``, or BadValue."""
    name = line[1:-1].strip()
    if not line.endswith("]") or not name or "[" in name or "]" in name:
        raise BadValue("a group is a line of its own: [name]")
    if name != "core" and name.lower() == "core":
        raise BadValue(f"[{name}] is not [core]: names of groups are written in small letters")
    return name


def _setting(line: str) -> tuple[str, str]:
    """Key and value of ``key=value``, or BadValue."""
    key, equals, value = line.partition("=")
    key = key.strip()
    if not key or not equals:
        raise BadValue("allowed are [group], key=value, and comments after a # at the line's start")
    return key, value.strip()


def _core(entries: Mapping[str, tuple[str, int]], file: str) -> dict[str, Any]:
    """The entries of [core] as fields of Settings."""
    fields: dict[str, Any] = {}
    for key, (value, line) in entries.items():
        if key not in CORE_KEYS:
            known = ", ".join(CORE_KEYS)
            raise ConfigError(file, line, f'unknown key "{key}" in [core]; allowed: {known}')
        try:
            fields[key.replace("-", "_")] = CORE_KEYS[key](value)
        except BadValue as error:
            hint = " (a comment needs a line of its own)" if " #" in value else ""
            raise ConfigError(file, line, f"{key}: {error}{hint}") from None
    return fields


def parse(text: str, file: str) -> Settings:
    """Read the text of a configuration file; ``file`` is its name for messages.

    Errors  ConfigError, whatever the text; nothing else.
    """
    groups: dict[str, dict[str, tuple[str, int]]] = {"core": {}}
    entries: dict[str, tuple[str, int]] | None = None
    notes: list[str] = []
    # Editors that add a byte order mark mean nothing by it; a line ends in \n or \r\n, unlike
    # what str.splitlines takes for one.
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            _refuse_invisible(line)
            if line.startswith("["):
                entries = groups.setdefault(_group(line), {})
                continue
            key, value = _setting(line)
        except BadValue as error:
            raise ConfigError(file, number, str(error)) from None
        if entries is None:
            raise ConfigError(file, number, f'"{key}" stands before any [group]')
        if key in entries:
            first = entries[key][1]
            notes.append(f'{file}:{number}: "{key}" was given in line {first}, which counts')
            continue
        entries[key] = value, number
    fields = _core(groups.pop("core"), file)
    sections = {name: Section(name, file, found) for name, found in groups.items()}
    said = Settings(file=file, sections=MappingProxyType(sections), notes=tuple(notes))
    return said._replace(**fields)
