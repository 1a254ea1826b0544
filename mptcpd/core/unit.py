"""A systemd service's ExecStart lines, and the drop-in file that runs them under mptcpize.

Knows the syntax of unit files and command lines; must not know where files are.
Source   systemd.syntax(7), systemd.service(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

# One item of a command line: a quoted one, or what stands up to a blank, with its escapes.
_ITEM = re.compile(r"""\s*((?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\\.|[^\s\\])+)""")
# systemd.service(5), "Command lines"; "|" is of systemd 258.
_PREFIX = re.compile(r"[-@:+!|]*")
_NAME = "mptcpize"
_YES = ("yes", "y", "true", "t", "on", "1")
MARK = "# Written by mptcpize enable"


class UnitError(Exception):
    """A unit that cannot be run under mptcpize; str() says why."""


def assignments(text: str) -> Iterator[tuple[str, str]]:
    """``(key, value)`` of each assignment in the section [Service] of one file.

    A line that ends in a backslash goes on in the next that is no comment.
    """
    section = ""
    pending: list[str] = []
    for line in [*text.splitlines(), ""]:
        if line.lstrip().startswith(("#", ";")):
            continue
        if (len(line) - len(line.rstrip("\\"))) % 2:  # the last one is not itself escaped
            pending.append(line[:-1])
            continue
        line = " ".join([*pending, line])
        pending.clear()
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section == "Service" and "=" in line:
            key, _equals, value = line.partition("=")
            yield key.strip(), value.strip()


def settings(texts: Iterable[str]) -> dict[str, list[str]]:
    """All values of each key over a unit's files, in order; an empty one forgets those before."""
    found: dict[str, list[str]] = {}
    for text in texts:
        for key, value in assignments(text):
            if value:
                found.setdefault(key, []).append(value)
            else:
                found[key] = []
    return found


def commands(value: str) -> Iterator[str]:
    """The commands of one ExecStart value, which a ";" standing alone separates."""
    begin = end = place = 0
    while found := _ITEM.match(value, place):
        place = found.end()
        if found[1] == ";":
            if value[begin:end].strip():
                yield value[begin:end].strip()
            begin = place
        end = place
    if value[begin:].strip():
        yield value[begin:].strip()


def under(command: str, launcher: str, options: str = "") -> str:
    """A command of ExecStart, run by ``launcher``: prefixes, quotes, specifiers stay as they are.

    Errors  UnitError: it is run under mptcpize already, or is nothing that systemd would start.

    The prefix "@" says that the program is to be called by its second word. What then is called so
    must be the program, not the launcher, which gets the name as an option.
    """
    prefix = _PREFIX.match(command)
    assert prefix is not None  # it may be empty
    rest = command[prefix.end() :]
    first = _ITEM.match(rest)
    if first is None:
        raise UnitError(f"ExecStart={command} names no program")
    if first[1].strip("\"'").rpartition("/")[2] == _NAME:
        raise UnitError(f"ExecStart={command} runs under mptcpize by itself")
    words = [prefix[0].replace("@", "") + quoted(launcher), "run", *options.split()]
    if "@" in prefix[0]:
        name = _ITEM.match(rest, first.end())
        if name is None:
            raise UnitError(f'ExecStart={command} has "@", but no name for the program')
        words += ["--argv0", name[1]]
        rest = first[1] + rest[name.end() :]
    return " ".join([*words, rest.strip()])


def quoted(file: str) -> str:
    """A file name as an item of a command line."""
    text = file.replace("%", "%%")
    if re.search(r"[\s\"'\\;]", text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


def drop_in(unit: str, source: str, found: dict[str, list[str]], launcher: str) -> str:
    """The text of the drop-in file.

    unit      its name, for the comment       source  the unit file, likewise
    found     what ``settings`` found         launcher  where mptcpize is
    Errors    UnitError
    """
    starts = [command for value in found.get("ExecStart", []) for command in commands(value)]
    if not starts:
        raise UnitError(f"{source} has no ExecStart")
    # systemd ignores SIGPIPE for a service unless told otherwise; the launcher cannot see it.
    keeps = found.get("IgnoreSIGPIPE", ["yes"])[-1:] or ["yes"]
    options = "" if keeps[0].lower() in _YES else "--sigpipe=default"
    lines = [
        f"{MARK} {unit}; mptcpize disable {unit} removes it.",
        f"# Made from the ExecStart of {source}: when that changes, enable it again.",
        "[Service]",
        "ExecStart=",
        *(f"ExecStart={under(command, launcher, options)}" for command in starts),
    ]
    return "\n".join(lines) + "\n"


def cautions(found: dict[str, list[str]]) -> list[str]:
    """What about a service may keep it from working as before under mptcpize, in a line each."""
    notes = []
    for key in ("RootDirectory", "RootImage"):
        if found.get(key):
            notes.append(f"{key}= is set: mptcpize and Python must be in there, too")
    if "forking" in found.get("Type", [])[-1:] and not found.get("PIDFile"):
        notes.append(
            "Type=forking without PIDFile=: systemd will not find the main process by itself"
        )
    if any("libmptcpwrap" in value for value in found.get("Environment", [])):
        notes.append("Environment= preloads libmptcpwrap, which now is of no use")
    return notes
