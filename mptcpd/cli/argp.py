"""Reads command lines as GNU argp does, and prints its --help and --usage, from a table.

Knows    the rules of getopt_long and argp: abbreviated long options, grouped short ones,
         options after arguments, ``--``, who wins when two things are wrong, the exact words.
Not      what any option means: that is in the table's owner.
Source   glibc manual, "Argp"; messages compared with a program that is linked with glibc.

Not stdlib getopt: it stops at the first error with other words, forgets what stood before it
(argp acts on each option as it comes: ``--help --bogus`` is help), and imports gettext.
Not copied: argv[0] with its directories before some messages; ARGP_HELP_FMT, POSIXLY_CORRECT.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

EXIT_USAGE = 64  # sysexits.h: EX_USAGE

# As argp lays its texts out: longest line, column of the help texts, indent of a long --usage.
_WIDTH, _HELP_COLUMN, _USAGE_INDENT = 78, 29, 12


class Option(NamedTuple):
    """A row of an option table. Parser, help, completion and manual page are made from it.

    name      long name without dashes
    short     one character, or empty
    argument  what the argument is called, in capitals; empty: takes none
    help      sentence for people, without the end stop; empty: the option is hidden
    group     "" for ordinary options, "information" for those that print something and end
    words     what the argument is made of, if the words are known; for completion
    list      whether the argument is a comma separated list of such words
    optional  whether the argument may be left out (then it is only taken after "=")
    late      came later than others: an abbreviation that fits both is theirs, as it was before
    """

    name: str
    short: str = ""
    argument: str = ""
    help: str = ""
    group: str = ""
    words: tuple[str, ...] = ()
    list: bool = False
    optional: bool = False
    late: bool = False

    def spelled(self) -> str:
        """``--name=ARGUMENT``, as help texts show it."""
        equals = f"[={self.argument}]" if self.optional else f"={self.argument}"
        return f"--{self.name}{equals if self.argument else ''}"


INFORMATION = "information"
# What argp adds to every program. HANG waits, for somebody who wants to attach a debugger.
STANDARD = (
    Option("help", "?", help="Give this help list", group=INFORMATION),
    Option("usage", help="Give a short usage message", group=INFORMATION),
    Option("program-name", argument="NAME"),
    Option("HANG", argument="SECS", optional=True),
    Option("version", "V", help="Print program version", group=INFORMATION),
)


class UsageError(Exception):
    """A command line that cannot be understood; str() is the whole text for stderr."""

    def __init__(self, program: str, text: str) -> None:
        super().__init__(program, text)
        self.program = program
        self.text = text

    def __str__(self) -> str:
        name = self.program
        return f"{name}: {self.text}\nTry `{name} --help' or `{name} --usage' for more information."


class BadLine(Exception):
    """What is wrong with a command line, without the program's name; made a UsageError above."""


def scan(
    argv: Sequence[str], table: Sequence[Option], *, in_order: bool = False
) -> Iterator[tuple[Option | None, str]]:
    """Yield ``(option, argument)`` as they come, then ``(None, word)`` for each other word.

    argv      without the program's name
    in_order  the first other word ends the options, as ``--`` does: argp's ARGP_IN_ORDER
    Errors    BadLine, after everything that stood before it was yielded. So whoever acts on each
            pair as it comes reports the same one of several mistakes as argp.

    The argument is "" for an option that takes none, or that was left out where it is optional.
    """
    rest = list(reversed(argv))
    others: list[str] = []
    while rest:
        word = rest.pop()
        if word == "--":
            others.extend(reversed(rest))
            break
        if word.startswith("--"):
            yield _long(word, rest, table)
        elif word.startswith("-") and word != "-":
            yield from _short(word[1:], rest, table)
        else:
            others.append(word)
            if in_order:
                others.extend(reversed(rest))
                break
    for word in others:
        yield None, word


def _long(word: str, rest: list[str], table: Sequence[Option]) -> tuple[Option, str]:
    """One ``--name``, ``--name=argument`` or ``--name argument``; takes it off ``rest``."""
    name, equals, argument = word[2:].partition("=")
    found = [option for option in table if option.name == name]
    found = found or [option for option in table if option.name.startswith(name)]
    found = [option for option in found if not option.late] or found
    if not found:
        raise BadLine(f"unrecognized option '{word}'")
    if len(found) > 1:
        names = " ".join(f"'--{option.name}'" for option in found)
        raise BadLine(f"option '{word}' is ambiguous; possibilities: {names}")
    option = found[0]
    if equals and not option.argument:
        raise BadLine(f"option '--{option.name}' doesn't allow an argument")
    if option.argument and not option.optional and not equals:
        if not rest:
            raise BadLine(f"option '--{option.name}' requires an argument")
        argument = rest.pop()
    return option, argument


def _short(word: str, rest: list[str], table: Sequence[Option]) -> Iterator[tuple[Option, str]]:
    """The options of ``-abc``; the first that takes an argument takes what remains of the word."""
    for place, character in enumerate(word, 1):
        option = next((option for option in table if option.short == character), None)
        if option is None:
            raise BadLine(f"invalid option -- '{character}'")
        if not option.argument:
            yield option, ""
            continue
        argument = word[place:]
        if not argument and not option.optional:
            if not rest:
                raise BadLine(f"option requires an argument -- '{character}'")
            argument = rest.pop()
        yield option, argument
        return


def show(text: str) -> int:
    """Print what people asked for, on standard output; returns the exit status.

    A reader who goes away (``| head -1``) ends us by SIGPIPE without a word, as it does C programs.
    """
    # What runs without printing anything to people needs none of that.
    import os
    import signal
    import sys

    try:
        print(text, flush=True)
    except BrokenPipeError:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
    except OSError as error:
        print(f"standard output: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python tries, and complains, once more
        return 1
    return 0


def _shown(table: Iterable[Option]) -> list[Option]:
    """The options that help shows, in its order: ordinary ones first, each group by name."""
    return sorted(
        (option for option in table if option.help), key=lambda option: (option.group, option.name)
    )


def _fill(words: Iterable[str], start: str, indent: int) -> str:
    """``start`` and the words, filled into lines of at most _WIDTH columns if they can be."""
    lines, line, fresh = [], start, True
    for word in words:
        if not fresh and len(line) + 1 + len(word) > _WIDTH:
            lines.append(line)
            line, fresh = " " * indent, True
        line += word if fresh else f" {word}"
        fresh = False
    return "\n".join([*lines, line])


def help_text(
    program: str, table: Sequence[Option], purpose: str, tail: str, bugs: str, arguments: str = ""
) -> str:
    """What --help prints: usage line, purpose, one entry an option, ``tail``, where bugs go.

    arguments  what may stand on the command line besides options
    """
    lines = [f"Usage: {program} [OPTION...]{arguments and ' '}{arguments}", purpose, ""]
    for option in _shown(table):
        short = f"  -{option.short}, " if option.short else " " * 6
        start = f"{short}{option.spelled()}"
        start = start.ljust(_HELP_COLUMN) if len(start) < _HELP_COLUMN else f"{start}   "
        lines.append(_fill(option.help.split(), start, _HELP_COLUMN))
    if any(option.argument for option in _shown(table)):
        lines += [
            "",
            "Mandatory or optional arguments to long options are also mandatory or optional",
            "for any corresponding short options.",
        ]
    lines += [
        "",
        tail,
        "",
        f"Report bugs to {bugs}.",
    ]
    return "\n".join(lines)


def usage_text(program: str, table: Sequence[Option], arguments: str = "") -> str:
    """What --usage prints: every option once or twice, short ones first; then ``arguments``."""
    shown = _shown(table)
    bare = "".join(option.short for option in shown if not option.argument)
    words = [f"[-{bare}]"] if bare else []
    for option in shown:
        if option.short and option.argument:
            argument = f"[{option.argument}]" if option.optional else f" {option.argument}"
            words.append(f"[-{option.short}{argument}]")
    words += [f"[{option.spelled()}]" for option in shown]
    return _fill([*words, *filter(None, [arguments])], f"Usage: {program} ", _USAGE_INDENT)
