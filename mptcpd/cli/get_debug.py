"""mptcp-get-debug: the program. The report of ``mptcpctl debug`` for who knows it by this name.

Knows its options; must not know what is in the report (``ctl.debug``), which the other program
makes for it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mptcpd import __version__
from mptcpd.cli import argp
from mptcpd.cli.argp import Option, UsageError

PROGRAM = "mptcp-get-debug"
PURPOSE = "Collect what a bug report about Multipath TCP on this host needs to tell."
TAIL = "Without FILE the report goes to standard output. mptcpctl debug writes the same."
ARGUMENT = "FILE"
BUGS = "<mptcp@lists.linux.dev>"

OPTIONS = (
    Option(
        "anonymous",
        "a",
        help="Put names in the place of addresses, which tell only which are the same and which "
        "share a network",
    ),
    Option("json", "j", help="Write JSON"),
    Option(
        "netns",
        "n",
        "NETNS",
        "Look at another network namespace: a name below /run/netns, a file or a process",
    ),
    Option(
        "socket",
        "s",
        "FILE",
        "Ask the daemon at the control socket FILE, if it is not /run/mptcpd/control.sock",
    ),
)
TABLE = OPTIONS + argp.STANDARD


def main(argv: list[str] | None = None) -> int:
    """Write the report. Returns the exit status: 0, 64 for usage, or that of mptcpctl."""
    try:
        words, text = parse(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        print(error, file=sys.stderr)
        return argp.EXIT_USAGE
    if text is not None:
        return argp.show(text)
    from mptcpd.cli.ctl import main as mptcpctl

    return mptcpctl.main(words)


def parse(argv: Sequence[str]) -> tuple[list[str], str | None]:
    """The words for mptcpctl, and a text to print in place of all that. Errors: UsageError."""
    program = PROGRAM
    before: list[str] = []
    after: list[str] = []
    files: list[str] = []
    try:
        for option, argument in argp.scan(argv, TABLE):
            if option is None:
                files.append(argument)
            elif option.name == "anonymous":
                after = ["--anonymous"]
            elif option in OPTIONS:
                if option.argument and not argument:
                    raise argp.BadLine(f"option '--{option.name}' requires an argument")
                before += [f"-{option.name}", *filter(None, [argument])]
            elif option.name == "program-name":
                program = argument.rpartition("/")[2].encode(errors="backslashreplace").decode()
            elif option.help:
                return [], _text(option.name, program)
        if len(files) > 1:
            raise argp.BadLine("Too many arguments")
    except argp.BadLine as error:
        raise UsageError(program, str(error)) from None
    # A word that begins with a dash would be an option there.
    files = [f"./{file}" if file.startswith("-") else file for file in files]
    return [*before, "debug", *after, *files], None


def _text(name: str, program: str) -> str:
    """What the option ``name`` of the group "information" prints, without the last line feed."""
    if name == "version":
        return f"{PROGRAM} {__version__}"
    if name == "usage":
        return argp.usage_text(program, TABLE, f"[{ARGUMENT}]")
    return argp.help_text(program, TABLE, PURPOSE, TAIL, BUGS, f"[{ARGUMENT}]")


if __name__ == "__main__":
    sys.exit(main())
