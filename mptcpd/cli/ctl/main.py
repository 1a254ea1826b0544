"""mptcpctl: the program. Reads the command line, finds the command, runs it, says how it went.

Knows the order of things and the exit statuses; must not know what any command does.

How a new object is plugged in
    1. ``table.OBJECTS`` gets an entry: its name, its commands, and for each the words that may
       follow (``grammar.Object``, ``Command``, ``Word``). The parser, help, completion and the
       check of the manual page read it there; nothing else has to be told. The place in the table
       is its precedence: a shortened word means the first entry that begins with it.
    2. A module here has the function that ``Command.run`` names ("endpoint:show"). It is imported
       when the command runs, and imports at its top only what each of its commands needs; modules
       that load much (``json``, ``curses``) are imported in the function that wants them.
    3. The function takes a ``call.Call`` and returns the exit status. It prints by ``call.out``
       (``records`` for lists, ``line``, ``json``), which is flushed for it at the end; whoever runs
       longer flushes by itself. What people did wrong or lack is raised as ``errors.Failure``;
       KernelError, NetlinkError and OSError may simply fly: they are told in iproute2's words.
    4. Values of a new kind are an entry of ``values.KINDS``.

Signals: SIGINT and SIGTERM end the process where it stands, as they do a C program; a command that
has something to put right, or that people end this way, has its own handlers (``ending.Ending``). A
reader that goes away (BrokenPipeError) ends it by SIGPIPE, without a word; so a command that writes
to a socket must not let that one's BrokenPipeError fly.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import NoReturn

from mptcpd.cli.ctl.call import Call
from mptcpd.cli.ctl.errors import REFUSED, Failure
from mptcpd.cli.ctl.output import Output

_BELOW = "mptcpd.cli.ctl."


def main(argv: list[str] | None = None) -> int:
    """Run mptcpctl. Returns the exit status."""
    _settle()
    try:
        return run(sys.argv[1:] if argv is None else argv)
    except Failure as error:
        return _said(str(error), error.status)
    except BrokenPipeError:
        _die_by(signal.SIGPIPE)
    except KeyboardInterrupt:
        _die_by(signal.SIGINT)
    except Exception as error:
        return _refused(error)


def run(argv: list[str]) -> int:
    """As ``main``, with whatever goes wrong raised."""
    from mptcpd.cli.ctl import options

    said = options.read(argv)
    out = Output(said.settings)
    if said.show or not said.rest or "help".startswith(said.rest[0] or "-"):
        from mptcpd.cli.ctl import help_text

        if not said.show and not said.rest:
            raise Failure(help_text.short())
        out.write(help_text.version() if said.show == "Version" else help_text.of(said.rest[1:]))
        out.flush()
        return 0
    from mptcpd.cli.ctl import grammar, table

    _entry, command, rest = grammar.find(table.OBJECTS, said.rest)
    if said.netns is not None:
        from mptcpd.cli.ctl import netns

        netns.enter(said.netns)  # before words are read: interfaces are looked up there
    args = grammar.read(command, rest)
    from importlib import import_module

    module, _colon, function = command.run.partition(":")
    try:
        status: int = getattr(import_module(_BELOW + module), function)(
            Call(args, said.settings, out)
        )
    except Exception:
        out.flush()  # what was found out before it went wrong
        raise
    out.flush()
    return status


def _settle() -> None:
    """Nobody's descriptors 0 to 2, and the signals as a C program has them.

    A socket that got the number of a closed standard output would be written to as if it were it.
    """
    while (fd := os.open("/dev/null", os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _refused(error: Exception) -> int:
    """Tell what the kernel, the system or a fault of ours has refused; the exit status."""
    from mptcpd.nl.errors import KernelError, NetlinkError

    if isinstance(error, KernelError):
        if error.words:
            return _said(f"Error: {error.words}{'' if error.words.endswith('.') else '.'}", REFUSED)
        return _said(f"RTNETLINK answers: {os.strerror(error.errno)}", REFUSED)
    if isinstance(error, NetlinkError):
        return _said(f"Error: {error}", REFUSED)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return _said(f"Error: {where}{error.strerror or error}", REFUSED)
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    at = f" ({place.tb_frame.f_code.co_filename}, line {place.tb_lineno})" if place else ""
    return _said(f"Error: this should not happen: {type(error).__name__}: {error}{at}", REFUSED)


def _said(text: str, status: int) -> int:
    data = (text + "\n").encode("utf-8", "surrogateescape")
    with contextlib.suppress(OSError):  # nobody left to tell: the exit status says it
        os.write(2, data)
    return status


def _die_by(number: signal.Signals) -> NoReturn:
    """End by a signal, so that the shell knows it was one."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
