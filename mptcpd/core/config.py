"""The configuration: text in, values or a complaint that names file and line out.

Knows    the keys of ``[core]``, and which source wins; what each key may hold is in
         ``config_values``.
Not      files, argv, the environment: ``cli`` reads those and hands the text in.
Shape    ``[group]`` lines, ``key=value`` lines, ``#`` lines, empty lines. Blanks around keys,
         values and lines do not count; a ``#`` further on in a line is part of the value.
Errors   ConfigError, whatever the text; BadValue from the readers of single values.
Source   the C daemon's configuration file, which is read by ELL's l_settings.

Kept from ELL: a key given twice keeps its first value (here a note says so). Different: what ELL
drops in silence (unknown keys of [core], unknown words, lines that are no setting) is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from mptcpd.core.choice import (
    Choice,
    InterfaceRule,
    Pattern,
    address_patterns,
    interface_patterns,
)
from mptcpd.core.config_values import (
    ADDR_FLAGS,
    DEFAULT_ADDR_FLAGS,
    DEFAULT_LOG,
    DEFAULT_NOTIFY_FLAGS,
    LOG_DESTINATIONS,
    NOTIFY_FLAGS,
    BadValue,
    ConfigError,
    Section,
    absolute,
    addr_flags,
    duration,
    interval,
    log_destination,
    not_empty,
    notify_flags,
    path_manager_type,
    plugin_names,
    size,
    yes_or_no,
)
from mptcpd.core.interface_sections import is_rule, rules

__all__ = [
    "ADDR_FLAGS",
    "CORE_KEYS",
    "DEFAULT_ADDR_FLAGS",
    "DEFAULT_LOG",
    "DEFAULT_NOTIFY_FLAGS",
    "FILE_ONLY",
    "LOG_DESTINATIONS",
    "NOTIFY_FLAGS",
    "BadValue",
    "Config",
    "ConfigError",
    "Section",
    "Settings",
    "addr_flags",
    "log_destination",
    "notify_flags",
    "parse",
    "plugin_names",
]

_T = TypeVar("_T")
DEFAULT_HOLD_DOWN_LOSS = 0.0  # seconds
DEFAULT_HOLD_DOWN_RETURN = 0.2
DEFAULT_RUNTIME_DIR = "/run/mptcpd"
DEFAULT_METRICS_INTERVAL = 15.0  # seconds
DEFAULT_EVENT_BUFFER = 64 << 20  # bytes: 160,000 events, 1.3 s at 120,000 a second


def _patterns(read: Callable[[str], tuple[Pattern, ...]]) -> Callable[[str], tuple[Pattern, ...]]:
    """``read`` with its complaint as BadValue."""

    def patterns(text: str) -> tuple[Pattern, ...]:
        try:
            return read(text)
        except ValueError as error:
            raise BadValue(str(error)) from None

    return patterns


# key of [core] -> what makes its value; the field of Settings has the same name with "_"
CORE_KEYS: Mapping[str, Callable[[str], Any]] = {
    "log": log_destination,
    "plugin-dir": not_empty,
    "path-manager": not_empty,
    "addr-flags": addr_flags,
    "notify-flags": notify_flags,
    "load-plugins": plugin_names,
    "pm": path_manager_type,
    "interfaces": _patterns(interface_patterns),
    "addresses": _patterns(address_patterns),
    "hold-down-loss": duration,
    "hold-down-return": duration,
    "cleanup": yes_or_no,
    "runtime-dir": not_empty,
    "event-buffer": size,
    "user": not_empty,
    "low-ports": yes_or_no,
    "control-group": not_empty,
    "metrics-file": absolute,
    "metrics-interval": interval,
}


# Keys without an option: new ones, whose names would make abbreviations of old options ambiguous.
FILE_ONLY = frozenset(
    {
        *("interfaces", "addresses", "hold-down-loss", "hold-down-return", "cleanup", "pm"),
        *("event-buffer", "user", "low-ports"),
        *("event-buffer", "control-group", "metrics-file", "metrics-interval"),
    }
)


class Settings(NamedTuple):
    """What one source, the file or the command line, says. None: it says nothing of this."""

    log: str | None = None
    plugin_dir: str | None = None
    path_manager: str | None = None
    addr_flags: tuple[str, ...] | None = None
    notify_flags: frozenset[str] | None = None
    load_plugins: tuple[str, ...] | None = None
    pm: str | None = None
    interfaces: tuple[Pattern, ...] | None = None
    addresses: tuple[Pattern, ...] | None = None
    hold_down_loss: float | None = None
    hold_down_return: float | None = None
    cleanup: bool | None = None
    runtime_dir: str | None = None
    event_buffer: int | None = None
    user: str | None = None
    low_ports: bool | None = None
    control_group: str | None = None
    metrics_file: str | None = None
    metrics_interval: float | None = None
    debug: bool | None = None
    file: str = ""
    rules: tuple[InterfaceRule, ...] = ()
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
    pm             which path manager new connections get: "kernel", "userspace", "keep"
    file           the configuration file that was read; empty if none was
    interfaces, addresses  patterns of what is used; () means all (``choice``)
    hold_down_loss, hold_down_return  seconds that a change must last (``holddown``)
    runtime_dir    where it is noted which endpoints are ours
    event_buffer   bytes that the kernel keeps for MPTCP events until they are read
    user           whom to become after the start; None: stay who we are
    low_ports      whether plugins listen below port 1024
    control_group  whose members may use the control socket, too; None: nobody's
    metrics_file   where counters are written every ``metrics_interval`` seconds; None: nowhere
    cleanup        endpoints and limits are put back at the end
    rules          the [interface PATTERN] groups
    sections       other groups of the file than these and [core], by name
    notes          what is odd about the file but no error; one line each, for the log
    """

    log: str
    plugin_dir: str
    path_manager: str | None = None
    addr_flags: tuple[str, ...] = DEFAULT_ADDR_FLAGS
    notify_flags: frozenset[str] = DEFAULT_NOTIFY_FLAGS
    load_plugins: tuple[str, ...] | None = None
    pm: str = "keep"
    interfaces: tuple[Pattern, ...] = ()
    addresses: tuple[Pattern, ...] = ()
    hold_down_loss: float = DEFAULT_HOLD_DOWN_LOSS
    hold_down_return: float = DEFAULT_HOLD_DOWN_RETURN
    cleanup: bool = False
    runtime_dir: str = DEFAULT_RUNTIME_DIR
    event_buffer: int = DEFAULT_EVENT_BUFFER
    user: str | None = None
    low_ports: bool = False
    control_group: str | None = None
    metrics_file: str | None = None
    metrics_interval: float = DEFAULT_METRICS_INTERVAL
    debug: bool = False
    rules: tuple[InterfaceRule, ...] = ()
    file: str = ""
    sections: Mapping[str, Section] = MappingProxyType({})
    notes: tuple[str, ...] = ()

    def section(self, name: str) -> Section:
        """A plugin's own group of the file; an empty one if the file has none of that name."""
        return self.sections.get(name) or Section(name, self.file)

    def choice(self) -> Choice:
        """The rules for interfaces and addresses."""
        return Choice(
            self.notify_flags, self.interfaces, self.addresses, self.rules, self.addr_flags
        )

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
            pm=_first(ours.pm, file.pm, "keep"),
            interfaces=_first(ours.interfaces, file.interfaces, ()),
            addresses=_first(ours.addresses, file.addresses, ()),
            hold_down_loss=_first(
                ours.hold_down_loss, file.hold_down_loss, DEFAULT_HOLD_DOWN_LOSS
            ),
            hold_down_return=_first(
                ours.hold_down_return, file.hold_down_return, DEFAULT_HOLD_DOWN_RETURN
            ),
            cleanup=_first(ours.cleanup, file.cleanup, False),
            runtime_dir=_first(ours.runtime_dir, file.runtime_dir, DEFAULT_RUNTIME_DIR),
            event_buffer=_first(ours.event_buffer, file.event_buffer, DEFAULT_EVENT_BUFFER),
            user=_first(ours.user, file.user, None),
            low_ports=_first(ours.low_ports, file.low_ports, False),
            control_group=_first(ours.control_group, file.control_group, None),
            metrics_file=_first(ours.metrics_file, file.metrics_file, None),
            metrics_interval=_first(
                ours.metrics_interval, file.metrics_interval, DEFAULT_METRICS_INTERVAL
            ),
            debug=_first(ours.debug, file.debug, False),
            rules=file.rules,
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
    places: dict[str, int] = {}
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
                name = _group(line)
                entries = groups.setdefault(name, {})
                places.setdefault(name, number)
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
    sections = {name: Section(name, file, found, places[name]) for name, found in groups.items()}
    said = Settings(
        file=file,
        rules=rules(sections.values()),
        sections=MappingProxyType({n: found for n, found in sections.items() if not is_rule(n)}),
        notes=tuple(notes),
    )
    return said._replace(**fields)
