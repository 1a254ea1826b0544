"""mptcpize: the program. Runs others with MPTCP in place of TCP, or has systemd do so.

Knows people; what is behind each command is in ``launch`` and ``unit_files``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import NoReturn

from mptcpd.cli import argp, launch, mptcpize_options
from mptcpd.cli.mptcpize_options import Said

# What the C program exits with when it cannot understand a command, or not become the program.
EXIT_FAILED = 255


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status, unless this process becomes another program."""
    signal.signal(signal.SIGINT, _interrupted())
    try:
        said = mptcpize_options.parse(sys.argv[1:] if argv is None else argv)
    except argp.UsageError as error:
        print(error, file=sys.stderr)
        return argp.EXIT_USAGE
    if said.show is not None:
        return argp.show(said.show)
    if said.hang:
        time.sleep(said.hang)
    if said.command == "help":
        print(mptcpize_options.short_help(), file=sys.stderr)
        return 0
    if said.command not in mptcpize_options.COMMANDS:
        print(f"unknown arg {said.command}", file=sys.stderr)
        return EXIT_FAILED
    if not said.words:
        what = "command" if said.command == "run" else "unit"
        print(f"missing {what} argument\n{mptcpize_options.short_help()}", file=sys.stderr)
        return EXIT_FAILED
    if said.command == "run":
        return run(said)
    from mptcpd.cli import unit_files  # running a program needs none of that

    try:
        return unit_files.change(said)
    except unit_files.UnitError as error:
        print(f"mptcpize: {error}", file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"mptcpize: {where}{error.strerror}", file=sys.stderr)
    return 1


def _interrupted() -> signal.Handlers:
    """As a program in C: an interrupt ends it, unless our starter had it ignored."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return signal.SIG_IGN if ignored else signal.SIG_DFL


def run(said: Said) -> int:
    """Become the program. Returns only when that fails."""
    options = said.options
    variables = launch.environment(_initial_environment())
    if "preload" in options:
        preload(variables, options["preload"], "debug" in options)
    else:
        try:
            launch.supervised("debug" in options)
        except launch.LaunchError as error:
            print(
                f"mptcpize: {error}\n--preload=LIB does without, if there is a libmptcpwrap.",
                file=sys.stderr,
            )
            return 1
    ignore = options.get("sigpipe", "ignore" if launch.from_systemd() else "default")
    become(said.words, options.get("argv0"), variables, ignore == "ignore")


def become(
    words: tuple[str, ...], argv0: str | None, variables: dict[bytes, bytes], ignore_sigpipe: bool
) -> NoReturn:
    """Exec; where that fails, say so and exit."""
    launch.restore_signals(ignore_sigpipe)
    try:
        launch.execute(words[0], [argv0 or words[0], *words[1:]], variables)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        print(f"mptcpize: {words[0]}: {reason}", file=sys.stderr)
        sys.exit(EXIT_FAILED)


def preload(variables: dict[bytes, bytes], library: str, debug: bool) -> None:
    """Set the variables that the C program sets, for programs that are linked dynamically."""
    given = variables.get(b"LD_PRELOAD", b"")
    variables[b"LD_PRELOAD"] = given + b":" * bool(given) + os.fsencode(library)
    if debug:
        variables[b"MPTCPWRAP_DEBUG"] = b"1"


def _initial_environment() -> bytes | None:
    try:
        with open("/proc/self/environ", "rb") as file:
            return file.read()
    except OSError:
        return None


if __name__ == "__main__":
    sys.exit(main())
