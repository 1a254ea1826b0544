"""Help, usage and version, from the tables.

Knows how help looks; must not know any command but by its entry.
"""

from __future__ import annotations

import mptcpd
from mptcpd.cli.ctl import grammar, options, table
from mptcpd.cli.ctl.errors import unknown_command

_USAGE = "Usage: mptcpctl [OPTIONS] OBJECT [COMMAND] [ARGUMENTS]\n"
_WIDTH = 96


def version() -> str:
    return f"mptcpctl, mptcpd {mptcpd.__version__}\n"


def short() -> str:
    """What somebody is told who said nothing; without the last line break."""
    names = ", ".join(entry.name for entry in table.OBJECTS)
    return _USAGE + _filled("OBJECT := ", names.split(" "), 10) + '\nTry "mptcpctl help".'


def of(words: list[str]) -> str:
    """Help on all, or on the object that ``words`` begin with. Errors: Failure."""
    if words:
        index = grammar.first(words[0], [entry.name for entry in table.OBJECTS])
        if index is None:
            raise unknown_command(words[0])
        return "\n".join(_object(table.OBJECTS[index])) + "\n"
    lines = [_USAGE]
    for entry in table.OBJECTS:
        lines += [*_object(entry), ""]
    lines.append("OPTIONS, before the object:")
    for option in options.TABLE:
        value = f"[={option.value}]" if option.optional else f" {option.value}"
        name = f"-{option.short}" if option.short == option.name else (
            f"-{option.short}, -{option.name}"
        )  # fmt: skip
        lines.append(f"  {name + (value if option.value else ''):24}{option.help}")
    lines += ["", "Words may be shortened; flags of endpoints may not. More in mptcpctl(8)."]
    return "\n".join(lines) + "\n"


def _object(entry: grammar.Object) -> list[str]:
    lines = [f"{entry.name}: {entry.help}"]
    for command, usage in zip(entry.commands, grammar.usage(entry), strict=True):
        lines.append(_filled("  ", usage.split(" "), 6))
        if command.help:
            lines.append(f"      {command.help}")
    return lines


def _filled(start: str, words: list[str], indent: int) -> str:
    lines, line, fresh = [], start, True
    for word in words:
        if not fresh and len(line) + 1 + len(word) > _WIDTH:
            lines.append(line)
            line, fresh = " " * indent, True
        line += word if fresh else f" {word}"
        fresh = False
    return "\n".join([*lines, line])
