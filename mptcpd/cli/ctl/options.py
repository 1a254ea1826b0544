"""The options that stand before the object: what they are called, and how they are read.

Knows the table below, which help, completion and the manual page read, too; must not know objects.
As in iproute2 each is a word of its own with one dash or two, and may be shortened to any prefix
that no entry before it has.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

from mptcpd.cli.ctl.errors import Failure
from mptcpd.cli.ctl.output import Settings


class Option(NamedTuple):
    """name as spelled out; value it takes, if any; optional: only after "="."""

    name: str
    short: str
    help: str
    value: str = ""
    optional: bool = False


TABLE = (
    Option("json", "j", "print JSON"),
    Option("pretty", "p", "lay JSON out for people"),
    Option("oneline", "o", "one record a line: line breaks become a backslash"),
    Option("timestamp", "t", "monitor: a line with the time before each event"),
    Option("tshort", "ts", "monitor: the time at the start of each event's line"),
    Option("netns", "n", "act in this network namespace: a name, a file or a process", "NETNS"),
    Option("4", "4", "IPv4 only, where a command lists connections"),
    Option("6", "6", "IPv6 only, where a command lists connections"),
    Option("socket", "socket", "where the daemon is asked, if not in /run/mptcpd", "FILE"),
    Option("color", "c", "colours: always, on a terminal, or never", "WHEN", optional=True),
    Option("Version", "V", "print the version and end"),
    Option("help", "h", "print this help and end"),
)
_WHEN = ("always", "auto", "never")


class Said(NamedTuple):
    """What was said before the object. ``show``: "", "Version" or "help"; ``rest``: the words."""

    settings: Settings
    netns: str | None
    show: str
    rest: list[str]


def read(argv: Sequence[str]) -> Said:
    """Take the options off a command line (without the program's name). Errors: Failure."""
    said: dict[str, str | None] = {}
    rest = list(argv)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        name, equals, value = word[2 if word.startswith("--") else 1 :].partition("=")
        option = next((o for o in TABLE if name and o.name.startswith(name)), None)
        if option is None or (equals and not option.value):
            raise Failure(f'Option "{word}" is unknown, try "mptcpctl -help".')
        if option.optional and equals and value not in _WHEN:
            raise Failure(f'Option "{word}" is unknown, try "mptcpctl -help".')
        if option.value and not option.optional and not equals:
            if not rest:
                raise Failure('Command line is not complete. Try option "help"')
            value = rest.pop(0)
        said[option.name] = value or None
    settings = Settings(
        json="json" in said,
        pretty="pretty" in said,
        oneline="oneline" in said,
        stamp="short" if "tshort" in said else "long" if "timestamp" in said else "",
        family=next((int(name) for name in reversed(said) if name in ("4", "6")), None),
        colour=_colour(said["color"] or "always") if "color" in said else False,
        socket=said.get("socket"),
    )
    show = next((name for name in ("help", "Version") if name in said), "")
    return Said(settings._replace(colour=settings.colour and not settings.json),
                said.get("netns"), show, rest)  # fmt: skip


def _colour(when: str) -> bool:
    return when == "always" or (when == "auto" and sys.stdout is not None and sys.stdout.isatty())
