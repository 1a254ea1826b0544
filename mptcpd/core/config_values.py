"""Single values of the configuration: what each may hold, and where it stood.

Knows    flag lists, names, durations, and the complaint about each.
Not      which keys there are (``config``, ``interface_sections``), nor files.
Errors   BadValue from the readers: what is allowed, not where; ConfigError adds the place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

LOG_DESTINATIONS = ("stderr", "syslog", "journal", "null")
ADDR_FLAGS = ("signal", "subflow", "backup", "fullmesh", "laminar")
NOTIFY_FLAGS = ("existing", "skip_link_local", "skip_loopback", "check_route")
PATH_MANAGERS = ("kernel", "userspace", "keep")

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


def path_manager_type(text: str) -> str:
    """One of PATH_MANAGERS."""
    if text not in PATH_MANAGERS:
        raise BadValue(f'unknown path manager "{text}"; allowed: {", ".join(PATH_MANAGERS)}')
    return text


def not_empty(text: str) -> str:
    """Any text but the empty one."""
    if not text:
        raise BadValue("a value is missing")
    return text


def absolute(text: str) -> str:
    """A file's name that begins with a slash: the daemon need not stay where it was started."""
    if not text.startswith("/"):
        raise BadValue(f'"{text}" is no absolute file name; allowed: one that begins with a slash')
    return text


def yes_or_no(text: str) -> bool:
    """``yes`` or ``no``; also true, false, on, off, 1, 0."""
    for words, value in ((("yes", "true", "on", "1"), True), (("no", "false", "off", "0"), False)):
        if text.lower() in words:
            return value
    raise BadValue(f'"{text}" is neither yes nor no')


def duration(text: str) -> float:
    """``200ms``, ``1.5s`` or ``0`` as seconds, at most an hour."""
    for unit, seconds in (("ms", 0.001), ("s", 1.0), ("", 1.0)):
        number = text.removesuffix(unit) if unit else text
        if (not unit or text.endswith(unit)) and number.replace(".", "", 1).isdecimal():
            value = float(number) * seconds if number.isascii() else -1.0
            if 0 <= value <= 3600 and (unit or value == 0):
                return value
            break
    raise BadValue(f'"{text}" is no duration; allowed: 200ms, 1.5s, 0; at most 3600s')


def interval(text: str) -> float:
    """As ``duration``, but at least a second: something that is repeated."""
    value = duration(text)
    if value < 1.0:
        raise BadValue(f'"{text}" is too short; allowed: from 1s to 3600s')
    return value


def size(text: str) -> int:
    """``8192``, ``512K`` or ``16M`` as bytes, from 4096 to 1 GiB."""
    number, shift = text, 0
    for unit, bits in (("K", 10), ("M", 20)):
        if text.endswith(unit):
            number, shift = text.removesuffix(unit), bits
    if number.isascii() and number.isdecimal() and len(number) <= 10:
        value = int(number) << shift
        if 4096 <= value <= 1 << 30:
            return value
    raise BadValue(f'"{text}" is no size in bytes; allowed: 8192, 512K, 16M; from 4096 to 1024M')


class Section(Mapping[str, str]):
    """What the file says in one group: key -> value, and where each stood.

    A plugin that cannot use one of its values raises what ``error`` returns, so that the user
    is told the line.
    """

    __slots__ = ("_at", "_entries", "file", "name")

    def __init__(
        self,
        name: str,
        file: str = "",
        entries: Mapping[str, tuple[str, int]] | None = None,
        at: int | None = None,
    ) -> None:
        """``at``: the line of the group's first ``[name]``, from 1."""
        self.name = name
        self.file = file
        self._at = at
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

    def wrong(self, text: str) -> ConfigError:
        """A ConfigError, to be raised, about the group itself."""
        return ConfigError(self.file, self._at, f"[{self.name}]: {text}")
