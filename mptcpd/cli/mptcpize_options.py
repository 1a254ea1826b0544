"""The command line of mptcpize: tables of options, and the texts that it prints.

Knows    the commands, their options and the C program's messages.
Not      what a command does.
Source   the C mptcpize: its help, messages and exit codes. Options of commands are new, save -d.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mptcpd import __version__
from mptcpd.cli import argp
from mptcpd.cli.argp import Option, UsageError

PROGRAM = "mptcpize"
PURPOSE = "mptcpize - a tool to enable MPTCP usage on unmodified legacy services"
BUGS = "<mptcp@lists.linux.dev>"
OPTIONS = argp.STANDARD

RUN = (
    Option("debug", "d", help="Tell on standard error of each socket and what becomes of it"),
    Option("preload", argument="LIB", help="Use LIB, a libmptcpwrap, in place of a filter"),
    Option("argv0", argument="NAME", help="Let the program be called NAME"),
    Option(
        "sigpipe",
        argument="WHAT",
        help="Start the program with SIGPIPE set to default or ignore",
        words=("default", "ignore"),
    ),
)
UNIT = (
    Option("root", argument="DIR", help="Work on the system whose root directory is DIR"),
    Option("launcher", argument="FILE", help="Where mptcpize is on that system"),
    Option("print", help="Print the drop-in file, change nothing"),
)
# name -> its options, the usage, what it does in lines of at most 37 columns
COMMANDS: dict[str, tuple[tuple[Option, ...], str, str]] = {
    "run": (
        RUN,
        "run [-d] prog [<args>]",
        "Run target program with specified\n"
        "arguments, forcing MPTCP socket usage\n"
        "instead of TCP.  If the '-d' argument\n"
        "is provided, dump messages on stderr\n"
        "when a TCP socket is forced to MPTCP.\n"
        "--preload=LIB uses a library for it.",
    ),
    "enable": (
        UNIT,
        "enable <unit>",
        "Add a drop-in file to the systemd\n"
        "<unit>, forcing the given service to\n"
        "run under the above launcher. --print\n"
        "shows that file; --root=DIR is for a\n"
        "system that does not run.",
    ),
    "disable": (
        UNIT[:1],
        "disable <unit>",
        "Remove that file from the systemd\n<unit>.",
    ),
    "help": ((), "help", "Print this."),
}


class Said(NamedTuple):
    """What a command line asked for: a command with its options and words, or a text to print."""

    command: str = ""
    options: dict[str, str] = {}
    words: tuple[str, ...] = ()
    show: str | None = None
    hang: int = 0


def commands_text() -> str:
    """The end of both helps, laid out as the C program does."""
    lines = ["Available CMDs:"]
    for _options, usage, text in COMMANDS.values():
        first, *rest = text.splitlines()
        lines += [f"\t{usage:<26}{first}", *(f"\t{'':<26}{line}" for line in rest), ""]
    return "\n".join(lines[:-1])


def short_help(program: str = PROGRAM) -> str:
    """What ``mptcpize help``, or mptcpize alone, prints on standard error."""
    return f"Usage: {program} CMD\n{PURPOSE}\n\n{commands_text()}\n\nReport bugs to {BUGS}."


def text(name: str, program: str = PROGRAM) -> str:
    """What the option ``name`` of the group "information" prints, without the last line feed."""
    if name == "version":
        return f"{PROGRAM} {__version__}"
    if name == "usage":
        return argp.usage_text(program, OPTIONS, "CMD")
    return argp.help_text(program, OPTIONS, PURPOSE, commands_text(), BUGS, "CMD")


def parse(argv: Sequence[str]) -> Said:
    """Read a command line, given without the program's name.

    The command is not looked at here, so that who does that can say what the C program says.
    Errors  UsageError; its str() goes to stderr, the exit status is 64.
    """
    program, hang = PROGRAM, 0
    rest: list[str] = []
    try:
        for option, argument in argp.scan(argv, OPTIONS, in_order=True):
            if option is None:
                rest.append(argument)
            elif option.name == "HANG":
                plain = argument.isascii() and argument.isdigit() and len(argument) < 10
                hang = int(argument) if plain else 3600
            elif option.name == "program-name":
                program = argument.rpartition("/")[2].encode(errors="backslashreplace").decode()
            else:
                return Said(show=text(option.name, program))
        command = rest[0] if rest else "help"
        if command not in COMMANDS:
            return Said(command, hang=hang)
        options: dict[str, str] = {}
        words: list[str] = []
        table = COMMANDS[command][0]
        for option, argument in argp.scan(rest[1:], table, in_order=command == "run"):
            if option is None:
                words.append(argument)
            else:
                options[option.name] = _checked(option, argument)
        if command != "run" and len(words) > (command != "help"):
            raise argp.BadLine("Too many arguments")
    except argp.BadLine as error:
        raise UsageError(program, str(error)) from None
    return Said(command, options, tuple(words), hang=hang)


def _checked(option: Option, argument: str) -> str:
    if option.argument and not argument:
        raise argp.BadLine(f"option '--{option.name}' requires an argument")
    if option.words and argument not in option.words:
        raise argp.BadLine(f"--{option.name} is {' or '.join(option.words)}, not \"{argument}\"")
    return argument
